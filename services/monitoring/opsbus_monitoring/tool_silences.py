"""monitoring_list_silences."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus_monitoring.arguments import Limit, Matchers, PageCursor
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import Matcher, parse_matchers
from opsbus_monitoring.silencemodels import SilenceList, SilenceRow
from opsbus_monitoring.silences import row_of
from opsbus_monitoring.tool_alerts import gravest_first, managed_alerts

State = Literal["active", "pending", "expired"]
STATES: tuple[State, ...] = ("active", "pending", "expired")
BUDGET_BYTES = 20_000
LONG_S = 30 * 86_400
_LATEST = 99_999_999_999


async def list_silences(
    ctx: Context[Backends],
    state: Annotated[list[State] | None, Field(description="Default: active and pending.")] = None,
    matchers: Annotated[
        Matchers | None, Field(description='Silences about such labels: ["namespace=\\"shop\\""].')
    ] = None,
    created_by: Annotated[str | None, Field(max_length=200, description="Whose; exact.")] = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
) -> SilenceList:
    """Silences: what is muted, by whom, why, until when, and which alerts each mutes now; those that end first, first.

    monitoring_get_alerts tells it per alert; monitoring_create_silence and monitoring_expire_silence change it.
    """
    now = datetime.now(UTC)
    wanted, after = parse_matchers(matchers or []), _decode(cursor)
    alertmanager = ctx.state.alertmanager
    with asking():
        silences, alerts = await asyncio.gather(alertmanager.silences(), managed_alerts(alertmanager, now))
        known = gravest_first(alerts)
        rows = [row_of(silence, known, now) for silence in silences if _about(silence, wanted)]
    rows = [row for row in rows if created_by is None or row.created_by == created_by]
    counts: Counter[str] = Counter(row.state for row in rows)
    ordered = sorted((row for row in rows if row.state in (state or ("active", "pending"))), key=_key)
    left = [row for row in ordered if after is None or _key(row) > after]
    return _page(ordered, left, limit, counts, now)


def _about(silence: dict[str, Any], wanted: list[Matcher]) -> bool:
    labels = {str(item["name"]): str(item["value"]) for item in silence.get("matchers") or []}
    return all(matcher.holds(labels) for matcher in wanted)


def _page(
    ordered: list[SilenceRow], left: list[SilenceRow], limit: int, counts: Counter[str], now: datetime
) -> SilenceList:
    rows = left[:limit]
    long = sum(row.state == "active" and (row.ends_in_s or 0) > LONG_S for row in ordered)
    idle = sum(row.state == "active" and row.mutes == 0 for row in ordered)
    warnings = [f"{long} active ones last over 30 days more: has anybody forgotten them?"] if long else []
    warnings += [f"{idle} active ones mute nothing now"] if idle else []
    page = SilenceList.fit(
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
    return cast(SilenceList, page.model_copy(update={"counts": told}))


def _key(row: SilenceRow) -> str:
    """The order of the list, and the cursor into it."""
    when = int((row.starts_at if row.state == "pending" else row.ends_at).timestamp())
    if row.state == "expired":
        when = _LATEST - when
    return f"{STATES.index(row.state)}.{when:011d}.{row.id}"


def _decode(cursor: str | None) -> str | None:
    if cursor is not None and cursor.count(".") < 2:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "this is no cursor", hint="Use next_cursor of an answer, or leave it out."
        )
    return cursor
