"""The picture of monitoring_query_metrics: which series, what they are called, which thresholds."""

import asyncio
from datetime import UTC, datetime
from itertools import combinations

from opsbus import Image, Text, ToolResult
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.chartmodels import Chart, Line
from opsbus_monitoring.charts import draw
from opsbus_monitoring.prometheus import Prometheus, Series
from opsbus_monitoring.querymodels import ChartNote, QueryAnswer, ThresholdNote
from opsbus_monitoring.thresholds import Threshold, from_rules, merged, split_comparison
from opsbus_monitoring.times import in_words
from opsbus_monitoring.units import Unit, guess_unit

LABELS_MAX = 12
"""Looked at for names."""

PNG_BYTES_MAX = 500_000
"""Base64 makes it a third longer, and text and numbers go with it."""


async def with_chart(
    prometheus: Prometheus,
    answer: QueryAnswer,
    series: list[Series],
    title: str | None,
    unit: Unit | None,
    thresholds: list[float],
) -> QueryAnswer | ToolResult:
    """The answer with a picture of its series, or with the reason why there is none.

    Args:
        series: Those to draw, the largest first.
        thresholds: Beside those of the expression and of alerting rules about the same.
    """
    drawable = [one for one in series if any(value is not None for _, value in one.points)]
    if not drawable or answer.kind not in ("matrix", "vector", "scalar") or answer.end is None:
        answer.warnings.append("there is nothing to draw: no chart")
        return answer
    own = split_comparison(answer.expr)
    ruled, unread = await _ruled(prometheus, answer.expr)
    answer.warnings += unread
    lines = merged([Threshold(value) for value in thresholds], [own[1]] if own else [], ruled)
    # Of x > 5 only what passes is known: the picture would be full of holes, so it says so.
    if own:
        answer.warnings.append(f"only values that pass the comparison are drawn; for all of them ask {own[0]}")
    chosen: Unit = unit or guess_unit(own[0] if own else answer.expr)
    chart = Chart(
        title=title or answer.expr,
        subtitle=subtitle_of(answer, len(drawable)),
        unit=chosen,
        lines=[Line(name, one.points) for name, one in zip(names_of(drawable), drawable, strict=True)],
        start=(answer.start or answer.end).timestamp(),
        end=answer.end.timestamp(),
        step_s=answer.step_s or 0.0,
        thresholds=lines,
    )
    try:
        png = await asyncio.to_thread(draw, chart)
    except (ArithmeticError, ValueError) as error:
        answer.warnings.append(f"these values cannot be drawn ({type(error).__name__}): no chart")
        return answer
    if len(png) > PNG_BYTES_MAX:
        answer.warnings.append("the picture was too large to be sent: ask for fewer series")
        return answer
    answer.chart = ChartNote(
        series=len(drawable),
        unit=chosen,
        thresholds=[ThresholdNote(value=line.value, op=line.op or None, rule=line.label or None) for line in lines],
    )
    return ToolResult(content=[Text(answer.to_text()), Image.of(png, "image/png")], structured=answer)


def names_of(series: list[Series]) -> list[str]:
    """What tells each series from the others, as short as it can be said: one label's value, or the labels that differ.

    A label that no two series share the value of is enough: the pod, and not also its node and namespace.
    """
    labels = [one.labels for one in series]
    keys = sorted({key for one in labels for key in one})
    differing = [key for key in keys if len({one.get(key, "") for one in labels}) > 1]
    if not differing:
        return [_whole(one) for one in labels]
    if len(differing) == 1:
        return [one.get(differing[0]) or f"no {differing[0]}" for one in labels]
    chosen = _enough(labels, differing)
    if len(chosen) == 1:
        return [one[chosen[0]] for one in labels]
    return [_told({key: one[key] for key in chosen if key in one}) for one in labels]


def _enough(labels: list[dict[str, str]], keys: list[str]) -> list[str]:
    """The one or two labels that tell all apart, the shortest; else all of them."""
    for size in (1, 2):
        fit = [
            part
            for part in combinations(keys[:LABELS_MAX], size)
            if len({tuple(one.get(key, "") for key in part) for one in labels}) == len(labels)
            and all(one.get(part[-1]) and one.get(part[0]) for one in labels)
        ]
        if fit:
            return list(min(fit, key=lambda part: sum(len(one[key]) for one in labels for key in part)))
    return keys


def _whole(labels: dict[str, str]) -> str:
    name = labels.get("__name__", "")
    return name or _told(labels) or "value"


def _told(labels: dict[str, str]) -> str:
    name = labels.get("__name__", "")
    inside = ", ".join(f"{key}={value}" for key, value in labels.items() if key != "__name__")
    return f"{name} {inside}".strip()


def subtitle_of(answer: QueryAnswer, drawn: int) -> str:
    """Time, step, how many series, and what they share."""
    end = (answer.end or answer.as_of).astimezone(UTC)
    parts = []
    if answer.start is None:
        parts.append(f"at {_clock(end)} UTC")
    else:
        start = answer.start.astimezone(UTC)
        same_day = start.date() == end.date()
        parts.append(f"{_clock(start)} – {f'{end:%H:%M}' if same_day else _clock(end)} UTC")
        parts.append(f"step {in_words(answer.step_s or 0)}")
    total = answer.page.total or drawn
    parts.append(f"{drawn} of {total} series, the largest" if total > drawn else f"{drawn} series")
    shared = ", ".join(f"{k}={v}" for k, v in answer.common_labels.items() if k != "__name__")
    if shared:
        parts.append(shared[:80])
    return "  ·  ".join(parts)


async def _ruled(prometheus: Prometheus, expr: str) -> tuple[list[Threshold], list[str]]:
    """Thresholds of alerting rules; a system without rules has none."""
    try:
        return from_rules(expr, await prometheus.rules()), []
    except BackendError as error:
        if error.code == "not_found":
            return [], []
        return [], [f"thresholds of alerting rules are not known: {error.message}"]


def _clock(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
