"""Finding assets: the tool `cmdb_query_assets` and the resources. One match gives detail, a few a list, many a page
and counts."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus_cmdb.inventory import AssetSlice, Group, Inventory
from opsbus_cmdb.mark_filter import FILTER as DRIFT
from opsbus_cmdb.marks import Mark
from opsbus_cmdb.model import INVERSE, ChangeState
from opsbus_cmdb.moments import AsOf, past, reservations
from opsbus_cmdb.overlay import keeper, live_of, marks_of
from opsbus_cmdb.query import (
    GROUPS,
    AssetQuery,
    ChangeQuery,
    Direction,
    TopologyQuery,
    asset_query,
    check_group,
)
from opsbus_cmdb.views import COMPACT, FULL, LISTED, AssetView, chosen_fields, view

FEW = 10
_NEIGHBOURS_MAX = 25
_COUNTED = ("environment", "kind", "status")
_OPEN = [state for state in ChangeState if state not in {ChangeState.CLOSED, ChangeState.CANCELLED}]
_BUDGET_BYTES = 20_000
"""For the rows; counts, neighbours and the envelope take the rest of the result's 24 KB."""

Cmdb = Context[Inventory]
GroupBy = Literal[
    "kind", "asset_class", "namespace", "environment", "lifecycle", "status", "criticality", "owner_team", "source"
]


class GroupCounts(BaseModel):
    """How the matches spread over a field."""

    by: str
    groups: list[Group]


class Neighbour(BaseModel):
    """A direct relationship, read from the asset asked about: `depends_on` X, `required_by` X."""

    relation: str
    ref: str
    status: str
    impact: str


class OpenChange(BaseModel):
    """A change of the asset that is not over."""

    number: str
    title: str
    state: str
    planned_start: datetime | None


class AssetPage(Page[AssetView]):
    """The assets that match, the unhealthy and critical first."""

    match: Literal["none", "one", "few", "many"] = Field(
        description="one: detail; few: 2 to 10; many: page and counts."
    )
    counts: list[GroupCounts] = Field(default_factory=list, description="Of all matches, not of this page.")
    neighbours: list[Neighbour] = Field(default_factory=list, description="Of the one match.")
    open_changes: list[OpenChange] = Field(default_factory=list, description="Of the one match.")

    def to_text(self) -> str:
        """What a person reads."""
        lines = [f"{self.page.total} assets match" if self.match != "one" else "One asset matches"]
        lines += [f"- {asset.line()}" for asset in self.items[:20]]
        if len(self.items) > 20:
            lines.append(f"  ... and {len(self.items) - 20} more on this page")
        lines += [f"- {item.relation} {item.ref} ({item.status})" for item in self.neighbours]
        lines += [f"- open change {item.number}: {item.title} ({item.state})" for item in self.open_changes]
        for counts in self.counts:
            lines.append(
                f"By {counts.by}: " + ", ".join(f"{g.value or '(none)'} {g.count}" for g in counts.groups[:12])
            )
        if self.page.next_cursor:
            lines.append("There is more: pass page.next_cursor as cursor, or narrow the filters")
        return "\n".join([*lines, *self.warnings])


async def query_assets(
    ctx: Cmdb,
    text: Annotated[
        str | None,
        Field(description="Words that must all occur in ref, description, owner or external ids.", max_length=200),
    ] = None,
    filters: Annotated[
        dict[str, str | list[str]] | None,
        Field(description='By field: {"kind": "service", "status": ["down", "degraded"], "label.app": "cart"}.'),
    ] = None,
    fields: Annotated[
        list[str] | None, Field(description="Only these fields beside id and ref.", max_length=30)
    ] = None,
    group_by: Annotated[GroupBy | None, Field(description="Count the matches by this field.")] = None,
    as_of: AsOf = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Rows at most.")] = 50,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=1_000)] = None,
) -> AssetPage:
    """Find assets of the CMDB (services, hosts, databases, clusters) by text and filters.

    One match comes with its full record, direct relationships and open changes; two to ten as a list; more as a page of
    compact rows with counts by environment, kind and status. Filters: kind, asset_class, namespace, name, environment,
    lifecycle, status, criticality, owner_team, source, ref, id, drift (any, high, release), label.<key>; a list of
    values means any of them. With as_of: as it was recorded at a past time.
    """
    query = asset_query(text, filters, past(as_of))
    projection = chosen_fields(fields)
    inventory = ctx.state
    if DRIFT in query.filters and keeper(inventory) is None:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{inventory.source} marks no drift here",
            hint="ask without the filter drift; cmdb_detect_drift compares one service",
        )
    count_by = _COUNTED if group_by is None else (check_group(group_by),)
    found = await inventory.find_assets(query, limit, cursor, count_by)
    shown = query.as_of is None and (projection is None or DRIFT in projection)
    drift = await marks_of(inventory, found.items) if shown else {}
    answer = _page(found, query, projection, inventory.source, drift)
    if group_by is not None:
        answer.counts = [GroupCounts(by=group_by, groups=found.groups[group_by])]
    if answer.match == "one" and found.items and projection is None:
        await _add_detail(inventory, found.items[0].id, query.as_of, answer)
    elif answer.match == "many" and group_by is None:
        answer.counts = [GroupCounts(by=by, groups=found.groups[by][:20]) for by in _COUNTED]
    elif answer.match == "none":
        answer.warnings += await _why_none(inventory, query)
    return answer


