"""Aggregations: ``sum by (…)`` and its kin."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from opsbus_sandbox.promql.errors import PromqlError, UnsupportedError
from opsbus_sandbox.promql.ranges import greatest, least, mean, quantile, total, variance
from opsbus_sandbox.promql.values import Sample, Vector, signature

_SIMPLE: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": total,
    "avg": mean,
    "min": least,
    "max": greatest,
    "count": lambda v: float(len(v)),
    "group": lambda v: 1.0,
    "stddev": lambda v: math.sqrt(variance(v)),
    "stdvar": variance,
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
        return [Sample(labels, _SIMPLE[op](values))]
    if op == "quantile":
        return [Sample(labels, quantile(float(parameter or 0.0), values))]
    if op in ("topk", "bottomk"):
        wanted = float(parameter or 0)
        if math.isnan(wanted) or abs(wanted) >= 2**63:
            raise PromqlError(f"Scalar value {format_value(wanted)} overflows int64")
        count = max(0, int(wanted))
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
