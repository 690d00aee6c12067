"""Functions of range vectors: rates with extrapolation and counter resets, and the ``_over_time`` family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from opsbus_sandbox.promql.values import Matrix, Window


def total(values: Sequence[float]) -> float:
    """A sum that overflows to infinity, and is NaN for infinities of both signs, as IEEE 754 has it."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def mean(values: Sequence[float]) -> float:
    """The mean, also where the sum overflows."""
    summed = total(values)
    if math.isinf(summed) and all(map(math.isfinite, values)):
        return math.fsum(value / len(values) for value in values)
    return summed / len(values)


def variance(values: Sequence[float]) -> float:
    """The population's variance; NaN with infinities."""
    middle = mean(values)
    return total([(value - middle) * (value - middle) for value in values]) / len(values)


def least(values: Sequence[float]) -> float:
    """The minimum of the numbers; NaN when there is none."""
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def greatest(values: Sequence[float]) -> float:
    """The maximum of the numbers; NaN when there is none."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def extrapolated(window: Window, start: float, end: float, *, counter: bool, per_second: bool) -> float | None:
    """``rate``, ``increase`` and ``delta``, extrapolated to the window's edges; None under two samples."""
    times, values = window.times, window.values
    if len(values) < 2:
        return None
    result = values[-1] - values[0]
    if counter:
        result += sum(before for before, after in itertools.pairwise(values) if after < before)
    sampled = times[-1] - times[0]
    average = sampled / (len(values) - 1)
    to_start, to_end = times[0] - start, end - times[-1]
    threshold = average * 1.1
    if to_start >= threshold:
        to_start = average / 2
    if counter and result > 0 and values[0] >= 0:
        to_start = min(to_start, sampled * (values[0] / result))
    if to_end >= threshold:
        to_end = average / 2
    result *= (sampled + to_start + to_end) / sampled
    return result / (end - start) if per_second else result


def instant(window: Window, *, counter: bool, per_second: bool) -> float | None:
    """``irate`` and ``idelta``: from the last two samples."""
    if len(window.values) < 2:
        return None
    before, after = window.values[-2], window.values[-1]
    result = after if counter and after < before else after - before
    return result / (window.times[-1] - window.times[-2]) if per_second else result


def regression(window: Window, at: float) -> tuple[float, float] | None:
    """Slope per second and value at ``at`` of the least-squares line; None under two samples."""
    if len(window.values) < 2:
        return None
    xs = [time - at for time in window.times]
    mean_x, mean_y = mean(xs), mean(window.values)
    spread = math.fsum((x - mean_x) ** 2 for x in xs)
    if not spread:
        return None
    slope = total([(x - mean_x) * (y - mean_y) for x, y in zip(xs, window.values, strict=True)]) / spread
    return slope, mean_y - slope * mean_x


def quantile(q: float, values: Sequence[float]) -> float:
    """Prometheus' quantile: linear between ranks; infinite outside 0..1; NaN of nothing."""
    if not values or math.isnan(q):
        return math.nan
    if q < 0:
        return -math.inf
    if q > 1:
        return math.inf
    ordered = sorted(values, key=lambda v: (not math.isnan(v), v))
    rank = q * (len(ordered) - 1)
    low = max(0, math.floor(rank))
    high = min(len(ordered) - 1, low + 1)
    weight = rank - math.floor(rank)
    return ordered[low] * (1 - weight) + ordered[high] * weight


OVER_TIME: dict[str, Callable[[Sequence[float]], float]] = {
    "avg_over_time": mean,
    "min_over_time": least,
    "max_over_time": greatest,
    "sum_over_time": total,
    "count_over_time": lambda v: float(len(v)),
    "last_over_time": lambda v: v[-1],
    "present_over_time": lambda v: 1.0,
    "stddev_over_time": lambda v: math.sqrt(variance(v)),
    "stdvar_over_time": variance,
    "changes": lambda v: float(sum(a != b for a, b in itertools.pairwise(v))),
    "resets": lambda v: float(sum(b < a for a, b in itertools.pairwise(v))),
}

_RATES: dict[str, Callable[[Window, Matrix], float | None]] = {
    "rate": lambda w, m: extrapolated(w, m.start, m.end, counter=True, per_second=True),
    "increase": lambda w, m: extrapolated(w, m.start, m.end, counter=True, per_second=False),
    "delta": lambda w, m: extrapolated(w, m.start, m.end, counter=False, per_second=False),
    "irate": lambda w, m: instant(w, counter=True, per_second=True),
    "idelta": lambda w, m: instant(w, counter=False, per_second=False),
}
RANGE_FUNCTIONS = frozenset({*OVER_TIME, *_RATES, "deriv", "predict_linear", "quantile_over_time"})


def apply(name: str, matrix: Matrix, window: Window, at: float, number: float | None) -> float | None:
    """One window's value under a range function; ``number`` is its scalar argument where it has one."""
    if not window.values:
        return None
    if name in _RATES:
        return _RATES[name](window, matrix)
    if name == "quantile_over_time":
        return quantile(number if number is not None else math.nan, window.values)
    if name in ("deriv", "predict_linear"):
        line = regression(window, window.times[0] if name == "deriv" else at)
        if line is None:
            return None
        return line[0] if name == "deriv" else line[1] + line[0] * (number or 0.0)
    return OVER_TIME[name](window.values)
