"""Walking the relationships, level by level: one statement for the edges of a level and one for its assets."""

from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import asset_store
from opsbus_cmdb.history import relationships_at
from opsbus_cmdb.inventory import Topology, TopologyNode
from opsbus_cmdb.model import Asset, Relationship
from opsbus_cmdb.query import Direction, TopologyQuery

_EDGES_PER_NODE = 20
"""Edges read of one level at most, per node allowed: a hub with a million relationships cannot fill the memory."""


async def walk(connection: AsyncConnection, key: str, query: TopologyQuery) -> Topology:
    """Breadth first from an asset. An asset is visited once, so a cycle ends where it began."""
    root = await asset_store.get(connection, key, query.as_of)
    depths: dict[str, int] = {root.id: 0}
    assets: dict[str, Asset] = {root.id: root}
    edges: dict[str, Relationship] = {}
    undated: set[str] = set()
    truncated = False
    # Each direction is walked by itself: mixing them would turn back and list siblings as if they mattered.
    for forward in _ways(query.direction):
        frontier = [root.id]
        seen = {root.id}
        for depth in range(1, query.depth + 1):
            rows, cut, without_beginning = await _level(connection, frontier, query, forward)
            truncated = truncated or cut
            frontier = _reached(rows, forward, seen)
            fresh = [node for node in frontier if node not in depths]
            room = query.nodes_max - len(depths)
            if len(fresh) > room:
                truncated = True
                dropped = set(fresh[room:])
                frontier = [node for node in frontier if node not in dropped]
                fresh = fresh[:room]
            assets |= await asset_store.get_many(connection, fresh, query.as_of) if fresh else {}
            # A relationship without a recorded beginning may lead to what was not there yet.
            frontier = [node for node in frontier if node in assets]
            edges |= {row.id: row for row in rows}
            undated |= without_beginning
            for node in frontier:
                depths[node] = min(depth, depths.get(node, depth))
            if not frontier:
                break
    kept = [edge for edge in edges.values() if edge.from_id in depths and edge.to_id in depths]
    nodes = [TopologyNode(asset=assets[node], depth=depth) for node, depth in depths.items()]
    nodes.sort(key=lambda node: (node.depth, node.asset.ref))
    return Topology(
        root=root.id,
        nodes=nodes,
        edges=kept,
        truncated=truncated,
        as_of=query.as_of,
        undated=sum(edge.id in undated for edge in kept) if query.as_of else 0,
    )


def _ways(direction: Direction) -> list[bool]:
    """True follows a relationship forward, to what is needed."""
    return {Direction.DEPENDENCIES: [True], Direction.DEPENDENTS: [False], Direction.BOTH: [True, False]}[direction]


def _reached(rows: list[Relationship], forward: bool, seen: set[str]) -> list[str]:
    found: list[str] = []
    for row in rows:
        node = row.to_id if forward else row.from_id
        if node not in seen:
            seen.add(node)
            found.append(node)
    return found


async def _level(
    connection: AsyncConnection, frontier: list[str], query: TopologyQuery, forward: bool
) -> tuple[list[Relationship], bool, set[str]]:
    """Relationships of a level, whether there are more, and the ids of those without a recorded beginning."""
    edge = relationships_at(query.as_of)
    near, far = (edge.c.from_id, edge.c.to_id) if forward else (edge.c.to_id, edge.c.from_id)
    most = query.nodes_max * _EDGES_PER_NODE
    statement: Select[tuple[object, ...]] = select(edge).where(near.in_(frontier))
    if query.types:
        statement = statement.where(or_(*(edge.c.type == kind.value for kind in query.types)))
    statement = statement.order_by(edge.c.type, near, far).limit(most + 1)
    rows = (await connection.execute(statement)).all()
    undated = {row.id for row in rows if row.valid_from is None}
    return [Relationship.model_validate(row._mapping) for row in rows[:most]], len(rows) > most, undated
