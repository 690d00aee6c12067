"""monitoring_capacity_report. The statistics are in history.py, trend.py and forecast.py, words in capacitywords.py."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, cast

from pydantic import Field

from opsbus import Context, ErrorCode, ResourceLink, Text, ToolError, ToolResult
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.capacitymodels import CapacityReport, CapacityRow
from opsbus_monitoring.capacityresources import RESOURCES, expression_of
from opsbus_monitoring.capacitywords import (
    ORDER,
    Outcome,
    Question,
    as_utc,
    assumptions_of,
    most_urgent_first,
    name_of,
    report_of,
    summary_of,
)
from opsbus_monitoring.emptiness import Doctor
from opsbus_monitoring.expressions import parse
from opsbus_monitoring.faults import asking, told
from opsbus_monitoring.foretold import DAY_S, Forecast
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.overload import measure_overload
from opsbus_monitoring.prometheus import Prometheus, Series
from opsbus_monitoring.summary import rounded
from opsbus_monitoring.times import parse_step, step_for
from opsbus_monitoring.tool_query import common_labels, worded

SERIES_MAX = 100
POINTS_MAX = 700
STEP_S_MIN = 60.0
PART_S = 7 * DAY_S
"""Asked of Prometheus at once."""

HISTORY_DAYS_MIN, HISTORY_DAYS_MAX = 1, 366
HORIZON_DAYS_MAX = 366
BUDGET_BYTES = 14_000

Duration = Annotated[str, Field(max_length=20, description="30d, 12w.")]


@dataclass(frozen=True)
class Wanted:
    """The question, the moments it is about (Unix seconds), and what a reader must know about them."""

    question: Question
    start: float
    end: float
    warnings: list[str]


async def capacity_report(
    ctx: Context[Backends],
    resource: Annotated[
        str | None, Field(max_length=60, description=f"{', '.join(RESOURCES)}. Or give expr and threshold.")
    ] = None,
    expr: Annotated[
        str | None, Field(min_length=1, max_length=4000, description="PromQL of a gauge or a rate, not of a counter.")
    ] = None,
    threshold: Annotated[
        float | None,
        Field(allow_inf_nan=False, description="In the unit of expr; a resource has its own."),
    ] = None,
    direction: Annotated[Literal["above", "below"], Field(description="below: free space that runs out.")] = "above",
    matchers: Annotated[
        list[Annotated[str, Field(max_length=500)]] | None,
        Field(max_length=10, description='Narrow a resource: ["node=\\"node-1\\""].'),
    ] = None,
    horizon: Duration = "30d",
    history: Duration = "14d",
    percentile: Annotated[
        float, Field(ge=50, le=100, description="Share of a day's moments that must stay within; 100: all of them.")
    ] = 95,
    limit: Annotated[int, Field(ge=1, le=SERIES_MAX, description="Rows; the report has all.")] = 10,
) -> CapacityReport | ToolResult:
    """Days until a resource reaches its threshold, with a 90% interval: a trend and daily season fitted to its history.

    The fit is checked on held-back data; too little or too holey data is said, never guessed. The full report is a
    resource link. Example: resource="disk", horizon="60d". What is now: monitoring_query_metrics.
    """
    prometheus = ctx.state.prometheus
    now = datetime.now(UTC)
    wanted = plan(resource, expr, threshold, direction, matchers, horizon, history, percentile, now)
    question = wanted.question
    await _require_no_counter(prometheus, question.expr)
    series, warnings = await _read(ctx, prometheus, wanted)
    warnings = [*wanted.warnings, *warnings]
    if not series:
        findings = await Doctor(prometheus, wanted.end, DAY_S).explain(question.expr)
        summary = f"{question.what}: nothing to report on, there is no data."
        return _completed([], [], 0, wanted, warnings, {"summary": summary, "empty": findings})
    await ctx.progress(0.8, 1.0, f"fitting {len(series)} series")
    found = most_urgent_first(await asyncio.to_thread(judge, series, wanted))
    common = common_labels(series) if len(series) > 1 else {}
    named: list[Outcome] = [(name_of(labels, common), one) for labels, one in found]
    summary = summary_of(question, named)
    answer = _completed(
        [row_of(labels, one, wanted) for labels, one in found[:limit]],
        named,
        len(found),
        wanted,
        warnings,
        {"summary": summary},
    )
    link = await _stored(ctx, report_of(question, summary, named, warnings), answer)
    return ToolResult(content=[Text(answer.to_text()), *([link] if link else [])], structured=answer)


def plan(
    resource: str | None,
    expr: str | None,
    threshold: float | None,
    direction: str,
    matchers: list[str] | None,
    horizon: str,
    history: str,
    percentile: float,
    now: datetime,
) -> Wanted:
    """What is asked, in numbers.

    Raises:
        ToolError: ``invalid_arguments``.
    """
    if (resource is None) == (expr is None):
        raise _wrong(
            "exactly one of resource and expr must be given",
            f"resource={' | '.join(RESOURCES)}, or expr with threshold.",
        )
    what, ratio = "Capacity", False
    if resource is not None:
        known, expr = expression_of(resource, parse_matchers(matchers or []))
        what, ratio = known.what, True
        threshold = known.threshold if threshold is None else threshold
        if not 0 < threshold <= 1:
            raise _wrong(
                f"threshold: {threshold:g} is no share", f"Of a resource it is above 0, at most 1: {known.threshold:g}."
            )
        if direction == "below":
            raise _wrong("direction: a resource's share in use runs out upwards", "Leave direction out.")
    elif matchers:
        raise _wrong("matchers narrow a resource", "Write them into expr.")
    if threshold is None:
        raise _wrong("threshold: an expression needs one", "Give the value that must not be passed, in its unit.")
    ahead = _days(horizon, "horizon", HORIZON_DAYS_MAX) * DAY_S
    back = _days(history, "history", HISTORY_DAYS_MAX) * DAY_S
    step = max(STEP_S_MIN, step_for(back, POINTS_MAX))
    # On whole steps, so that asking again within one gives the same report.
    end = math.floor(now.timestamp() / step) * step
    question = Question(
        what, str(expr), threshold, direction == "above", percentile, ahead, back, step, ratio, as_utc(end)
    )
    return Wanted(question, end - math.floor(back / step) * step, end, [])


def judge(series: list[Series], wanted: Wanted) -> list[tuple[dict[str, str], Forecast]]:
    """A forecast of each series. Loads numpy the first time: called in a thread."""
    from opsbus_monitoring.forecast import forecast
    from opsbus_monitoring.history import history_of

    question = wanted.question
    return [
        (
            one.labels,
            forecast(
                history_of(one.points, wanted.start, wanted.end, question.step_s),
                question.threshold,
                horizon_days=question.horizon_s / DAY_S,
                percentile=question.percentile,
                above=question.above,
            ),
        )
        for one in series
    ]


def row_of(labels: dict[str, str], one: Forecast, wanted: Wanted) -> CapacityRow:
    """One series, as told."""
    judged = one.check is not None
    shortened = judged and one.horizon_days < wanted.question.horizon_s / DAY_S
    slopes = [rounded(one.slope_low), rounded(one.slope_high)]
    checked = one.check
    reached = as_utc(wanted.end) + timedelta(days=one.days) if one.verdict == "reaches" and one.days else None
    return CapacityRow(
        labels={key: value for key, value in labels.items() if key != "__name__"},
        verdict=one.verdict,
        why=one.why or None,
        days_to_threshold=_tenth(one.days),
        days_low=_tenth(one.days_low),
        days_high=_tenth(one.days_high),
        reached_on=reached.date() if reached else None,
        now=rounded(one.planned_now),
        last=rounded(one.last),
        change_per_day=rounded(one.slope),
        change_per_day_interval=[value for value in slopes if value is not None] or None,
        daily_swing=rounded(one.swing),
        fit_error=rounded(checked.mean_error) if checked else None,
        fit_error_unchanged=rounded(checked.naive_error) if checked else None,
        inside_band=round(checked.inside, 3) if checked else None,
        coverage=round(one.coverage, 3),
        history_days=round(one.span_days, 2),
        used_days=round(one.used_days, 2) if one.used_days < one.span_days else None,
        looked_ahead_days=round(one.horizon_days, 1) if shortened else None,
        notes=one.notes,
    )


async def _read(ctx: Context[Backends], prometheus: Prometheus, wanted: Wanted) -> tuple[list[Series], list[str]]:
    """The history, a week at a time: no question is too large, and the caller sees how far it is."""
    question = wanted.question
    with asking():
        try:
            counted = (await prometheus.query(f"count({question.expr})", wanted.end)).series
        except BackendError as error:
            raise worded(error, question.expr) from error
        total = int(counted[0].points[-1][1] or 0) if counted else 0
        if total > SERIES_MAX:
            raise await _too_many(prometheus, question.expr, wanted.end, total)
        merged: dict[tuple[tuple[str, str], ...], list[tuple[float, float | None]]] = {}
        warnings: list[str] = []
        first = wanted.start
        while first <= wanted.end:
            last = min(wanted.end, first + (math.floor(PART_S / question.step_s) - 1) * question.step_s)
            result = await prometheus.query_range(question.expr, first, last, question.step_s)
            for one in result.series:
                merged.setdefault(tuple(sorted(one.labels.items())), []).extend(one.points)
            warnings += result.warnings
            if len(merged) > 10 * SERIES_MAX:
                raise await _too_many(prometheus, question.expr, wanted.end, len(merged))
            first = last + question.step_s
            done = 0.8 * min(1.0, (first - wanted.start) / (wanted.end - wanted.start))
            await ctx.progress(done, 1.0, f"read the history up to {as_utc(last):%Y-%m-%d}")
    alive = [Series(dict(key), points) for key, points in merged.items() if points[-1][0] >= wanted.end - DAY_S]
    gone = len(merged) - len(alive)
    if gone and alive:
        warnings.append(f"{gone} series that ended over a day ago (replaced pods, removed disks) are left out")
    chosen = alive or [Series(dict(key), points) for key, points in merged.items()]
    if len(chosen) > SERIES_MAX:
        raise await _too_many(prometheus, question.expr, wanted.end, len(chosen))
    return chosen, list(dict.fromkeys(warnings))


async def _too_many(prometheus: Prometheus, expr: str, at: float, total: int) -> ToolError:
    overload = await measure_overload(prometheus, expr, at, SERIES_MAX)
    return ToolError(
        ErrorCode.RESULT_TOO_LARGE,
        f"the expression has {total} series, {SERIES_MAX} are forecast at most",
        hint=f"Narrow it with matchers, or use {' or '.join(overload.rewrites[1:] or overload.rewrites)}.",
        details={"cardinality": overload.cardinality},
    )


async def _require_no_counter(prometheus: Prometheus, expr: str) -> None:
    """The plain value of a counter says how long a process has run, and falls to 0 when it is started again."""
    tree = parse(expr)
    metric = getattr(tree, "name", None) if type(tree).__name__ == "VectorSelector" else None
    if not metric:
        return
    try:
        kind = str((await prometheus.metadata(metric)).get("type", ""))
    except BackendError as error:
        raise told(error) from error
    if kind == "counter":
        raise _wrong(
            f"{metric} is a counter: its value only tells how long ago it was reset",
            f"Forecast its rate: expr='sum(rate({metric}[5m]))'.",
        )


async def _stored(ctx: Context[Backends], report: str, answer: CapacityReport) -> ResourceLink | None:
    """The full report as a link; an answer without it is still an answer."""
    try:
        link = await ctx.blob(report.encode(), "text/markdown", name="capacity-report.md")
    except ToolError as error:
        answer.warnings.append(f"the full report could not be kept: {error.message}")
        return None
    answer.report = link.uri
    return link


def _completed(
    rows: list[CapacityRow],
    named: list[Outcome],
    total: int,
    wanted: Wanted,
    warnings: list[str],
    extra: dict[str, object],
) -> CapacityReport:
    question = wanted.question
    page = CapacityReport.fit(
        rows, budget_bytes=BUDGET_BYTES, total=total, warnings=warnings, source="prometheus", as_of=question.asked_at
    )
    page.page.truncated = len(page.items) < total
    counts = Counter(one.verdict for _, one in named)
    fields: dict[str, object] = {
        "expr": question.expr,
        "threshold": question.threshold,
        "direction": "above" if question.above else "below",
        "horizon_days": question.horizon_s / DAY_S,
        "percentile": question.percentile,
        "start": as_utc(wanted.start),
        "step_s": question.step_s,
        "verdicts": {verdict: counts[verdict] for verdict in ORDER if counts[verdict]},
        "assumptions": assumptions_of(question, named) if named else [],
    }
    return cast(CapacityReport, page.model_copy(update={**fields, **extra}))


def _days(text: str, argument: str, most: int) -> float:
    try:
        days = parse_step(text) / DAY_S
    except ToolError:
        days = 0.0
    if not HISTORY_DAYS_MIN <= days <= most:
        raise _wrong(f"{argument}: {text[:20]!r} is no duration from 1d to {most}d", "Use 30d, 12w.")
    return days


def _tenth(days: float | None) -> float | None:
    return None if days is None else round(days, 1)


def _wrong(message: str, hint: str) -> ToolError:
    return ToolError(ErrorCode.INVALID_ARGUMENTS, message, hint=hint)
