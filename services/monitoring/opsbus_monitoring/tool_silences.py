"""monitoring_list_silences."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from opsbus import Context
from opsbus_monitoring.arguments import Limit, Matchers, PageCursor
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import Matcher, parse_matchers
from opsbus_monitoring.paging import page_of, require_cursor
from opsbus_monitoring.silencemodels import SilenceList, SilenceRow
from opsbus_monitoring.silences import by_silence, row_of
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
    wanted = parse_matchers(matchers or [])
    require_cursor(cursor)
    alertmanager = ctx.state.alertmanager
    with asking():
        silences, alerts = await asyncio.gather(alertmanager.silences(), managed_alerts(alertmanager, now))
        muted = by_silence(gravest_first(alerts))
        rows = [row_of(silence, muted, now) for silence in silences if _about(silence, wanted)]
    rows = [row for row in rows if created_by is None or row.created_by == created_by]
    counts: Counter[str] = Counter(row.state for row in rows)
    chosen = [row for row in rows if row.state in (state or ("active", "pending"))]
    page = page_of(
        SilenceList,
        chosen,
        _key,
        limit=limit,
        cursor=cursor,
        budget_bytes=BUDGET_BYTES,
        source="alertmanager",
        as_of=now,
        warnings=_worth_knowing(chosen),
    )
    page.counts = {name: counts[name] for name in STATES if counts[name]}
    return page


def _about(silence: dict[str, Any], wanted: list[Matcher]) -> bool:
    labels = {str(item["name"]): str(item["value"]) for item in silence.get("matchers") or []}
    return all(matcher.holds(labels) for matcher in wanted)


def _worth_knowing(rows: list[SilenceRow]) -> list[str]:
    long = sum(row.state == "active" and (row.ends_in_s or 0) > LONG_S for row in rows)
    idle = sum(row.state == "active" and row.mutes == 0 for row in rows)
    warnings = [f"{long} active ones last over 30 days more: has anybody forgotten them?"] if long else []
    return [*warnings, f"{idle} active ones mute nothing now"] if idle else warnings


def _key(row: SilenceRow) -> str:
    """The order of the list, and the cursor into it."""
    when = int((row.starts_at if row.state == "pending" else row.ends_at).timestamp())
    if row.state == "expired":
        when = _LATEST - when
    return f"{STATES.index(row.state)}.{when:011d}.{row.id}"
