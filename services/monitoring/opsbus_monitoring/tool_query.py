"""monitoring_query_metrics."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, cast

from pydantic import Field, FiniteFloat

from opsbus import Context, ErrorCode, ToolError, ToolResult
from opsbus.when import parse_when
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.emptiness import LOOKBACK_S, Doctor
from opsbus_monitoring.faults import told
from opsbus_monitoring.overload import measure_overload, overload_of
from opsbus_monitoring.prometheus import Prometheus, QueryResult, Series
from opsbus_monitoring.querymodels import QueryAnswer, SeriesRow
from opsbus_monitoring.summary import on_grid, rounded, summarize
from opsbus_monitoring.times import in_words, parse_step, step_for
from opsbus_monitoring.tool_query_chart import with_chart
from opsbus_monitoring.units import Unit

RANGE_S_MAX = 366 * 86_400
CHART_POINTS = 240
"""Per series, when a chart is asked for and not how fine."""

BUDGET_BYTES = 20_000
"""Of the rows; findings and labels take the rest of the kit's 24 000."""

When = Annotated[str, Field(max_length=64, description="RFC 3339, now, now-1h, or 15m for that long ago.")]


@dataclass(frozen=True)
class Span:
    """What is asked: a range with its step, or one moment (step 0). Unix seconds."""

    start: float
    end: float
    step_s: float

    @property
    def instant(self) -> bool:
        """One moment."""
        return self.step_s == 0


async def query_metrics(
    ctx: Context[Backends],
    expr: Annotated[str, Field(min_length=1, max_length=4000, description="PromQL.")],
    start: When = "now-1h",
    end: When = "now",
    step: Annotated[str, Field(max_length=20, description="auto, or 30s, 5m: widened if over max_points.")] = "auto",
    max_series: Annotated[int, Field(ge=1, le=100, description="Series in the answer, the largest first.")] = 20,
    max_points: Annotated[int, Field(ge=2, le=1000, description="Points per series.")] = 120,
    reduce: Annotated[
        Literal["stats", "points"], Field(description="stats: a few numbers and a sparkline; points: the values too.")
    ] = "stats",
    chart: Annotated[bool, Field(description="Also a PNG: lines over the range, bars of an instant query.")] = False,
    title: Annotated[str | None, Field(max_length=120, description="Of the chart. Default: expr.")] = None,
    unit: Annotated[Unit | None, Field(description="Of the chart. Default: guessed from the metric's name.")] = None,
    thresholds: Annotated[
        list[FiniteFloat] | None, Field(max_length=5, description="Lines on the chart, beside those of alerting rules.")
    ] = None,
) -> QueryAnswer | ToolResult:
    """Run PromQL over a range (default: the last hour); each series as min, max, avg, p95, last, slope and sparkline.

    With start equal to end: an instant query. An empty answer says why; too many series come with their label
    cardinality and expressions that give fewer. Values that are no number are null. chart=true adds a picture, when
    somebody wants to see it.
    """
    prometheus = ctx.state.prometheus
    now = datetime.now(UTC)
    if chart and "max_points" not in ctx.arguments:
        max_points = CHART_POINTS
    elif not chart and (title or unit or thresholds):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "title, unit and thresholds belong to a chart", hint="Add chart=true."
        )
    span, warnings = plan_span(start, end, step, max_points, now)
    try:
        result = await ask(prometheus, expr, span)
    except BackendError as error:
        if error.code != "too_large":
            raise worded(error, expr) from error
        overload = await measure_overload(prometheus, expr, span.end, max_series)
        notes = [*warnings, f"{error.message} Nothing was read{', so there is no chart' if chart else ''}."]
        answer = QueryAnswer.fit([], warnings=notes, as_of=now)
        return _completed(answer, expr, span, {"kind": "matrix", "overload": overload})
    if result.kind == "string":
        text = result.series[0].labels["value"]
        notes = ["a string cannot be drawn: no chart"] if chart else []
        return _completed(QueryAnswer.fit([], warnings=notes, as_of=now), expr, span, {"kind": "string", "text": text})
    answer = await shown(prometheus, expr, span, result, max_series, reduce, warnings, now)
    if not chart:
        return answer
    drawn = sorted(result.series, key=_largest)[:max_series]
    return await with_chart(prometheus, answer, drawn, title, unit, thresholds or [])


