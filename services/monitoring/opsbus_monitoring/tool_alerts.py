"""monitoring_get_alerts."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.alertmodels import AlertGroup, AlertList, AlertRow, Silence
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import Matcher, parse_matchers

State = Literal["firing", "pending", "silenced", "inhibited"]
SEVERITIES = ("critical", "page", "error", "high", "warning", "medium", "low", "info", "none", "")
"""The usual words, the gravest first; others stand between warning and info."""

STATES = ("firing", "pending", "silenced", "inhibited")
BUDGET_BYTES = 18_000
RUNBOOK_KEYS = ("runbook_url", "runbook", "runbook_link")
GROUPS_MAX = 50
OWNERS_MAX = 5
ALERTS_URI = "enterprise://monitoring/alerts"


async def get_alerts(
    ctx: Context[Backends],
    state: Annotated[
        list[State] | None, Field(description="Default: firing, silenced and inhibited. pending is not firing yet.")
    ] = None,
    severity: Annotated[list[str] | None, Field(max_length=10, description="critical, warning, ...")] = None,
    matchers: Annotated[
        list[str] | None,
        Field(max_length=10, description='All of which hold: ["namespace=\\"shop\\""].'),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        Field(max_length=5, description="Labels to count by: [alertname, namespace]; also owner, service."),
    ] = None,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Field(max_length=100, description="next_cursor of the answer before.")] = None,
) -> AlertList:
    """Alerts, the gravest first: since when, whose, who silenced them and why, what inhibits them, their runbook.

    group_by counts them by labels first.
    """
    now = datetime.now(UTC)
    wanted = parse_matchers(matchers or [])
    after = _decode(cursor)
    rows, warnings = await read_alerts(ctx.state, wanted, now)
    rows = [row for row in rows if severity is None or row.severity in severity]
    counts = Counter(row.state for row in rows)
    chosen = [row for row in rows if row.state in (state or ("firing", "silenced", "inhibited"))]
    ordered = gravest_first(chosen)
    left = [row for row in ordered if after is None or _key(row) > after]
    if group_by and "owner" in group_by and ctx.state.whose.known.listing is None:
        warnings.append("the CMDB has told no owners: only those that labels name are known")
    return _page(ordered, left, limit, counts, _groups(ordered, group_by), warnings, now)


async def alerts_overview(ctx: Context[Backends]) -> AlertList:
    """What monitoring_get_alerts answers without arguments."""
    return await get_alerts(ctx)


async def read_alerts(
    backends: Backends, matchers: Sequence[Matcher], now: datetime
) -> tuple[list[AlertRow], list[str]]:
    """What Alertmanager has, and what is pending in Prometheus. One of the two may be missing: that is a warning.

    Raises:
        ToolError: neither answers.
    """
    managed, ruled = await asyncio.gather(_from_alertmanager(backends, now), _from_prometheus(backends, now))
    warnings = []
    if isinstance(managed, ToolError) and isinstance(ruled, ToolError):
        raise managed
    if isinstance(managed, ToolError):
        warnings.append(f"silences and inhibitions are not known: {managed.message}")
        managed = []
        known = cast("list[AlertRow]", ruled)
    elif isinstance(ruled, ToolError):
        warnings.append(f"pending alerts are not known: {ruled.message}")
        known = managed
    else:
        # What fires is Alertmanager's to tell; Prometheus knows in addition what is about to.
        known = managed + [row for row in ruled if row.state == "pending"]
    held = [row for row in known if all(matcher.holds(row.all_labels()) for matcher in matchers)]
    backends.whose.tell(held)
    return held, warnings


def gravest_first(rows: Iterable[AlertRow]) -> list[AlertRow]:
    """By state, then severity, then name."""
    return sorted(rows, key=_key)


async def managed_alerts(alertmanager: Alertmanager, now: datetime) -> list[AlertRow]:
    """What Alertmanager has, with who silenced and what inhibits it.

    Raises:
        BackendError: it does not answer.
    """
    alerts = await alertmanager.alerts()
    muted = any(alert["status"].get("silencedBy") for alert in alerts)
    silences = {item["id"]: item for item in await alertmanager.silences()} if muted else {}
    names = {alert["fingerprint"]: alert["labels"].get("alertname", "") for alert in alerts}
    return [_managed(alert, silences, names, now) for alert in alerts]


async def _from_alertmanager(backends: Backends, now: datetime) -> list[AlertRow] | ToolError:
    try:
        with asking():
            return await managed_alerts(backends.alertmanager, now)
    except ToolError as error:
        return error


async def _from_prometheus(backends: Backends, now: datetime) -> list[AlertRow] | ToolError:
    try:
        with asking():
            rules = await backends.prometheus.rules()
    except ToolError as error:
        return error
    return [
        _row(alert["labels"], alert.get("annotations") or {}, alert["state"], alert.get("activeAt"), now)
        for rule in rules
        for alert in rule.get("alerts") or []
    ]


def _managed(
    alert: dict[str, Any], silences: dict[str, dict[str, Any]], names: dict[str, str], now: datetime
) -> AlertRow:
    status = alert.get("status") or {}
    by, inhibitors = status.get("silencedBy") or [], status.get("inhibitedBy") or []
    state = "silenced" if by else "inhibited" if inhibitors else "firing"
    row = _row(alert["labels"], alert.get("annotations") or {}, state, alert.get("startsAt"), now)
    row.fingerprint = alert.get("fingerprint")
    row.silenced_by = [_silence(key, silences.get(key, {})) for key in by] or None
    row.inhibited_by = list(dict.fromkeys(names.get(key, key) for key in inhibitors)) or None
    return row


def _silence(key: str, silence: dict[str, Any]) -> Silence:
    return Silence(
        id=key,
        comment=str(silence.get("comment", ""))[:200],
        created_by=str(silence.get("createdBy", "")),
        ends_at=str(silence.get("endsAt", "")),
    )


def _row(labels: dict[str, str], notes: dict[str, str], state: str, since: str | None, now: datetime) -> AlertRow:
    began = datetime.fromisoformat(since).astimezone(UTC) if since else None
    return AlertRow(
        name=labels.get("alertname", ""),
        severity=labels.get("severity", ""),
        state=state,
        since=began,
        age_s=max(0, int((now - began).total_seconds())) if began else None,
        summary=(notes.get("summary") or notes.get("description") or notes.get("message") or "")[:400] or None,
        runbook=next((notes[key] for key in RUNBOOK_KEYS if notes.get(key)), None),
        labels={key: value for key, value in sorted(labels.items()) if key not in ("alertname", "severity")},
    )


def _groups(rows: list[AlertRow], group_by: list[str] | None) -> list[AlertGroup]:
    if not group_by:
        return []
    members: dict[tuple[str, ...], list[AlertRow]] = {}
    for row in rows:
        labels = row.group_labels()
        members.setdefault(tuple(labels.get(name, "") for name in group_by), []).append(row)
    groups = [
        AlertGroup(
            labels=dict(zip(group_by, key, strict=True)),
            total=len(found),
            states=dict(Counter(row.state for row in found).most_common()),
            worst=min(found, key=_key).severity,
            oldest=min((row.since for row in found if row.since), default=None),
            owners=dict(Counter(row.owner for row in found if row.owner).most_common(OWNERS_MAX)),
        )
        for key, found in members.items()
    ]
    return sorted(groups, key=lambda group: (_grade(group.worst), -group.total))[:GROUPS_MAX]


def _page(
    ordered: list[AlertRow],
    left: list[AlertRow],
    limit: int,
    counts: Counter[str],
    groups: list[AlertGroup],
    warnings: list[str],
    now: datetime,
) -> AlertList:
    rows = left[:limit]
    page = AlertList.fit(
        rows,
        budget_bytes=BUDGET_BYTES,
        total=len(ordered),
        cursor=lambda kept: _key(rows[max(kept - 1, 0)]),
        warnings=warnings,
        source="alertmanager",
        as_of=now,
    )
    if len(page.items) == len(rows) < len(left):
        page.page.next_cursor, page.page.truncated = _key(rows[-1]), True
    told = {state: counts[state] for state in STATES if counts[state]}
    return cast(AlertList, page.model_copy(update={"counts": told, "groups": groups}))


def _grade(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else SEVERITIES.index("medium")


def _key(row: AlertRow) -> str:
    """The order of the list, and the cursor into it."""
    identity = sha256(str(sorted(row.labels.items())).encode()).hexdigest()[:12]
    return f"{STATES.index(row.state)}.{_grade(row.severity):02d}.{row.name[:60]}.{identity}"


def _decode(cursor: str | None) -> str | None:
    if cursor is not None and cursor.count(".") < 3:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "this is no cursor", hint="Use next_cursor of an answer, or leave it out."
        )
    return cursor
