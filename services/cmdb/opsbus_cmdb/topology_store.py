"""Walking the relationships, level by level: one statement for the edges of a level and one for its assets."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import asset_store
from opsbus_cmdb.among import among
from opsbus_cmdb.history import relationships_at
from opsbus_cmdb.inventory import Topology, TopologyNode
from opsbus_cmdb.model import Asset, Relationship
from opsbus_cmdb.query import Direction, TopologyQuery

_IDS_AT_ONCE = 1_000
_EDGES_PER_NODE = 20
"""Edges read of one level at most, per node allowed: a hub with a million relationships cannot fill the memory."""


async def walk(connection: AsyncConnection, key: str, query: TopologyQuery) -> Topology:
    """Breadth first from an asset. An asset is visited once, so a cycle ends where it began."""
    root = await asset_store.get(connection, key, query.as_of)
    depths: dict[str, int] = {root.id: 0}
    assets: dict[str, Asset] = {root.id: root}
    edges: dict[str, tuple[str, str]] = {}
    truncated = False
    # Each direction is walked by itself: mixing them would turn back and list siblings as if they mattered.
    for forward in _ways(query.direction):
        frontier = [root.id]
        seen = {root.id}
        for depth in range(1, query.depth + 1):
            rows, cut = await _level(connection, frontier, query, forward)
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
            edges |= {row.id: (row.from_id, row.to_id) for row in rows}
            for node in frontier:
                depths[node] = min(depth, depths.get(node, depth))
            if not frontier:
                break
    between = [key for key, (source, target) in edges.items() if source in depths and target in depths]
    kept, undated = await _whole(connection, between, query)
    nodes = [TopologyNode(asset=assets[node], depth=depth) for node, depth in depths.items()]
    nodes.sort(key=lambda node: (node.depth, node.asset.ref))
    return Topology(
        root=root.id,
        nodes=nodes,
        edges=kept,
        truncated=truncated,
        as_of=query.as_of,
        undated=undated if query.as_of else 0,
    )


async def _whole(connection: AsyncConnection, ids: list[str], query: TopologyQuery) -> tuple[list[Relationship], int]:
    """Relationships in the order of ``ids``, and of how many the beginning is not recorded."""
    edge = relationships_at(query.as_of)
    found: dict[str, Any] = {}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        chosen = select(edge).where(among(edge.c.id, ids[start : start + _IDS_AT_ONCE], connection.dialect.name))
        found |= {row.id: row for row in await connection.execute(chosen)}
    rows = [found[key] for key in ids]
    return [Relationship.model_validate(row._mapping) for row in rows], sum(row.valid_from is None for row in rows)


def _ways(direction: Direction) -> list[bool]:
    """True follows a relationship forward, to what is needed."""
    return {Direction.DEPENDENCIES: [True], Direction.DEPENDENTS: [False], Direction.BOTH: [True, False]}[direction]


def _reached(rows: Sequence[Any], forward: bool, seen: set[str]) -> list[str]:
    found: list[str] = []
    for row in rows:
        node = row.to_id if forward else row.from_id
        if node not in seen:
            seen.add(node)
            found.append(node)
    return found


async def _level(
    connection: AsyncConnection, frontier: list[str], query: TopologyQuery, forward: bool
) -> tuple[Sequence[Any], bool]:
    """Ids of relationships of a level and of their ends, and whether there are more."""
    edge = relationships_at(query.as_of, ("id", "from_id", "to_id", "type"))
    near, far = (edge.c.from_id, edge.c.to_id) if forward else (edge.c.to_id, edge.c.from_id)
    most = query.nodes_max * _EDGES_PER_NODE
    # No more than an index holds: of a hub's thousands most are not kept.
    statement = select(edge.c.id, edge.c.from_id, edge.c.to_id).where(among(near, frontier, connection.dialect.name))
    if query.types:
        statement = statement.where(edge.c.type.in_([kind.value for kind in query.types]))
    statement = statement.order_by(edge.c.type, near, far).limit(most + 1)
    rows = (await connection.execute(statement)).all()
    return rows[:most], len(rows) > most
