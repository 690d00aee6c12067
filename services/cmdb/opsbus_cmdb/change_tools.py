"""What changed and what is planned: the tool `cmdb_get_change_records`."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus.when import parse_when
from opsbus_cmdb.inventory import ChangeSlice, Inventory
from opsbus_cmdb.model import Change, ChangeState, ChangeType, Window
from opsbus_cmdb.query import ChangeQuery, Direction, TopologyQuery

_BUDGET_BYTES = 20_000
_SERVICE_DEPTH = 2
_SERVICE_NODES = 100


class ChangeRow(Change):
    """A change, and how near it is to what was asked about."""

    direct: bool = Field(description="It touches the asset asked about itself, not only something that asset needs.")


class WindowRow(Window):
    """A calendar window."""

    active: bool = Field(description="It holds right now.")


class ChangePage(Page[ChangeRow]):
    """Changes, the latest planned first, and the freeze and maintenance windows of the same time."""

    since: datetime
    until: datetime
    windows: list[WindowRow] = Field(default_factory=list)

    def to_text(self) -> str:
        """What a person reads."""
        lines = [f"{self.page.total} changes between {self.since:%Y-%m-%d %H:%M} and {self.until:%Y-%m-%d %H:%M} UTC"]
        for row in self.items[:30]:
            start = row.actual_start or row.planned_start
            when = f"{start:%Y-%m-%d %H:%M}" if start else "no time set"
            lines.append(f"- {row.number} {when} {row.state.value}, {row.risk.value} risk: {row.title} ({_refs(row)})")
        for window in self.windows:
            state = "now" if window.active else f"from {window.start:%Y-%m-%d %H:%M}"
            lines.append(f"- {window.kind.value} {state} until {window.end:%Y-%m-%d %H:%M}: {window.title}")
        return "\n".join([*lines, *self.warnings])


def _refs(row: Change) -> str:
    shown = ", ".join(row.asset_refs[:3])
    return shown if len(row.asset_refs) <= 3 else f"{shown} and {len(row.asset_refs) - 3} more"


async def get_change_records(
    ctx: Context[Inventory],
    asset: Annotated[
        str | None, Field(description="Changes that touch this asset (id, ref or name).", max_length=400)
    ] = None,
    service: Annotated[
        str | None,
        Field(description="Changes that touch this service or what it needs, two steps deep.", max_length=400),
    ] = None,
    since: Annotated[str, Field(description="RFC 3339 or now-7d.", max_length=64)] = "now-7d",
    until: Annotated[str, Field(description="RFC 3339 or now+7d.", max_length=64)] = "now+7d",
    states: Annotated[list[ChangeState] | None, Field(description="Only these states.", max_length=8)] = None,
    types: Annotated[list[ChangeType] | None, Field(description="Only these types.", max_length=3)] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Rows at most.")] = 25,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=1_000)] = None,
) -> ChangePage:
    """Change records by asset or service, time window and state; with the freeze and maintenance windows of that time.

    A change is in the window when its planned or actual time overlaps it. Start here when something broke: what
    changed?
    """
    if asset and service:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "asset and service exclude each other", hint="give one of them, or neither"
        )
    now = datetime.now(UTC)
    begin, end = (parse_when(text, name, now, future=True) for text, name in ((since, "since"), (until, "until")))
    if begin > end:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "since is after until", hint="swap them")
    refs, centre, warnings = await _scope(ctx.state, asset, service)
    query = ChangeQuery(assets=refs, since=begin, until=end, states=states or [], types=types or [])
    found = await ctx.state.find_changes(query, limit, cursor)
    if found.unknown:
        warnings.append(found.unknown)
    return _page(found, query, centre, ctx.state.source, warnings, now)


async def _scope(
    inventory: Inventory, asset: str | None, service: str | None
) -> tuple[list[str] | None, str | None, list[str]]:
    if asset:
        ref = (await inventory.get_asset(asset)).ref
        return [ref], ref, []
    if not service:
        return None, None, []
    walk = TopologyQuery(direction=Direction.DEPENDENCIES, depth=_SERVICE_DEPTH, nodes_max=_SERVICE_NODES)
    found = await inventory.topology(service, walk)
    warnings = [f"only the nearest {_SERVICE_NODES} assets that it needs were looked at"] if found.truncated else []
    return [node.asset.ref for node in found.nodes], found.nodes[0].asset.ref, warnings


def _page(
    found: ChangeSlice, query: ChangeQuery, centre: str | None, source: str, warnings: list[str], now: datetime
) -> ChangePage:
    rows = [
        ChangeRow.model_validate({**item.model_dump(), "direct": centre is None or centre in item.asset_refs})
        for item in found.items
    ]
    page = Page[ChangeRow].fit(
        rows, budget_bytes=_BUDGET_BYTES, total=found.total, cursor=found.next_cursor, warnings=warnings, source=source
    )
    returned = len(page.items)
    if 0 < returned < len(rows) and len(found.cursors) >= returned:
        page.page.next_cursor = found.cursors[returned - 1]
    windows = [
        WindowRow.model_validate({**window.model_dump(), "active": window.start <= now <= window.end})
        for window in found.windows[:10]
    ]
    if query.since is None or query.until is None:
        raise RuntimeError("a page of changes has a window")
    return ChangePage(**dict(page), since=query.since, until=query.until, windows=windows)
