"""monitoring_describe_metric."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.arguments import Matchers
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.cardinality import bucket_bounds, labels_of
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.metricmodels import ExampleQuery, LabelRow, MetricDescription
from opsbus_monitoring.metrics import HELP_CHARS, Metric, metrics_of
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.times import in_words, step_for
from opsbus_monitoring.tool_find_metrics import read_metadata

WINDOW_S = 3_600.0
FEW, MANY = 20, 1_000
"""Values of a label: fit to aggregate by, and too many to look at."""


async def describe_metric(
    ctx: Context[Backends],
    metric: Annotated[
        str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$", description="Exact, as monitoring_find_metrics has it.")
    ],
    matchers: Annotated[Matchers | None, Field(description='Only these series: ["namespace=\\"shop\\""].')] = None,
) -> MetricDescription:
    """One metric: type, help, series, each label with how many values it has and examples, and queries that fit.

    The queries were tried: series says how many each gives now. Look here before writing PromQL with a guessed label.
    """
    prometheus, now = ctx.state.prometheus, datetime.now(UTC)
    end = now.timestamp()
    inside = ",".join(str(matcher) for matcher in parse_matchers(matchers or []))
    with asking():
        names, (metadata, warnings) = await asyncio.gather(
            prometheus.metric_names([], end - WINDOW_S, end), read_metadata(prometheus)
        )
        found = next((one for one in metrics_of(names, metadata) if one.name == metric or metric in one.series), None)
        if found is None:
            raise await _unknown(prometheus, metric, names, metadata)
        shown = _telling(found, metric)
        selector = f"{shown}{{{inside}}}" if inside else shown
        series = await _number(prometheus, f"count({selector})", end)
        labels = await labels_of(prometheus, selector, series, end - WINDOW_S, end)
    every = await _interval(prometheus, selector, end)
    buckets = await bucket_bounds(prometheus, selector, end) if shown.endswith("_bucket") else []
    labels = [row for row in labels if row.name not in (("le",) if buckets else ())]
    queries = queries_for(found, shown, inside, labels, every)
    await _try_out(prometheus, queries, end)
    return MetricDescription(
        name=found.name,
        type=found.type,
        help=found.help[: HELP_CHARS * 3] or None,
        unit=found.unit or None,
        parts=found.row().parts,
        series=series,
        sample_every_s=every,
        labels=labels,
        buckets=buckets or None,
        queries=queries,
        warnings=[*warnings, *_worth_knowing(series, labels, inside)],
        as_of=now,
        source="prometheus",
    )


def queries_for(
    metric: Metric, shown: str, inside: str, labels: list[LabelRow], every_s: float | None
) -> list[ExampleQuery]:
    """Expressions that fit the metric's type, cut by the label that tells most in few lines."""
    by = next((row.name for row in reversed(labels) if 1 < row.values <= FEW), None)
    cut = f" by ({by})" if by else ""
    window = f"[{in_words(step_for(max(300.0, (every_s or 0) * 4), 2))}]"
    selector = f"{{{inside}}}" if inside else ""
    if metric.type == "histogram" and shown.endswith("_bucket"):
        within = ", ".join(["le", *([by] if by else [])])
        base = shown.removesuffix("_bucket")
        return [
            ExampleQuery(
                what="95th percentile",
                expr=f"histogram_quantile(0.95, sum by ({within}) (rate({shown}{selector}{window})))",
            ),
            ExampleQuery(
                what="Average",
                expr=f"sum{cut} (rate({base}_sum{selector}{window})) / sum{cut} (rate({base}_count{selector}{window}))",
            ),
            ExampleQuery(what="Observations per second", expr=f"sum{cut} (rate({base}_count{selector}{window}))"),
        ]
    if metric.type == "summary" and shown == metric.name:
        return [
            ExampleQuery(what="Per quantile", expr=f"max by (quantile) ({shown}{selector})"),
            ExampleQuery(
                what="Average",
                expr=f"sum (rate({shown}_sum{selector}{window})) / sum (rate({shown}_count{selector}{window}))",
            ),
        ]
    if metric.type == "counter" or shown.endswith(("_total", "_count", "_sum", "_bucket")):
        return [
            ExampleQuery(what="Per second", expr=f"sum{cut} (rate({shown}{selector}{window}))"),
            ExampleQuery(what="In the last hour", expr=f"sum{cut} (increase({shown}{selector}[1h]))"),
        ]
    return [
        ExampleQuery(what="Average", expr=f"avg{cut} ({shown}{selector})"),
        ExampleQuery(what="The largest", expr=f"topk(5, {shown}{selector})"),
        ExampleQuery(what="Change in an hour", expr=f"sum{cut} (delta({shown}{selector}[1h]))"),
    ]


def _telling(found: Metric, asked: str) -> str:
    """The name whose series show the metric's labels: of a histogram the buckets."""
    if asked in found.series:
        return asked
    bucket = f"{found.name}_bucket"
    return bucket if bucket in found.series else found.series[0]


async def _unknown(
    prometheus: Prometheus, metric: str, recent: list[str], metadata: Mapping[str, Mapping[str, Any]]
) -> ToolError:
    ever = metrics_of({*recent, *await prometheus.label_values("__name__")}, metadata)
    if any(one.name == metric or metric in one.series for one in ever):
        return ToolError(
            ErrorCode.NOT_FOUND,
            f"the metric {metric} has had no samples for an hour",
            hint="Its target is gone or down: monitoring_get_targets. Its past: monitoring_query_metrics.",
        )
    names = [one.name for one in ever]
    close = [*near(metric, names), *(name for name in names if metric in name)]
    return ToolError(
        ErrorCode.NOT_FOUND,
        f"there is no metric {metric}",
        hint="Search by words with monitoring_find_metrics.",
        did_you_mean=list(dict.fromkeys(close))[:5],
    )


async def _interval(prometheus: Prometheus, selector: str, end: float) -> float | None:
    try:
        for window_s in (120, 900):
            most = await _number(prometheus, f"max(count_over_time({selector}[{in_words(window_s)}]))", end)
            if most > 2:
                return round(window_s / most, 1)
    except BackendError:
        return None
    return None


async def _try_out(prometheus: Prometheus, queries: list[ExampleQuery], end: float) -> None:
    for query in queries:
        try:
            query.series = len((await prometheus.query(query.expr, end)).series)
        except BackendError:
            query.series = None


async def _number(prometheus: Prometheus, expr: str, when: float) -> int:
    result = await prometheus.query(expr, when)
    return int(result.series[0].points[-1][1] or 0) if result.series else 0


def _worth_knowing(series: int, labels: list[LabelRow], inside: str) -> list[str]:
    warnings = []
    if not series:
        warnings.append(
            "no series has these labels: leave a matcher out" if inside else "no samples in the last five minutes"
        )
    wide = [f"{row.name} ({row.values})" for row in labels if row.values > MANY]
    if wide:
        warnings.append(f"aggregate these labels away, they have too many values to look at: {', '.join(wide[:5])}")
    return warnings
