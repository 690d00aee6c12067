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
    peak_mb: dict[str, float] = field(default_factory=dict)
    """The most that each process has had so far (VmHWM), by process."""


@dataclass(frozen=True)
class Verdict:
    """Something that is asked, and what was found."""

    asked: str
    found: str
    met: bool


@dataclass(frozen=True)
class Beside:
    """Asked: at least so many times the rate of another row."""

    name: str
    per_s: float
    times: float


@dataclass(frozen=True)
class Asked:
    """What a row has to reach; None: nothing is asked."""

    per_s: float | None = None
    """At least."""
    ratio: float | None = None
    """At least."""
    p95_ms: float | None = None
    """Less than."""
    beside: tuple[Beside, ...] = ()
    p50_over: tuple[str, float, float] | None = None
    """Another row's name, its p50, and by how many milliseconds this one's is over it at most."""
    tail: float | None = None
    """p99 is at most so many times p50."""
    cpu_grown: tuple[str, str, float, float] | None = None
    """Another row's name, the process, the CPU that it used there for a call, and the most it may be over it here, as a
    share: 0.1 for a tenth."""
    peak_mb: tuple[str, float] | None = None
    """A process, and what it stays under."""
    more: tuple[Verdict, ...] = ()
    """What the suite has judged by itself."""

    def verdicts(self, row: "Measure") -> list[Verdict]:
        """What is asked, one by one, and whether a row reaches it."""
        found: list[Verdict] = []
        if self.per_s is not None:
            found.append(Verdict(f"≥ {self.per_s:,.0f} per s", f"{row.per_s:,.0f}", row.per_s >= self.per_s))
        if self.ratio is not None:
            has = f"{row.ratio:.2f}" if row.ratio is not None else "none"
            found.append(Verdict(f"ratio ≥ {self.ratio:.2f}", has, row.ratio is not None and row.ratio >= self.ratio))
        if self.p95_ms is not None:
            found.append(Verdict(f"p95 < {self.p95_ms:.0f} ms", f"{row.p95_ms:.1f} ms", row.p95_ms < self.p95_ms))
        found += [_beside(other, row) for other in self.beside]
        if self.p50_over is not None:
            other, its_p50, most = self.p50_over
            over = row.p50_ms - its_p50
            found.append(Verdict(f"p50 < that of “{other}” + {most:g} ms", f"+ {over:.2f} ms", over < most))
        if self.tail is not None:
            times = row.p99_ms / row.p50_ms if row.p50_ms else 0.0
            found.append(Verdict(f"p99 ≤ {self.tail:g} × p50", f"{times:.1f} ×", 0 < times <= self.tail))
        if self.cpu_grown is not None:
            other, process, before, most = self.cpu_grown
            grown = row.cpu_us[process] / before - 1 if before else 0.0
            text = f"CPU of {process} a call ≤ {most:+.0%} of “{other}”"
            found.append(Verdict(text, f"{grown:+.0%}", grown <= most))
        if self.peak_mb is not None:
            process, bound = self.peak_mb
            found.append(
                Verdict(
                    f"{process} < {bound:.0f} MB", f"{row.peak_mb[process]:.0f} MB", 0 < row.peak_mb[process] < bound
                )
            )
        return [*found, *self.more]

    def met(self, row: "Measure") -> bool:
        """Whether a row reaches it."""
        return all(one.met for one in self.verdicts(row))

    def __str__(self) -> str:
        blank = Measure("", 1.0, 0.0, 1.0, 1.0, 1.0, _AnyProcess(), peak_mb=_AnyProcess())
        return ", ".join(one.asked for one in self.verdicts(blank))


def _beside(other: Beside, row: "Measure") -> Verdict:
    times = row.per_s / other.per_s
    shown = f"{times:,.2f} ×" if times < 10 else f"{times:,.0f} ×"
    return Verdict(f"≥ {other.times:g} × “{other.name}”", shown, times >= other.times)


class _AnyProcess(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return 0.0


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
    peak_mb: dict[str, float] = field(default_factory=dict)
    """The most that each process had at any time, by process."""
    note: str = ""
    """What else was found, in words."""

    @property
    def met(self) -> bool:
        """What is asked of it holds; true where nothing is."""
        return self.asked is None or self.asked.met(self)

    @property
    def verdicts(self) -> list[Verdict]:
        """What is asked of it, one by one."""
        return self.asked.verdicts(self) if self.asked is not None else []

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self) | {"met": self.met, "verdicts": [asdict(one) for one in self.verdicts]}


def measure(
    name: str, rounds: list[Round], yardstick: Measure | None = None, asked: Asked | None = None, note: str = ""
) -> Measure:
    """The median of rounds.

    Args:
        yardstick: What ``ratio`` is to.
        asked: What it has to reach.
        note: What else was found.
    """
    rate = median(one.per_s for one in rounds)
    rates = [one.per_s for one in rounds]
    return Measure(
        name=name,
        per_s=rate,
        spread=(max(rates) - min(rates)) / 2 / rate,
        p50_ms=median(one.p50_ms for one in rounds),
        p95_ms=median(one.p95_ms for one in rounds),
        p99_ms=median(one.p99_ms for one in rounds),
        cpu_us={process: median(one.cpu_us[process] for one in rounds) for process in rounds[0].cpu_us},
        ratio=rate / yardstick.per_s if yardstick is not None else None,
        memory_mb=max(one.memory_mb for one in rounds),
        asked=asked,
        peak_mb={process: max(one.peak_mb[process] for one in rounds) for process in rounds[0].peak_mb},
        note=note,
    )


def absent(name: str, why: str) -> Measure:
    """A row that could not be measured, and why."""
    return Measure(name, 0.0, 0.0, 0.0, 0.0, 0.0, {}, note=why)


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
