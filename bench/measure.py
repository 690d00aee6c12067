"""What a round gave, what several rounds come to, and what is asked of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Round:
    """One round of load. Times in milliseconds; CPU in microseconds for each call or event, by process."""

    per_s: float
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    memory_mb: float = 0.0
    """The most that was in use, of all processes together; 0: not measured."""


@dataclass(frozen=True)
class Asked:
    """What a row has to reach; None: nothing is asked."""

    per_s: float | None = None
    """At least."""
    ratio: float | None = None
    """At least."""
    p95_ms: float | None = None
    """Less than."""

    def met(self, row: "Measure") -> bool:
        """Whether a row reaches it."""
        return (
            (self.per_s is None or row.per_s >= self.per_s)
            and (self.ratio is None or (row.ratio is not None and row.ratio >= self.ratio))
            and (self.p95_ms is None or row.p95_ms < self.p95_ms)
        )

    def __str__(self) -> str:
        parts = (
            None if self.per_s is None else f"≥ {self.per_s:,.0f} per s",
            None if self.ratio is None else f"ratio ≥ {self.ratio:.2f}",
            None if self.p95_ms is None else f"p95 < {self.p95_ms:.0f} ms",
        )
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Measure:
    """A row of the table: the median of its rounds, and how far they lie apart."""

    name: str
    per_s: float
    spread: float
    """Half the distance of the best and the worst round, as a share of the median."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    ratio: float | None = None
    """To the row that the suite names as yardstick."""
    memory_mb: float = 0.0
    """The most of all rounds."""
    asked: Asked | None = None

    @property
    def met(self) -> bool:
        """What is asked of it holds; true where nothing is."""
        return self.asked is None or self.asked.met(self)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self) | {"met": self.met}


def measure(name: str, rounds: list[Round], yardstick: Measure | None = None, asked: Asked | None = None) -> Measure:
    """The median of rounds.

    Args:
        yardstick: What ``ratio`` is to.
        asked: What it has to reach.
    """
    rate = median(one.per_s for one in rounds)
    rates = [one.per_s for one in rounds]
    processes = rounds[0].cpu_us
    return Measure(
        name=name,
        per_s=rate,
        spread=(max(rates) - min(rates)) / 2 / rate,
        p50_ms=median(one.p50_ms for one in rounds),
        p95_ms=median(one.p95_ms for one in rounds),
        p99_ms=median(one.p99_ms for one in rounds),
        cpu_us={process: median(one.cpu_us[process] for one in rounds) for process in processes},
        ratio=rate / yardstick.per_s if yardstick is not None else None,
        memory_mb=max(one.memory_mb for one in rounds),
        asked=asked,
    )


def of_times(taken_ms: Sequence[float]) -> Round:
    """A round of single questions, one after the other, by how long each took."""
    ordered = sorted(taken_ms)

    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    return Round(
        per_s=1_000 * len(ordered) / sum(ordered),
        p50_ms=median(ordered),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
    )
