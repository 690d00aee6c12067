"""A straight trend and a daily season, fitted by least squares, and how sure the fit is. Pure functions of a History.

What follows from it for a threshold is forecast.py's matter.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsbus_monitoring.foretold import Break
from opsbus_monitoring.history import Floats, History

HARMONICS = 4
RESAMPLES = 400
BREAKS_MAX = 3
BREAK_GAIN = 0.6
"""A break explains at least this share of what the unbroken fit leaves open."""

BEND_GAIN = 0.15
"""From this share of the open error on, a bend is told, and the interval reaches to where it leads."""

BEND_SHARE = 0.7
"""What a break leaves open is at most this share of what a smooth bend leaves open."""

BREAK_CANDIDATES = 200
POINTS_AFTER_BREAK = 3
_SEED = 20_010_911
"""Fixed: the same data always give the same report."""


@dataclass(frozen=True)
class Fit:
    """``value = level + slope * days + season(days)``, days being 0 at the end of the range."""

    level: float
    slope: float
    season: Floats
    """Coefficients of cosine and sine, HARMONICS of each."""
    residuals: Floats
    season_values: Floats
    """The season at each moment of the history."""

    def at(self, days: Floats) -> Floats:
        """The expected value."""
        return np.asarray(self.level + self.slope * days + _waves(days) @ self.season)

    @property
    def sigma(self) -> float:
        """Standard deviation of what the fit leaves open."""
        return float(np.std(self.residuals))

    @property
    def swing(self) -> float:
        """From the lowest to the highest moment of a day."""
        return float(np.ptp(_waves(np.linspace(0, 1, 97)) @ self.season))


@dataclass(frozen=True)
class Spread:
    """How level and slope could as well have come out: one of each per resample."""

    levels: Floats
    slopes: Floats

    def widened(self, factor: float) -> "Spread":
        """The same about its middle, wider."""
        middle_level, middle_slope = np.mean(self.levels), np.mean(self.slopes)
        return Spread(
            middle_level + factor * (self.levels - middle_level), middle_slope + factor * (self.slopes - middle_slope)
        )


@dataclass(frozen=True)
class Bend:
    """``level + slope * days + rate * days ** 2``, and the share of the line's open error it explains."""

    gain: float
    level: float
    slope: float
    rate: float

    @property
    def sooner(self) -> bool:
        """Whether it is clear, and upwards."""
        return self.gain > BEND_GAIN and self.rate > 0

    def crossing(self, room: float) -> float:
        """Days until it is ``room`` above its level; infinite if it never is. Of a bend that accelerates upwards."""
        if room <= 0:
            return 0.0
        under = self.slope**2 + 4 * self.rate * room
        return (math.sqrt(under) - self.slope) / (2 * self.rate) if self.rate > 0 else math.inf


def fit(history: History) -> Fit:
    """The least-squares fit. Needs more than a day of values."""
    columns = _columns(history.days)
    coefficients: Floats = np.asarray(np.linalg.lstsq(columns, history.values, rcond=None)[0], dtype=np.float64)
    season = coefficients[2:]
    return Fit(
        level=float(coefficients[0]),
        slope=float(coefficients[1]),
        season=season,
        residuals=history.values - columns @ coefficients,
        season_values=columns[:, 2:] @ season,
    )


def spread(history: History, fitted: Fit) -> Spread:
    """A bootstrap over blocks of a day: neighbouring errors are alike, and single ones would look too sure."""
    count = history.days.size
    block = min(count, max(1, round(1 / history.step_days)))
    chance = np.random.default_rng(_SEED)
    starts = chance.integers(0, count, size=(RESAMPLES, -(-count // block)))
    picked = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    weights = np.linalg.pinv(_columns(history.days))[:2]
    shifts = fitted.residuals[picked] @ weights.T
    return Spread(fitted.level + shifts[:, 0], fitted.slope + shifts[:, 1])


def since_last_break(history: History) -> tuple[History, list[Break]]:
    """What came after the last abrupt change, and the changes, the oldest first."""
    found: list[Break] = []
    while len(found) < BREAKS_MAX and history.span_days > 1 and history.days.size > 2 * HARMONICS + 8:
        change = find_break(history)
        if change is None:
            break
        found.append(change)
        history = history.since(change.day)
    return history, found


def find_break(history: History) -> Break | None:
    """The moment from which another level and slope explain the history far better; None: there is none."""
    days, values = history.days, history.values
    basis = np.linalg.qr(_columns(days))[0]
    left = values - basis @ (basis.T @ values)
    open_before = float(left @ left)
    if open_before <= days.size * (1e-9 * max(float(np.max(np.abs(values))), 1e-300)) ** 2:
        return None
    places = np.unique(
        np.linspace(POINTS_AFTER_BREAK, days.size - POINTS_AFTER_BREAK, min(BREAK_CANDIDATES, days.size)).astype(int)
    )
    best = _best_place(days, basis, left, places)
    near = np.unique(np.clip(np.arange(best[1] - 4, best[1] + 5), POINTS_AFTER_BREAK, days.size - POINTS_AFTER_BREAK))
    gain, place, jump = _best_place(days, basis, left, near)
    if gain < BREAK_GAIN * open_before:
        return None
    # A smooth bend is no break, and two lines come close to it.
    if open_before - gain > BEND_SHARE * open_before * (1 - bend(history, fit(history)).gain):
        return None
    return Break(float(days[place]), jump)


def bend(history: History, fitted: Fit) -> Bend:
    """The fit with a square of time as well, and how much better it is."""
    columns = np.column_stack([_columns(history.days), history.days**2])
    coefficients = np.linalg.lstsq(columns, history.values, rcond=None)[0]
    left = history.values - columns @ coefficients
    open_before = float(fitted.residuals @ fitted.residuals)
    size = 1e-9 * max(float(np.max(np.abs(history.values))), 1e-300)
    if open_before <= history.days.size * size**2:
        return Bend(0.0, fitted.level, fitted.slope, 0.0)
    gain = 1 - float(left @ left) / open_before
    return Bend(gain, float(coefficients[0]), float(coefficients[1]), float(coefficients[-1]))


def _best_place(days: Floats, basis: Floats, left: Floats, places: NDArray[np.intp]) -> tuple[float, int, float]:
    """Gain, index and jump of the best place for another level and slope."""
    steps = (np.arange(days.size)[:, None] >= places[None, :]).astype(np.float64)
    turns = steps * (days[:, None] - days[places][None, :])
    steps = steps - basis @ (basis.T @ steps)
    turns = turns - basis @ (basis.T @ turns)
    ss, sb, bb = (steps**2).sum(0), (steps * turns).sum(0), (turns**2).sum(0)
    sr, br = steps.T @ left, turns.T @ left
    determinant = ss * bb - sb**2
    safe = determinant > 1e-12 * np.maximum(ss * bb, 1e-300)
    divisor = np.where(safe, determinant, 1.0)
    jump = np.where(safe, (bb * sr - sb * br) / divisor, 0.0)
    turn = np.where(safe, (ss * br - sb * sr) / divisor, 0.0)
    gains = jump * sr + turn * br
    best = int(np.argmax(gains))
    return float(gains[best]), int(places[best]), float(jump[best])


def _columns(days: Floats) -> Floats:
    return np.column_stack([np.ones_like(days), days, _waves(days)])


def _waves(days: Floats) -> Floats:
    angles = 2 * np.pi * np.outer(days, np.arange(1, HARMONICS + 1))
    return np.column_stack([np.cos(angles), np.sin(angles)])