def plan_span(start: str, end: str, step: str, max_points: int, now: datetime) -> tuple[Span, list[str]]:
    """The moments to ask for, and what a reader must know about them.

    Raises:
        ToolError: ``invalid_arguments``: no times, an end before its start, a range over a year.
    """
    first, last = parse_when(start, "start", now).timestamp(), parse_when(end, "end", now).timestamp()
    if first == last:
        return Span(first, last, 0), []
    if first > last:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"start {start!r} is after end {end!r}",
            hint="start=now-1h and end=now is the last hour; the same time for both is an instant query.",
        )
    if last - first > RANGE_S_MAX:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the range is over a year", hint="Ask for a shorter one.")
    least = step_for(last - first, max_points)
    if step == "auto":
        return Span(first, last, least), []
    wanted = parse_step(step)
    if (last - first) / wanted + 1 <= max_points:
        return Span(first, last, wanted), []
    return Span(first, last, least), [
        f"step {step} gives over {max_points} points: it was widened to {in_words(least)}; short peaks may be missing"
    ]


async def ask(prometheus: Prometheus, expr: str, span: Span) -> QueryResult:
    """The query that fits the span."""
    if span.instant:
        return await prometheus.query(expr, span.end)
    return await prometheus.query_range(expr, span.start, span.end, span.step_s)


def worded(error: BackendError, expr: str) -> ToolError:
    """A refusal of the expression, with the way out of the usual mistake."""
    fault = told(error)
    if error.code == "bad_request" and not fault.hint:
        fault.hint = "Prometheus' own words; correct the expression."
        if "instant Vector" in error.message:
            fault.hint = (
                "Wrap the range vector in rate(), increase() or avg_over_time(), or ask with start equal to end."
            )
    return fault


async def shown(
    prometheus: Prometheus,
    expr: str,
    span: Span,
    result: QueryResult,
    max_series: int,
    reduce: str,
    warnings: list[str],
    now: datetime,
) -> QueryAnswer:
    """The answer for series: the largest first, within the bounds, or why there are none."""
    extra: dict[str, object] = {"kind": result.kind}
    notes = [*warnings, *result.warnings]
    if not result.series:
        window_s = LOOKBACK_S if span.instant else span.end - span.start
        extra["empty"] = await Doctor(prometheus, span.end, min(window_s, 86_400)).explain(expr)
        return _completed(QueryAnswer.fit([], warnings=notes, total=0, as_of=now), expr, span, extra)
    ordered = sorted(result.series, key=_largest)
    if len(ordered) > max_series:
        extra["overload"] = overload_of(expr, ordered, max_series)
        notes.append(f"{len(ordered)} series; only the {max_series} with the largest values are shown")
    common = common_labels(ordered) if len(ordered) > 1 else {}
    extra["common_labels"] = common
    rows = [row_of(series, span, reduce, common) for series in ordered[:max_series]]
    if any(row.missing and row.points and row.missing > row.points for row in rows):
        notes.append(
            "some series have no value at most moments: they are new or gone, or a range in brackets is too short"
        )
    page = QueryAnswer.fit(rows, budget_bytes=BUDGET_BYTES, total=len(ordered), warnings=notes, as_of=now)
    page.page.truncated = len(page.items) < len(ordered)
    return _completed(page, expr, span, extra)


def row_of(series: Series, span: Span, reduce: str, common: dict[str, str]) -> SeriesRow:
    """One series."""
    labels = {key: value for key, value in series.labels.items() if key not in common}
    if span.instant:
        values = [rounded(value) for _, value in series.points]
        return SeriesRow(labels=labels, last=values[-1], values=values if len(values) > 1 else None)
    found = summarize(series.points, span.start, span.end, span.step_s)
    grid = on_grid(series.points, span.start, span.end, span.step_s) if reduce == "points" else []
    return SeriesRow(
        labels=labels,
        last=found.last,
        min=found.least,
        max=found.most,
        avg=found.average,
        p95=found.p95,
        slope_per_hour=found.slope_per_hour,
        sparkline=found.sparkline,
        points=found.points,
        missing=found.missing,
        values=[rounded(value) for value in grid],
    )


def common_labels(series: list[Series]) -> dict[str, str]:
    """Labels with one value in all series: said once."""
    first = series[0].labels
    return {key: value for key, value in first.items() if all(one.labels.get(key) == value for one in series)}


def _largest(series: Series) -> tuple[float, str]:
    known = [value for _, value in series.points if value is not None]
    return (-max(known) if known else float("inf")), str(sorted(series.labels.items()))


def _completed(page: object, expr: str, span: Span, extra: dict[str, object]) -> QueryAnswer:
    times: dict[str, object] = {"end": datetime.fromtimestamp(span.end, UTC)}
    if not span.instant:
        times |= {"start": datetime.fromtimestamp(span.start, UTC), "step_s": span.step_s}
    made = cast(QueryAnswer, page)
    return made.model_copy(update={"expr": expr, "source": "prometheus", **times, **extra})
