"""An answer with too many series: where they come from, and expressions that give fewer."""

from collections.abc import Iterable

from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.prometheus import Prometheus, Series
from opsbus_monitoring.querymodels import Overload

LABELS_MAX = 10
SAMPLE = 50
"""Series looked at when the whole answer cannot be had."""


def overload_of(expr: str, series: Iterable[Series], most: int) -> Overload:
    """From the series themselves."""
    found = list(series)
    values: dict[str, set[str]] = {}
    for one in found:
        for label, value in one.labels.items():
            values.setdefault(label, set()).add(value)
    counts = {label: len(seen) for label, seen in values.items()}
    return _overload(expr, counts, len(found), most)


async def measure_overload(prometheus: Prometheus, expr: str, at: float, most: int) -> Overload:
    """From small questions, when the answer itself is too large to be read."""
    total = await _count(prometheus, f"count({expr})", at)
    try:
        sample = (await prometheus.query(f"topk({SAMPLE}, {expr})", at)).series
    except BackendError:
        sample = []
    labels = list(dict.fromkeys(label for series in sample for label in series.labels))[:LABELS_MAX]
    counts: dict[str, int] = {}
    for label in labels:
        count = await _count(prometheus, f"count(count by ({label}) ({expr}))", at)
        if count:
            counts[label] = count
    return _overload(expr, counts, total, most)


def _overload(expr: str, counts: dict[str, int], total: int | None, most: int) -> Overload:
    ranked = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LABELS_MAX])
    rewrites = [f"topk({most}, {expr})"]
    telling = [label for label, count in ranked.items() if 1 < count <= most and label != "__name__"]
    rewrites += [f"sum by ({label}) ({expr})" for label in telling[:2]]
    if not telling:
        rewrites.append(f"sum({expr})")
    return Overload(series=total, cardinality=ranked, rewrites=rewrites)


async def _count(prometheus: Prometheus, expr: str, at: float) -> int | None:
    try:
        result = await prometheus.query(expr, at)
    except BackendError:
        return None
    return int(result.series[0].points[-1][1] or 0) if result.series else 0
