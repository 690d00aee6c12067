"""monitoring_find_metrics."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from opsbus import Context
from opsbus.toolerror import near
from opsbus.when import parse_when
from opsbus_monitoring.arguments import Limit, Matchers, PageCursor
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.metricmodels import MetricList, MetricType
from opsbus_monitoring.metrics import Metric, families, metrics_of, search, unknown_words
from opsbus_monitoring.paging import page_of, require_cursor
from opsbus_monitoring.prometheus import Prometheus

_PLAIN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
BUDGET_BYTES = 18_000
NAMES_COUNTED = 200
"""Names of series that are counted in one query."""


async def find_metrics(
    ctx: Context[Backends],
    query: Annotated[
        str, Field(max_length=200, description="Words of name or help, or a pattern: node_*. Empty: all.")
    ] = "",
    type: Annotated[list[MetricType] | None, Field(max_length=5, description="Only such.")] = None,
    matchers: Annotated[
        Matchers | None, Field(description='Only metrics with such series: ["namespace=\\"shop\\""].')
    ] = None,
    since: Annotated[str, Field(max_length=64, description="With samples since: now-1h, RFC 3339.")] = "now-1h",
    limit: Limit = 30,
    cursor: PageCursor = None,
) -> MetricList:
    """Which metrics there are: by words ("request latency"), type or labels; each with type, help and series now.

    Histograms come as one metric. Then monitoring_describe_metric for labels and a query that works.
    """
    prometheus, now = ctx.state.prometheus, datetime.now(UTC)
    require_cursor(cursor)
    start = parse_when(since, "since", now).timestamp()
    selector = "{" + ",".join(str(matcher) for matcher in parse_matchers(matchers or [])) + "}"
    with asking():
        names, (metadata, warnings) = await asyncio.gather(
            prometheus.metric_names([selector] if matchers else [], start, now.timestamp()), read_metadata(prometheus)
        )
    known = [metric for metric in metrics_of(names, metadata) if type is None or metric.type in type]
    ranked, whole = search(known, query)
    warnings += _said(known, query, whole=whole, empty=not ranked)
    rank = {metric.name: number for number, metric in ranked}
    page = page_of(
        MetricList,
        [metric.row() for _, metric in ranked],
        lambda row: f"{rank[row.name]}.{row.name[:180]}",
        limit=limit,
        cursor=cursor,
        budget_bytes=BUDGET_BYTES,
        source="prometheus",
        as_of=now,
        warnings=warnings,
    )
    parts = {metric.name: metric for _, metric in ranked}
    counts = await count_series(prometheus, [parts[row.name] for row in page.items], selector)
    for row in page.items:
        row.series = counts.get(row.name)
    if page.page.total and page.page.total > len(page.items):
        page.families = families(metric for _, metric in ranked)
    return page


def _said(known: list[Metric], query: str, *, whole: bool, empty: bool) -> list[str]:
    """What to know of a search that did not find all of what was asked."""
    if whole and not empty:
        return []
    warnings = []
    close = near(query.strip(), [metric.name for metric in known])
    lost = unknown_words(known, query)[:5] if "*" not in query else []
    if close:
        warnings.append(f"did you mean {', '.join(close)}?")
    if lost:
        warnings.append(f"no metric has the word {', '.join(lost)}: if it is a label's value, say it in matchers")
    elif not empty:
        warnings.append("no metric has all of these words; these have the most of them")
    if empty:
        warnings.append(f"no metric matches out of {len(known)}: use fewer words, or an earlier since")
    return warnings


async def read_metadata(prometheus: Prometheus) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Types and help; systems without them get a warning."""
    try:
        return await prometheus.all_metadata(), []
    except BackendError as error:
        if error.code in ("unavailable", "unauthorized"):
            raise
        return {}, [f"types and help are not known: {error.message}"]


async def count_series(prometheus: Prometheus, metrics: list[Metric], selector: str) -> dict[str, int]:
    """Metric to its series now; metrics that could not be counted are left out."""
    names = [name for metric in metrics for name in metric.series if _PLAIN.fullmatch(name)][:NAMES_COUNTED]
    if not names:
        return {}
    inside = selector.strip("{}")
    expr = f'count by (__name__) ({{__name__=~"{"|".join(names)}"{"," if inside else ""}{inside}}})'
    try:
        result = await prometheus.query(expr)
    except BackendError:
        return {}
    found = {one.labels.get("__name__", ""): int(one.points[-1][1] or 0) for one in result.series}
    return {
        metric.name: sum(found.get(name, 0) for name in metric.series)
        for metric in metrics
        if any(name in found for name in metric.series)
    }