def _page(
    found: AssetSlice, query: AssetQuery, projection: tuple[str, ...] | None, source: str, drift: dict[str, list[Mark]]
) -> AssetPage:
    match: Literal["none", "one", "few", "many"] = "many" if found.total > FEW else "few"
    if found.total <= 1:
        match = "one" if found.total else "none"
    shown = projection if projection is not None else {"one": FULL, "few": LISTED}.get(match, COMPACT)
    rows = [view(asset, shown, drift.get(asset.id, ())) for asset in found.items]
    page = Page[AssetView].fit(
        rows,
        budget_bytes=_BUDGET_BYTES,
        total=found.total,
        cursor=found.next_cursor,
        warnings=reservations(query.as_of, found.items),
        source=source,
        as_of=query.as_of,
    )
    returned = len(page.items)
    if 0 < returned < len(rows) and len(found.cursors) >= returned:
        # Cut to the budget: the next page starts after the last row that was kept.
        page.page.next_cursor = found.cursors[returned - 1]
    return AssetPage(**dict(page), match=match)


async def _add_detail(inventory: Inventory, asset_id: str, as_of: datetime | None, answer: AssetPage) -> None:
    around = await inventory.topology(
        asset_id, TopologyQuery(direction=Direction.BOTH, depth=1, nodes_max=_NEIGHBOURS_MAX, as_of=as_of)
    )
    assets = {node.asset.id: node.asset for node in around.nodes}
    for edge in around.edges:
        if around.root not in {edge.from_id, edge.to_id}:
            continue
        outward = edge.from_id == around.root
        other = assets[edge.to_id if outward else edge.from_id]
        relation = edge.type.value if outward else INVERSE[edge.type]
        answer.neighbours.append(
            Neighbour(relation=relation, ref=other.ref, status=other.status.value, impact=edge.impact)
        )
    if around.truncated:
        answer.warnings.append(
            f"only {len(answer.neighbours)} relationships are shown; cmdb_get_service_topology has more"
        )
    if as_of is not None:
        return  # which changes were open then is not kept
    changes = await inventory.find_changes(ChangeQuery(assets=[assets[around.root].ref], states=_OPEN), 10, None)
    answer.open_changes = [
        OpenChange(number=item.number, title=item.title, state=item.state.value, planned_start=item.planned_start)
        for item in changes.items
    ]


async def _why_none(inventory: Inventory, query: AssetQuery) -> list[str]:
    if query.filters:
        unfiltered = await inventory.find_assets(AssetQuery(text=query.text, as_of=query.as_of), 1, None)
        if unfiltered.total:
            return [f"nothing matches all filters; without them {unfiltered.total} assets match"]
    if query.text:
        try:
            await inventory.get_asset(query.text)
        except ToolError as error:
            if error.code is ErrorCode.NOT_FOUND and error.did_you_mean:
                return [f"nothing matches {query.text!r}; did you mean {', '.join(error.did_you_mean)}?"]
    return ["nothing matches"]


async def assets_overview(ctx: Cmdb) -> dict[str, Any]:
    """The inventory at a glance: counts by field, every asset that is not operational, drift, and who is unwell now."""
    inventory = ctx.state
    everything = AssetQuery()
    unwell = asset_query(None, {"status": ["down", "degraded", "maintenance", "unknown"]})
    counts = {by: {g.value: g.count for g in await inventory.count_assets(everything, by)} for by in GROUPS}
    found = await inventory.find_assets(unwell, 50, None)
    page = Page[AssetView].fit([view(asset, COMPACT) for asset in found.items], budget_bytes=12_000, total=found.total)
    kept, now = keeper(inventory), datetime.now(UTC)
    live = await kept.unwell(now) if kept is not None else None
    return {
        "total": sum(counts["kind"].values()),
        "counts": counts,
        "not_operational": [item.model_dump(mode="json") for item in page.items],
        "not_operational_total": found.total,
        "drift": await kept.marks_counted() if kept is not None else None,
        "unwell_now": {ref: state.model_dump(mode="json") for ref, state in live.items()} if live is not None else None,
        "as_of": now.isoformat(),
        "source": inventory.source,
    }


async def asset_record(ctx: Cmdb, id: str) -> dict[str, Any]:
    """The full record of one asset, with its drift and its live health."""
    inventory = ctx.state
    asset = await inventory.get_asset(id)
    marks = await marks_of(inventory, [asset])
    live, _ = await live_of(inventory, [asset])
    return asset.model_dump(mode="json") | {
        "drift": [mark.model_dump(mode="json") for mark in marks.get(asset.id, [])],
        "live": live[asset.id].model_dump(mode="json"),
    }
