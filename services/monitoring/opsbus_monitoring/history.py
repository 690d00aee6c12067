"""A series made ready for a forecast: on a grid, its gaps known, and whether it is enough to judge by.

What is fitted to it is trend.py's matter.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsbus_monitoring.foretold import DAY_S, in_days
from opsbus_monitoring.summary import Points, on_grid

DAYS_MIN = 3.0
"""Two days tell the trend from the daily rhythm, a third one checks what they told."""

COVERAGE_MIN = 0.7
GAP_SHARE_MAX = 0.25
DROP_SHARE = 0.3
"""A fall by this share of the whole range from one value to the next is no noise of a counter."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """Moments with a value. ``days``: before the end of the range, so the last are near 0; ``end``: Unix seconds."""

    days: Floats
    values: Floats
    end: float
    step_days: float

    @property
    def span_days(self) -> float:
        """From the first value to the end of the range. 0 without any."""
        return float(-self.days[0]) if self.days.size else 0.0

    @property
    def coverage(self) -> float:
        """Share of the moments since the first value that have one."""
        expected = round(self.span_days / self.step_days) + 1
        return min(1.0, self.days.size / expected) if self.days.size else 0.0

    @property
    def gap_days(self) -> float:
        """The longest time between two values, or since the last one."""
        if not self.days.size:
            return 0.0
        return float(np.max(np.diff(self.days, append=0.0)))

    def since(self, day: float) -> "History":
        """What came at or after a moment."""
        kept = self.days >= day
        return History(self.days[kept], self.values[kept], self.end, self.step_days)

    def before(self, day: float) -> "History":
        """What came before a moment."""
        kept = self.days < day
        return History(self.days[kept], self.values[kept], self.end, self.step_days)


def history_of(points: Points, start: float, end: float, step_s: float) -> History:
    """The series on the grid of its query; NaN and infinities count as gaps. Times in Unix seconds."""
    grid = on_grid(points, start, end, step_s)
    values = np.array([math.nan if value is None else value for value in grid], dtype=np.float64)
    days = np.asarray((start + step_s * np.arange(values.size) - end) / DAY_S, dtype=np.float64)
    known = np.isfinite(values)
    return History(days[known], values[known], end, step_s / DAY_S)


def unfit(history: History) -> str | None:
    """Why nothing can be said from this history; None when something can."""
    if not history.days.size:
        return "it has no value in the whole range"
    if history.span_days + history.step_days < DAYS_MIN:
        return (
            f"it has only {in_days(history.span_days)} of history: at least {DAYS_MIN:g} days are needed to tell a"
            " trend from the daily rhythm and to check it"
        )
    silent = -float(history.days[-1])
    if silent > max(0.25, 4 * history.step_days):
        return f"its newest value is {in_days(silent)} old: the series has ended, or is not scraped any more"
    if history.coverage < COVERAGE_MIN:
        return f"only {history.coverage:.0%} of the moments since its first value have one (the rest are gaps)"
    if history.gap_days > GAP_SHARE_MAX * history.span_days:
        return f"a gap of {in_days(history.gap_days)} within {in_days(history.span_days)} hides what happened"
    falls = _falls_of_a_counter(history.values)
    if falls:
        return (
            f"it only rises and fell back {falls} times, as a counter does at restarts: use rate() or increase() of a"
            " counter, max_over_time(...[1d]) of what is emptied regularly"
        )
    return None


def _falls_of_a_counter(values: Floats) -> int:
    """How often a series that otherwise only rises fell back; 0 when it is no such series."""
    steps = np.diff(values)
    falls = steps < 0
    whole = float(np.ptp(values))
    if whole == 0 or not falls.any() or np.any(steps[falls] > -DROP_SHARE * whole):
        return 0
    rising = steps[~falls]
    if rising.size == 0 or np.mean(rising > 0) < 0.5:
        return 0
    # Once is an event (a disk was emptied), which the search for a break deals with.
    return int(falls.sum()) if falls.sum() > 1 else 0
