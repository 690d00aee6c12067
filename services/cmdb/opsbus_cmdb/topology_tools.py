"""What a service needs and what needs it: the tool `cmdb_get_service_topology`. The walk itself is the inventory's."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from opsbus import Context, Page
from opsbus.page import PageInfo
from opsbus_cmdb.health import Live
from opsbus_cmdb.inventory import Inventory, Topology
from opsbus_cmdb.model import INVERSE, Criticality, Lifecycle, RelationType, Status
from opsbus_cmdb.moments import AsOf, past, reservations
from opsbus_cmdb.overlay import counted, live_of
from opsbus_cmdb.query import DEPTH_MAX, Direction, TopologyQuery

_BUDGET_BYTES = 22_000


def _absent(value: object) -> bool:
    return value is None


class TopologyAsset(BaseModel):
    """An asset of the topology."""

    id: str
    ref: str
    depth: int = Field(description="Steps from the service asked about; 0 is itself.")
    status: Status
    lifecycle: Lifecycle
    criticality: Criticality
    environment: str
    owner_team: str
    live: Live | None = Field(default=None, description="How it does right now.", exclude_if=_absent)


class TopologyEdge(BaseModel):
    """`from_ref` needs `to_ref`."""

    from_ref: str
    to_ref: str
    type: RelationType
    inverse: str = Field(description="The same, read from to_ref.")
    impact: str = Field(description="hard: from_ref fails with to_ref.")
    redundancy: str


class TopologyPage(Page[TopologyAsset]):
    """The assets reached, nearest first, and the relationships between them."""

    root: str = Field(description="Ref of the asset walked from.")
    direction: Direction
    depth: int
    edges: list[TopologyEdge]
    unhealthy: list[str] = Field(default_factory=list, description="Refs of those recorded as not operational.")
    live: dict[str, int] = Field(default_factory=dict, description="How many do how right now; unknown is no ok.")

    def to_text(self) -> str:
        """What a person reads."""
        lines = [f"{self.root}: {len(self.items) - 1} assets ({self.direction.value}, depth {self.depth})"]
        if self.live:
            lines.append("Right now: " + ", ".join(f"{count} {state}" for state, count in self.live.items()))
        lines += [f"{'  ' * item.depth}- {item.ref} {item.status.value}, {_told(item)}" for item in self.items[:60]]
        lines += [f"{edge.from_ref} {edge.type.value} {edge.to_ref} ({edge.impact})" for edge in self.edges[:60]]
        return "\n".join([*lines, *self.warnings])


def _told(item: TopologyAsset) -> str:
    known = item.live is not None and item.live.health != "unknown"
    return f"{item.owner_team}; {item.live.line()}" if known and item.live else item.owner_team


async def get_service_topology(
    ctx: Context[Inventory],
    service: Annotated[
        str, Field(description="Id, ref (kind:namespace/name) or unique name.", min_length=1, max_length=400)
    ],
    direction: Annotated[
        Direction, Field(description="dependencies: what it needs; dependents: what needs it; both: each way.")
    ] = Direction.BOTH,
    depth: Annotated[int, Field(ge=1, le=DEPTH_MAX, description="Steps to walk.")] = 2,
    node_limit: Annotated[int, Field(ge=1, le=200, description="Assets at most, the nearest first.")] = 60,
    relation_types: Annotated[
        list[RelationType] | None, Field(description="Only along these; default all.", max_length=10)
    ] = None,
    as_of: AsOf = None,
) -> TopologyPage:
    """The dependency map around a service (or any asset): what it needs, what needs it, and who is unwell.

    Cycles end where they began. When more is within reach than the node limit or the answer's budget lets through,
    `page.truncated` is true and a warning says how to see the rest. With as_of: as it was recorded at a past time, to
    see what changed around an incident. Example: {"service": "service:shop/checkout", "as_of": "now-2h"}
    """
    query = TopologyQuery(
        direction=direction, depth=depth, nodes_max=node_limit, types=relation_types or [], as_of=past(as_of)
    )
    found = await ctx.state.topology(service, query)
    live, told = await live_of(ctx.state, [node.asset for node in found.nodes], query.as_of)
    kept = len(found.nodes)
    answer = _page(found, query, ctx.state.source, kept, live)
    while len(answer.model_dump_json()) > _BUDGET_BYTES and kept > 1:
        kept = max(1, kept * 4 // 5)
        answer = _page(found, query, ctx.state.source, kept, live)
    answer.warnings += told
    return answer


def _page(found: Topology, query: TopologyQuery, source: str, kept: int, live: dict[str, Live]) -> TopologyPage:
    nodes = found.nodes[:kept]
    refs = {node.asset.id: node.asset.ref for node in nodes}
    edges = [
        TopologyEdge(
            from_ref=refs[edge.from_id],
            to_ref=refs[edge.to_id],
            type=edge.type,
            inverse=INVERSE[edge.type],
            impact=edge.impact,
            redundancy=edge.redundancy,
        )
        for edge in found.edges
        if edge.from_id in refs and edge.to_id in refs
    ]
    warnings = reservations(query.as_of, [node.asset for node in nodes], found.undated)
    if found.truncated:
        warnings.append(
            f"more is within reach: raise node_limit (now {query.nodes_max}), lower depth or name relation_types"
        )
    if kept < len(found.nodes):
        warnings.append(
            f"{len(found.nodes) - kept} of {len(found.nodes)} assets, the farthest, were left out to keep the answer"
            " small: ask from one of the assets shown, or with a smaller depth"
        )
    cut = found.truncated or kept < len(found.nodes)
    return TopologyPage(
        items=[_item(node.asset.model_dump(), node.depth, live.get(node.asset.id)) for node in nodes],
        page=PageInfo(returned=kept, total=None if found.truncated else len(found.nodes), truncated=cut),
        warnings=warnings,
        as_of=query.as_of or datetime.now(UTC),
        source=source,
        root=found.nodes[0].asset.ref,
        direction=query.direction,
        depth=query.depth,
        edges=edges,
        unhealthy=[node.asset.ref for node in nodes if node.asset.status is not Status.OPERATIONAL],
        live=counted([live[node.asset.id] for node in nodes if node.asset.id in live]),
    )


def _item(asset: dict[str, object], depth: int, live: Live | None) -> TopologyAsset:
    return TopologyAsset.model_validate({**asset, "depth": depth, "live": live})
