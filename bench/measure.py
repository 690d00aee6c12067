"""What a round gave, and what several rounds come to."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Round:
    """One round of load. Times in milliseconds; CPU in microseconds for each call, by process."""

    per_s: float
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)


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

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def measure(name: str, rounds: list[Round], yardstick: Measure | None = None) -> Measure:
    """The median of rounds.

    Args:
        yardstick: What ``ratio`` is to.
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
    )
