"""Aggregations: ``sum by (…)`` and its kin."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence

from opsbus_sandbox.promql.errors import UnsupportedError
from opsbus_sandbox.promql.ranges import quantile
from opsbus_sandbox.promql.values import Sample, Vector, signature

_SIMPLE: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum,
    "avg": lambda v: math.fsum(v) / len(v),
    "min": lambda v: min((x for x in v if not math.isnan(x)), default=math.nan),
    "max": lambda v: max((x for x in v if not math.isnan(x)), default=math.nan),
    "count": lambda v: float(len(v)),
    "group": lambda v: 1.0,
    "stddev": statistics.pstdev,
    "stdvar": statistics.pvariance,
}
AGGREGATIONS = (*_SIMPLE, "quantile", "topk", "bottomk", "count_values")


def aggregate(
    op: str, vector: Vector, *, by: list[str] | None, without: list[str], parameter: float | str | None
) -> Vector:
    """Group and reduce. ``by`` None means ``without``."""
    groups: dict[tuple[tuple[str, str], ...], Vector] = defaultdict(list)
    for sample in vector:
        groups[signature(sample.labels, on=by, ignoring=without)].append(sample)
    out: Vector = []
    for key, members in groups.items():
        labels = {name: value for name, value in key if value}
        out += _reduce(op, labels, members, parameter)
    return out


def _reduce(op: str, labels: dict[str, str], members: Vector, parameter: float | str | None) -> Vector:
    values = [sample.value for sample in members]
    if op in _SIMPLE:
        try:
            return [Sample(labels, _SIMPLE[op](values))]
        except (OverflowError, ValueError):  # infinities of both signs
            return [Sample(labels, math.nan)]
    if op == "quantile":
        return [Sample(labels, quantile(float(parameter or 0.0), values))]
    if op in ("topk", "bottomk"):
        count = max(0, int(float(parameter or 0)))
        numbers = [s for s in members if not math.isnan(s.value)]
        pick = heapq.nlargest if op == "topk" else heapq.nsmallest
        return pick(count, numbers, key=lambda s: s.value)
    if op == "count_values":
        counts: dict[str, int] = defaultdict(int)
        for value in values:
            counts[format_value(value)] += 1
        return [Sample({**labels, str(parameter): text}, float(count)) for text, count in counts.items()]
    raise UnsupportedError(f"the aggregation {op}", ", ".join(AGGREGATIONS))


def format_value(value: float) -> str:
    """A number as Prometheus writes it in JSON: shortest form, ``NaN``, ``+Inf``, ``-Inf``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
