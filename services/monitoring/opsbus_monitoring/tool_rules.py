"""monitoring_get_rules."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.arguments import Limit, PageCursor
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking, each
from opsbus_monitoring.metricmodels import RuleList, RuleRow
from opsbus_monitoring.paging import page_of, require_cursor
from opsbus_monitoring.prometheus import SYSTEM
from opsbus_monitoring.tool_alerts import RUNBOOK_KEYS

State = Literal["broken", "firing", "pending", "inactive", "recorded"]
STATES: tuple[State, ...] = ("broken", "firing", "pending", "inactive", "recorded")
BUDGET_BYTES = 18_000
EXPR_CHARS, TEXT_CHARS = 4_000, 300
GROUPS_MAX = 40


async def get_rules(
    ctx: Context[Backends],
    name: Annotated[str | None, Field(max_length=200, description="Part of the rule's name.")] = None,
    metric: Annotated[str | None, Field(max_length=200, description="Only rules whose expression has this.")] = None,
    group: Annotated[str | None, Field(max_length=200, description="Exact.")] = None,
    state: Annotated[
        list[State] | None, Field(description="broken: cannot be evaluated. recorded: a recording rule.")
    ] = None,
    limit: Limit = 30,
    cursor: PageCursor = None,
) -> RuleList:
    """Alerting and recording rules: expression, for how long, severity, state, runbook; those that are broken first.

    What fires now with its labels: monitoring_get_alerts. Which rules use a metric: metric="http_requests_total".
    """
    now = datetime.now(UTC)
    require_cursor(cursor)
    with asking(lacks="rules"):
        groups = await ctx.state.prometheus.rule_groups()
    known = each(row_of, [(rule, str(found.get("name", ""))) for found in groups for rule in found["rules"]], SYSTEM)
    _require_known(known, name, group)
    chosen = [
        row
        for row in known
        if (name is None or name.lower() in row.name.lower())
        and (metric is None or metric in row.expr)
        and (group is None or row.group == group)
    ]
    counts = Counter(state_of(row) for row in chosen)
    page = page_of(
        RuleList,
        [row for row in chosen if state is None or state_of(row) in state],
        _key,
        limit=limit,
        cursor=cursor,
        budget_bytes=BUDGET_BYTES,
        source="prometheus",
        as_of=now,
        warnings=_late(groups),
    )
    page.counts = {word: counts[word] for word in STATES if counts[word]}
    if group is None:
        page.groups = dict(Counter(row.group for row in chosen).most_common(GROUPS_MAX))
    return page


def row_of(found: tuple[Mapping[str, Any], str]) -> RuleRow:
    """A rule of a group as it is shown."""
    rule, group = found
    notes, labels = rule.get("annotations") or {}, dict(rule.get("labels") or {})
    alerting = rule.get("type") == "alerting"
    summary = notes.get("summary") or notes.get("description") or notes.get("message") or ""
    return RuleRow(
        name=str(rule.get("name", "")),
        kind="alert" if alerting else "record",
        group=group,
        state=str(rule.get("state") or "inactive") if alerting else None,
        health=str(rule.get("health") or "unknown"),
        error=str(rule.get("lastError") or "")[:TEXT_CHARS] or None,
        expr=str(rule.get("query", ""))[:EXPR_CHARS],
        for_s=float(rule.get("duration") or 0) if alerting else None,
        severity=labels.pop("severity", None),
        labels=labels,
        summary=str(summary)[:TEXT_CHARS] or None,
        runbook=next((notes[key] for key in RUNBOOK_KEYS if notes.get(key)), None),
        alerts=len(rule.get("alerts") or []) or None,
        evaluation_s=round(float(rule.get("evaluationTime") or 0), 4),
    )


def state_of(row: RuleRow) -> State:
    """The word for it, out of STATES."""
    if row.health == "err":
        return "broken"
    if row.kind == "record":
        return "recorded"
    return "firing" if row.state == "firing" else "pending" if row.state == "pending" else "inactive"


def _key(row: RuleRow) -> str:
    identity = sha256(f"{row.group}\0{row.expr}\0{sorted(row.labels.items())}".encode()).hexdigest()[:12]
    return f"{STATES.index(state_of(row))}.{row.name[:100]}.{row.group[:40]}.{identity}"


def _require_known(rows: list[RuleRow], name: str | None, group: str | None) -> None:
    groups, names = {row.group for row in rows}, {row.name for row in rows}
    if group is not None and group not in groups:
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"there is no group {group!r} of rules",
            hint=f"Groups: {', '.join(sorted(groups)[:20]) or 'none'}.",
            did_you_mean=near(group, groups),
        )
    if name is not None and not any(name.lower() in known.lower() for known in names):
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"no rule has {name!r} in its name",
            hint="Leave name out and see the groups, or search by metric.",
            did_you_mean=near(name, names),
        )


def _late(groups: list[dict[str, Any]]) -> list[str]:
    late = [
        str(group.get("name"))
        for group in groups
        if float(group.get("evaluationTime") or 0) > float(group.get("interval") or 0) > 0
    ]
    if not late:
        return []
    return [f"these groups take longer to evaluate than their interval, evaluations are missed: {', '.join(late[:10])}"]
