"""Functions of instant vectors and scalars."""

from __future__ import annotations

import calendar
import math
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from opsbus_sandbox.promql.errors import PromqlError
from opsbus_sandbox.promql.values import Sample, Vector, without_name

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_GO_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


_MATH: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "ceil": lambda v: float(math.ceil(v)) if math.isfinite(v) else v,
    "floor": lambda v: float(math.floor(v)) if math.isfinite(v) else v,
    "exp": _exp,
    "ln": lambda v: math.log(v) if v > 0 else (-math.inf if v == 0 else math.nan),
    "log2": lambda v: math.log2(v) if v > 0 else (-math.inf if v == 0 else math.nan),
    "log10": lambda v: math.log10(v) if v > 0 else (-math.inf if v == 0 else math.nan),
    "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
    "sgn": lambda v: v if math.isnan(v) else float((v > 0) - (v < 0)),
}
_CALENDAR: dict[str, Callable[[datetime], int]] = {
    "minute": lambda d: d.minute,
    "hour": lambda d: d.hour,
    "day_of_week": lambda d: d.isoweekday() % 7,
    "day_of_month": lambda d: d.day,
    "day_of_year": lambda d: d.timetuple().tm_yday,
    "days_in_month": lambda d: calendar.monthrange(d.year, d.month)[1],
    "month": lambda d: d.month,
    "year": lambda d: d.year,
}


def _map(vector: Vector, change: Callable[[float], float]) -> Vector:
    return [Sample(without_name(s.labels), change(s.value)) for s in vector]


def _round(value: float, to: float) -> float:
    return math.floor(value / to + 0.5) * to if math.isfinite(value) and to else value


def _clamp(value: float, low: float, high: float) -> float:
    return math.nan if any(map(math.isnan, (value, low, high))) else max(low, min(high, value))


def histogram_quantile(q: float, vector: Vector) -> Vector:
    """Interpolated within buckets, as Prometheus does for classic histograms."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = defaultdict(list)
    for sample in vector:
        try:
            bound = float(sample.labels["le"])
        except (KeyError, ValueError):
            continue
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k not in ("le", "__name__")))
        groups[key].append((bound, sample.value))
    return [Sample(dict(key), _bucket_quantile(q, sorted(buckets))) for key, buckets in groups.items()]


def _bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    if math.isnan(q) or len(buckets) < 2 or not math.isinf(buckets[-1][0]):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q)
    counts: list[float] = []
    for _, count in buckets:
        counts.append(max(count, counts[-1] if counts else 0.0))
    if not counts[-1]:
        return math.nan
    rank = q * counts[-1]
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if index == len(counts) - 1:
        return buckets[-2][0]
    upper = buckets[index][0]
    if index == 0 and upper <= 0:
        return upper
    lower = buckets[index - 1][0] if index else 0.0
    below = counts[index - 1] if index else 0.0
    return lower + (upper - lower) * ((rank - below) / (counts[index] - below))


def label_replace(vector: Vector, target: str, replacement: str, source: str, pattern: str) -> Vector:
    """Prometheus' ``label_replace``; ``$1`` and ``${name}`` in the replacement."""
    try:
        regex = re.compile(f"(?:{pattern})", re.DOTALL)
    except re.error:
        raise PromqlError(f"invalid regular expression in label_replace(): {pattern}") from None
    _check_label_name(target, "label_replace")
    out: Vector = []
    for sample in vector:
        match = regex.fullmatch(sample.labels.get(source, ""))
        labels = dict(sample.labels)
        if match:
            labels[target] = _expand(replacement, match)
            if not labels[target]:
                del labels[target]
        out.append(Sample(labels, sample.value))
    if len({tuple(sorted(s.labels.items())) for s in out}) < len(out):
        raise PromqlError("vector cannot contain metrics with the same labelset")
    return out


def _expand(template: str, match: re.Match[str]) -> str:
    """Go's Regexp.Expand: ``$name`` takes as many word characters as it can; what names no group is empty."""

    def value(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        try:
            return match[int(name) if name.isdecimal() else name] or ""
        except IndexError:
            return ""

    return _GO_REFERENCE.sub(value, template)


def _check_label_name(name: str, function: str) -> None:
    if not _LABEL_NAME.fullmatch(name):
        raise PromqlError(f"invalid destination label name in {function}(): {name}")


def label_join(vector: Vector, target: str, separator: str, *sources: str) -> Vector:
    """Prometheus' ``label_join``."""
    _check_label_name(target, "label_join")
    out: Vector = []
    for sample in vector:
        labels = {**sample.labels, target: separator.join(sample.labels.get(name, "") for name in sources)}
        if not labels[target]:
            del labels[target]
        out.append(Sample(labels, sample.value))
    return out


def _sort(vector: Vector, *, reverse: bool) -> Vector:
    numbers = sorted((s for s in vector if not math.isnan(s.value)), key=lambda s: s.value, reverse=reverse)
    return numbers + [s for s in vector if math.isnan(s.value)]


def _calendar(name: str, args: list[Any], at: float) -> Vector:
    vector = args[0] if args else [Sample({}, at)]
    return _map(vector, lambda v: _calendar_part(name, v))


def _calendar_part(name: str, when: float) -> float:
    try:
        return float(_CALENDAR[name](datetime.fromtimestamp(math.floor(when), UTC)))
    except (OverflowError, ValueError, OSError):  # no date of any calendar: not a number, before year 1, after 9999
        return math.nan


VECTOR_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "round": lambda v, to=1.0: _map(v, lambda x: _round(x, to)),
    "clamp": lambda v, low, high: [] if low > high else _map(v, lambda x: _clamp(x, low, high)),
    "clamp_min": lambda v, low: _map(v, lambda x: _clamp(x, low, math.inf)),
    "clamp_max": lambda v, high: _map(v, lambda x: _clamp(x, -math.inf, high)),
    "scalar": lambda v: v[0].value if len(v) == 1 else math.nan,
    "vector": lambda number: [Sample({}, number)],
    "histogram_quantile": histogram_quantile,
    "label_replace": label_replace,
    "label_join": label_join,
    "sort": lambda v: _sort(v, reverse=False),
    "sort_desc": lambda v: _sort(v, reverse=True),
}
SUPPORTED = frozenset({*_MATH, *_CALENDAR, *VECTOR_FUNCTIONS, "time", "timestamp", "pi"})


def call(name: str, args: list[Any], at: float) -> Any:
    """Apply a function of this file to evaluated arguments."""
    if name == "time":
        return at
    if name == "pi":
        return math.pi
    if name in _CALENDAR:
        return _calendar(name, args, at)
    if name in _MATH:
        return _map(args[0], _MATH[name])
    return VECTOR_FUNCTIONS[name](*args)
