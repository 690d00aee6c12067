"""How a metric is cut into series: its labels and how many values each has. Small ones are read, large ones asked."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.metricmodels import LabelRow
from opsbus_monitoring.prometheus import Prometheus

SERIES_READ_MAX = 2_000
LABELS_MAX = 30
EXAMPLES = 5
VALUE_CHARS = 80
AT_ONCE = 3


async def labels_of(prometheus: Prometheus, selector: str, series: int, start: float, end: float) -> list[LabelRow]:
    """The labels of a selector's series, those with few values first.

    Args:
        series: How many there are, about.
        start: Of the time in which they have samples; end likewise. Unix seconds.

    Raises:
        BackendError: no usable answer.
    """
    if series <= SERIES_READ_MAX:
        return labels_in(await prometheus.series([selector], start, end))
    names = [name for name in await prometheus.label_names(selector, start, end) if name != "__name__"]
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str) -> LabelRow | None:
        async with places:
            total = await prometheus.query(f"count(count by ({name}) ({selector}))", end)
            top = await prometheus.query(f"topk({EXAMPLES}, count by ({name}) ({selector}))", end)
        most = sorted(top.series, key=lambda one: -(one.points[-1][1] or 0))
        values = [one.labels.get(name, "") for one in most]
        count = int(total.series[0].points[-1][1] or 0) if total.series else 0
        return LabelRow(name=name, values=count, examples=_shown(values))

    rows = await asyncio.gather(*(ask(name) for name in names[:LABELS_MAX]))
    return _ordered(row for row in rows if row is not None)


def labels_in(series: Iterable[Mapping[str, str]]) -> list[LabelRow]:
    """The labels of label sets."""
    values: dict[str, Counter[str]] = {}
    for labels in series:
        for name, value in labels.items():
            if name != "__name__":
                values.setdefault(name, Counter())[value] += 1
    rows = (LabelRow(name=name, values=len(found), examples=_shown(_most(found))) for name, found in values.items())
    return _ordered(rows)


async def bucket_bounds(prometheus: Prometheus, bucket: str, when: float) -> list[str]:
    """The ``le`` of a histogram, the least first; empty when it cannot be had."""
    try:
        result = await prometheus.query(f"group by (le) ({bucket})", when)
    except BackendError:
        return []
    return sorted((one.labels.get("le", "") for one in result.series), key=_bound)[:100]


def _most(found: Counter[str]) -> list[str]:
    return [value for value, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]]


def _shown(values: list[str]) -> list[str]:
    return [value if len(value) <= VALUE_CHARS else f"{value[:VALUE_CHARS]}..." for value in values]


def _ordered(rows: Iterable[LabelRow]) -> list[LabelRow]:
    return sorted(rows, key=lambda row: (row.values, row.name))[:LABELS_MAX]


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
