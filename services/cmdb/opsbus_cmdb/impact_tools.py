"""What would be hit: the tool `cmdb_get_impact`. The reckoning is impact.py's, the walk the inventory's."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus_cmdb.health import Live
from opsbus_cmdb.impact import Graph, Hit, Level, reckon
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset, Change, ChangeState, Criticality, RelationType, Status
from opsbus_cmdb.overlay import counted, live_of
from opsbus_cmdb.query import DEPTH_MAX, ChangeQuery, Direction, TopologyQuery

_BUDGET_BYTES = 18_000
_ROOTS_MAX = 20
_WHOLES_MAX = 10
_AHEAD = timedelta(days=7)
_OPEN = [state for state in ChangeState if state not in {ChangeState.CLOSED, ChangeState.CANCELLED}]

LevelName = Literal["outage", "degraded", "at_risk"]


class ImpactRow(BaseModel):
    """An asset that is hit."""

    ref: str
    level: LevelName = Field(
        description="outage: it fails; degraded: it loses a function or waits for a standby; at_risk: less in reserve."
    )
    confidence: float = Field(ge=0, le=1, description="Falls with each step, and with what no source has seen lately.")
    steps: int
    reason: str = Field(description="The relationship that passes it on.")
    via: list[str] = Field(default_factory=list, description="Assets between, from what fails to this one.")
    status: Status
    criticality: Criticality
    environment: str
    owner_team: str
    live: Live = Field(description="How it does right now.")


class ScheduledChange(BaseModel):
    """A change of an asset that fails or is hit, open or planned within seven days."""

    number: str
    title: str
    state: ChangeState
    planned_start: datetime | None
    asset_refs: list[str]


class Impact(Page[ImpactRow]):
    """What is hit, the worst and surest first."""

    fails: list[str] = Field(description="Refs of what is taken to fail.")
    counts: dict[str, int] = Field(description="Of all that is hit, by level.")
    teams: dict[str, int] = Field(description="Of all that is hit, by owner.")
    incidents: list[str] = Field(description="Refs of those hit that are recorded as not operational already.")
    live: dict[str, int] = Field(default_factory=dict, description="How many do how right now; unknown is no ok.")
    fails_live: dict[str, Live] = Field(default_factory=dict, description="How what is taken to fail does right now.")
    changes: list[ScheduledChange] = Field(default_factory=list)

    def to_text(self) -> str:
        """What a person reads."""
        told = ", ".join(f"{count} {level}" for level, count in self.counts.items()) or "nothing that is recorded"
        lines = [f"If {', '.join(self.fails)} fails, it hits: {told}"]
        if self.live:
            lines.append("Right now: " + ", ".join(f"{count} {state}" for state, count in self.live.items()))
        lines += [f"{ref}: {live.line()}" for ref, live in self.fails_live.items() if live.health != "unknown"]
        lines += [
            f"- {row.level} {row.ref} ({row.criticality.value}, {row.owner_team or 'no owner'},"
            f" {row.confidence:.0%}): {row.reason}{'' if row.live.health == 'unknown' else '; ' + row.live.line()}"
            for row in self.items[:40]
        ]
        if self.incidents:
            lines.append(f"Not well already: {', '.join(self.incidents[:10])}")
        lines += [f"- open change {item.number}: {item.title} ({item.state.value})" for item in self.changes[:10]]
        return "\n".join([*lines, *self.warnings])


async def get_impact(
    ctx: Context[Inventory],
    asset: Annotated[
        str | None, Field(description="What fails: id, ref (kind:namespace/name) or unique name.", max_length=400)
    ] = None,
    change: Annotated[
        str | None, Field(description="Or a change: everything that it touches fails.", max_length=64)
    ] = None,
    depth: Annotated[int, Field(ge=1, le=DEPTH_MAX, description="Steps to walk.")] = 3,
    node_limit: Annotated[int, Field(ge=1, le=200, description="Assets walked at most for each that fails.")] = 100,
) -> Impact:
    """What an outage of an asset, or a change, would hit: how badly, how surely, why, and whom to tell.

    Redundancy is reckoned with: who needs something of which there are several is at risk or degraded, not down. Use
    cmdb_get_service_topology for the bare map, cmdb_check_change_conflicts for dates.
    Example: {"asset": "database:shop/catalog-db"}
    """
    inventory = ctx.state
    roots = await _roots(inventory, asset, change)
    graph, truncated = await _walked(inventory, roots, depth, node_limit)
    now = datetime.now(UTC)
    hits = reckon(graph, [root.id for root in roots], now)
    refs = [*(root.ref for root in roots), *(hit.asset.ref for hit in hits)]
    found = await inventory.find_changes(ChangeQuery(assets=refs[:200], until=now + _AHEAD, states=_OPEN), 10, None)
    own = {change} if change else set()
    live, told = await live_of(inventory, [*roots, *(hit.asset for hit in hits)])
    page = Page[ImpactRow].fit(
        [_row(hit, live[hit.asset.id]) for hit in hits],
        budget_bytes=_BUDGET_BYTES,
        total=len(hits),
        warnings=told,
        source=inventory.source,
    )
    if truncated:
        page.warnings.append(f"more is within reach: raise node_limit (now {node_limit}) or lower depth")
        page.page.truncated, page.page.total = True, None
    return Impact(
        **dict(page),
        fails=[root.ref for root in roots],
        counts={level.name.lower(): n for level in reversed(Level) if (n := sum(h.level is level for h in hits))},
        teams=_teams(hits),
        incidents=[hit.asset.ref for hit in hits if hit.asset.status is not Status.OPERATIONAL],
        live=counted([live[hit.asset.id] for hit in hits]),
        fails_live={root.ref: live[root.id] for root in roots},
        changes=[_scheduled(item) for item in found.items if item.number not in own],
    )


async def _roots(inventory: Inventory, asset: str | None, change: str | None) -> list[Asset]:
    if bool(asset) == bool(change):
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "give an asset or a change", hint="exactly one of the two")
    if asset:
        return [await inventory.get_asset(asset)]
    record = await inventory.get_change(str(change))
    if not record.asset_refs:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED, f"{record.number} names no asset", hint="ask with asset in place of change"
        )
    if len(record.asset_refs) > _ROOTS_MAX:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{record.number} touches {len(record.asset_refs)} assets, {_ROOTS_MAX} can be looked at",
            hint="ask for the assets one by one",
        )
    return [await inventory.get_asset(ref) for ref in record.asset_refs]


async def _walked(inventory: Inventory, roots: list[Asset], depth: int, nodes_max: int) -> tuple[Graph, bool]:
    """What needs the roots, and what needs the wholes that they are part of."""
    graph, truncated = Graph(), False
    upward = TopologyQuery(direction=Direction.DEPENDENTS, depth=depth, nodes_max=nodes_max)
    whole = TopologyQuery(
        direction=Direction.DEPENDENCIES, depth=1, nodes_max=_WHOLES_MAX, types=[RelationType.PART_OF]
    )
    for root in roots:
        found = await inventory.topology(root.id, upward)
        graph.add((node.asset for node in found.nodes), found.edges)
        parts = await inventory.topology(root.id, whole)
        truncated = truncated or found.truncated or parts.truncated
        # A whole suffers with its part: the relationship is read the other way round.
        turned = [edge.model_copy(update={"from_id": edge.to_id, "to_id": edge.from_id}) for edge in parts.edges]
        graph.add((node.asset for node in parts.nodes), turned)
        if depth > 1:
            for node in parts.nodes[1:]:
                around = await inventory.topology(node.asset.id, upward.model_copy(update={"depth": depth - 1}))
                truncated = truncated or around.truncated
                graph.add(
                    (item.asset for item in around.nodes),
                    (edge for edge in around.edges if edge.type is not RelationType.PART_OF),
                )
    return graph, truncated


def _row(hit: Hit, live: Live) -> ImpactRow:
    asset = hit.asset
    return ImpactRow.model_validate(
        {
            "ref": asset.ref,
            "level": hit.level.name.lower(),
            "confidence": hit.confidence,
            "steps": hit.steps,
            "reason": hit.reason,
            "via": list(hit.via),
            "status": asset.status,
            "criticality": asset.criticality,
            "environment": asset.environment,
            "owner_team": asset.owner_team,
            "live": live,
        }
    )


def _teams(hits: list[Hit]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for hit in hits:
        team = hit.asset.owner_team or "(none)"
        counted[team] = counted.get(team, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:20])


def _scheduled(item: Change) -> ScheduledChange:
    return ScheduledChange.model_validate(item.model_dump())
