"""When a series reaches a threshold: the judgement over the fit, checked on values that were held back from it.

Pure functions. Words for people are capacitywords.py's matter.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from opsbus_monitoring.foretold import Break, Check, Forecast, in_days
from opsbus_monitoring.history import Floats, History, unfit
from opsbus_monitoring.trend import BEND_GAIN, Bend, Fit, Spread, bend, fit, since_last_break, spread

HELD_BACK_SHARE = 0.25
HELD_BACK_DAYS_MIN = 1.0
REACH = 3.0
"""A forecast looks ahead this many times as far as it looked back, at most."""

HALVINGS_MAX = 2
"""So often the older half is dropped when the check fails."""

INTERVAL = (0.05, 0.95)
_Z = 1.645


def forecast(
    history: History, threshold: float, *, horizon_days: float, percentile: float = 95.0, above: bool = True
) -> Forecast:
    """The judgement. ``percentile``: of the moments of a day that stay within the threshold, 50 to 100.

    ``above``: the threshold is an upper one; False: a lower one.
    """
    why = unfit(history)
    blank = _measured(history)
    if why:
        return replace(blank, why=why)
    sign = 1.0 if above else -1.0
    turned = History(history.days, sign * history.values, history.end, history.step_days)
    used, breaks = since_last_break(turned)
    blank = replace(
        blank, breaks=[Break(change.day, sign * change.jump) for change in breaks], used_days=used.span_days
    )
    why = unfit(used)
    if why:
        when = in_days(-breaks[-1].day) if breaks else ""
        return replace(blank, why=f"it changed abruptly {when} ago, and what came since is not enough: {why}")
    asked = _Asked(sign, sign * threshold, percentile / 100, horizon_days, bend(used, fit(used)))
    first = found = _judged(used, blank, asked)
    # A trend that has changed since is no reason to say nothing, when its newest part foretells itself.
    for _ in range(HALVINGS_MAX):
        newest = used.since(-used.span_days / 2)
        if found.verdict != "unreliable" or unfit(newest):
            break
        used = newest
        blank = replace(blank, used_days=used.span_days)
        found = _judged(used, blank, asked)
    if found.verdict == "unreliable":
        return first
    if found is not first:
        note = f"the trend has changed: only the last {in_days(used.span_days)} foretell themselves, and were used"
        found = replace(found, notes=[note, *found.notes])
    return found


def check(history: History) -> Check:
    """Fits without the newest quarter, at least a day of it, and compares."""
    held_days = max(HELD_BACK_DAYS_MIN, HELD_BACK_SHARE * history.span_days)
    known, held = history.before(-held_days), history.since(-held_days)
    fitted = fit(known)
    expected = fitted.at(held.days)
    errors = expected - held.values
    low, high = np.quantile(fitted.residuals, INTERVAL)
    # A perfect fit leaves no band at all; what arithmetic rounds off is no error.
    slack = 1e-9 * max(1e-300, float(np.max(np.abs(history.values))))
    inside = (held.values >= expected + low - slack) & (held.values <= expected + high + slack)
    last_day = known.since(float(known.days[-1]) - 1.0).values
    return Check(
        held_back_days=held_days,
        mean_error=float(np.mean(np.abs(errors))),
        bias=float(np.mean(errors)),
        naive_error=float(np.mean(np.abs(np.mean(last_day) - held.values))),
        inside=float(np.mean(inside)),
        widening=_widening(known, fitted, held, float(np.mean(errors)), slack),
    )


def _widening(known: History, fitted: Fit, held: History, bias: float, slack: float) -> float:
    """How much farther the forecast was off than its own spread said, in units of the 90 % interval; at least 1."""
    could = spread(known, fitted)
    middle = float(np.mean(held.days))
    predicted = float(np.std(could.levels + could.slopes * middle))
    block = min(known.days.size, max(1, round(1 / known.step_days)))
    sums = np.concatenate([[0.0], np.cumsum(fitted.residuals)])
    of_a_day = float(np.std((sums[block:] - sums[:-block]) / block))
    expected = math.hypot(predicted, of_a_day)
    if abs(bias) <= slack:
        return 1.0
    return max(1.0, abs(bias) / max(expected, slack) / _Z)


@dataclass(frozen=True)
class _Asked:
    """The question, its values turned so that the threshold is an upper one; ``sign`` turns them back."""

    sign: float
    threshold: float
    share: float
    horizon_days: float
    bent: Bend
    """Of the longest history without a break: a bend shows late in a short one."""


def _judged(used: History, blank: Forecast, asked: _Asked) -> Forecast:
    fitted, checked, reach = fit(used), check(used), min(asked.horizon_days, REACH * used.span_days)
    blank = replace(blank, horizon_days=reach)
    could = spread(used, fitted).widened(checked.widening)
    around = fitted.season_values + fitted.residuals
    level, slope = fitted.level + float(np.quantile(around, asked.share)), fitted.slope
    described = _described(used, blank, fitted, could, checked, asked, level)
    room = asked.threshold - level
    if room <= 0 or float(np.quantile(used.since(-1.0).values, asked.share)) >= asked.threshold:
        return replace(described, verdict="exceeded", days=0.0, days_low=0.0, days_high=0.0)
    why = _unreliable(checked, room, slope, reach)
    if why:
        return replace(described, verdict="unreliable", why=why)
    crossings = np.sort(_crossings(room + fitted.level - could.levels, could.slopes))
    low, high = (float(crossings[round(edge * (crossings.size - 1))]) for edge in INTERVAL)
    days = room / slope if slope > 0 else math.inf
    if asked.bent.sooner:
        low = min(low, asked.bent.crossing(room + fitted.level - asked.bent.level))
    # The resamples' edges and the fit's own day differ by rounding when nothing is left open.
    early, late = _within(min(low, days), reach), _within(max(high, days), reach)
    # What cannot be told from a flat course has no day; the interval says how early it could be nevertheless.
    flat = slope * max(used.span_days, 1.0) <= 1e-9 * max(abs(level), room)
    if flat or float(np.quantile(could.slopes, INTERVAL[0])) <= 0:
        return replace(described, verdict="stable", days_low=None if flat else early)
    if days > reach:
        return replace(described, verdict="later", days_low=early)
    return replace(described, verdict="reaches", days=days, days_low=early, days_high=late)


def _described(
    used: History, blank: Forecast, fitted: Fit, could: Spread, checked: Check, asked: _Asked, level: float
) -> Forecast:
    """The fit in numbers, without a verdict."""
    sign = asked.sign
    around = float(np.var(fitted.season_values + fitted.residuals))
    slopes = sorted(sign * float(edge) for edge in np.quantile(could.slopes, INTERVAL))
    return replace(
        blank,
        planned_now=sign * level,
        slope=sign * fitted.slope,
        slope_low=slopes[0],
        slope_high=slopes[1],
        swing=fitted.swing,
        sigma=fitted.sigma,
        seasonal=float(np.var(fitted.season_values)) / around if around > 0 else 0.0,
        check=replace(checked, bias=sign * checked.bias),
        notes=_notes(used, fitted, asked.bent),
        ahead=[(day, sign * (level + fitted.slope * day)) for day in _moments(blank.horizon_days)],
    )


def _within(days: float, reach: float) -> float | None:
    return days if days <= reach else None


def _crossings(room: Floats, slopes: Floats) -> Floats:
    """Days until the room is used up; infinite where it never is."""
    days = np.full(room.shape, np.inf)
    rising = (slopes > 0) & (room > 0)
    days[rising] = room[rising] / slopes[rising]
    days[room <= 0] = 0.0
    return days


def _unreliable(checked: Check, room: float, slope: float, reach: float) -> str:
    """Why the check forbids a forecast; empty when it does not. What is far off for either answer is none of it."""
    worse = checked.mean_error > 1.5 * checked.naive_error and checked.mean_error > 0.1 * room
    # The error of the held-back days, grown at the same pace over the time that is asked about.
    drift = abs(checked.bias) / checked.held_back_days * min(reach, room / slope if slope > 0 else reach)
    missed = checked.inside < 0.5 and drift > 0.25 * room
    if worse:
        return "without the newest values, the forecast of them was worse than to say that nothing changes"
    if missed:
        return (
            f"of the values held back, only {checked.inside:.0%} lay in the band that should hold 90%: trend or rhythm"
            " changed lately"
        )
    return ""


def _notes(used: History, fitted: Fit, bent: Bend) -> list[str]:
    notes = []
    if bent.gain > BEND_GAIN:
        told = "sooner than told, as the interval has it" if bent.sooner else "later than told"
        notes.append(f"it does not change in a straight line: the threshold may be reached {told}")
    if used.span_days >= 2 * 7 and _weekly_share(used, fitted) > 0.3:
        notes.append("weekdays differ, which the fit does not know: its error is larger than it need be")
    return notes


def _weekly_share(used: History, fitted: Fit) -> float:
    """Share of the open error that the day of the week explains."""
    whole = float(np.var(fitted.residuals))
    if whole <= 0 or fitted.sigma <= 1e-9 * float(np.max(np.abs(used.values))):
        return 0.0
    weekday = np.floor((used.end / 86_400 + used.days) % 7).astype(int)
    counts = np.bincount(weekday, minlength=7)
    means = np.bincount(weekday, weights=fitted.residuals, minlength=7) / np.maximum(counts, 1)
    return float(np.sum(counts * means**2) / counts.sum()) / whole


def _moments(reach: float) -> list[float]:
    """The days of the table: about ten, whole ones where they are many."""
    size = max(1.0, math.ceil(reach / 10)) if reach >= 5 else reach / 5
    return [size * number for number in range(math.floor(reach / size + 1e-9) + 1)]


def _measured(history: History) -> Forecast:
    """What is known before anything is fitted."""
    return Forecast(
        "insufficient_data",
        coverage=history.coverage,
        span_days=history.span_days,
        used_days=history.span_days,
        points=int(history.days.size),
        gap_days=history.gap_days,
        last=float(history.values[-1]) if history.days.size else None,
    )
