"""Time in the estate: the wall clock, and how much faster than life the simulated machinery runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """Wall-clock time with a speed factor. `speed` 20 makes a pod that needs 2 s become ready in 0.1 s."""

    speed: float = 1.0

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)

    def real_seconds(self, simulated_seconds: float) -> float:
        """How long to wait for `simulated_seconds` of the estate's life to pass."""
        return simulated_seconds / self.speed


def timestamp(moment: datetime) -> str:
    """RFC 3339 to the second, as Kubernetes writes `metav1.Time`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime) -> str:
    """RFC 3339 to the microsecond, as Kubernetes writes `metav1.MicroTime`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> datetime:
    """The moment a Kubernetes timestamp names. Raises ValueError when it is not RFC 3339 with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.astimezone(UTC)
