"""What a forecast says of a series. Plain values: numpy, ten megabytes, is loaded by who makes one (forecast.py)."""

from dataclasses import dataclass, field
from typing import Literal

DAY_S = 86_400.0

Verdict = Literal["exceeded", "reaches", "later", "stable", "unreliable", "insufficient_data"]


@dataclass(frozen=True)
class Break:
    """A moment at which level or slope changed at once. ``jump``: of the level."""

    day: float
    jump: float


@dataclass(frozen=True)
class Check:
    """The forecast made without the newest values, against them."""

    held_back_days: float
    mean_error: float
    """Mean absolute error, in the series' unit."""
    bias: float
    """Forecast minus what came, on average."""
    naive_error: float
    """Of "it stays as on the last day"."""
    inside: float
    """Share of the values within the band that should hold 90 %."""
    widening: float
    """By how much the interval was too narrow; 1: it was not."""


@dataclass(frozen=True)
class Forecast:
    """What can be said of one series. Numbers of the series are None where nothing can be said."""

    verdict: Verdict
    why: str = ""
    """For insufficient_data and unreliable."""
    days: float | None = None
    days_low: float | None = None
    days_high: float | None = None
    """90 % interval of ``days``; None: not within what the data reach."""
    planned_now: float | None = None
    """The percentile of a day, now."""
    last: float | None = None
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    swing: float | None = None
    sigma: float | None = None
    seasonal: float = 0.0
    """Share of the variance around the trend that the daily season explains."""
    check: Check | None = None
    coverage: float = 0.0
    span_days: float = 0.0
    used_days: float = 0.0
    points: int = 0
    gap_days: float = 0.0
    horizon_days: float = 0.0
    """As far as was looked ahead."""
    breaks: list[Break] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ahead: list[tuple[float, float]] = field(default_factory=list)
    """Days from now, and the percentile then."""


def in_days(days: float) -> str:
    """``5.2 days``, ``6.5 hours``, ``20 minutes``."""
    if days >= 2:
        return f"{days:.1f} days" if days < 10 else f"{days:.0f} days"
    hours = days * 24
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
