"""What is reached from an object of NetBox, a step at a time: forward along what objects name, backward by asking who
names them. Never loops, never holds more than the node limit."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from opsbus_cmdb.inventory import Topology, TopologyNode
from opsbus_cmdb.model import Asset, Relationship
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.mapping import (
    CLUSTER,
    DEVICE,
    LOCATION,
    SERVICE,
    SITE,
    SOURCE,
    VM,
    Edge,
    Kind,
    edges_of,
    key_of,
    parse_key,
)
from opsbus_cmdb.netbox.schema import Cluster, Device, Object
from opsbus_cmdb.query import Direction, TopologyQuery

_NAMING: dict[Kind, tuple[tuple[Kind, str], ...]] = {
    SITE: ((LOCATION, "site_id"), (CLUSTER, "site_id"), (DEVICE, "site_id"), (VM, "site_id")),
    LOCATION: ((LOCATION, "parent_id"), (CLUSTER, "location_id"), (DEVICE, "location_id")),
    CLUSTER: ((DEVICE, "cluster_id"), (VM, "cluster_id")),
    DEVICE: ((DEVICE, "parent_device_id"), (VM, "device_id"), (SERVICE, "device_id")),
    VM: ((SERVICE, "virtual_machine_id"),),
}
"""Who may name an object of a kind, and the filter that finds them."""
_IDS_AT_ONCE = 50
_LOOKED_MAX = 1_000
"""Objects looked through at most for those that need one of a level; a site's list holds also what is in its rooms."""
_PAGE = 250


@dataclass
class Walk:
    """What was reached, nearest first."""

    query: TopologyQuery
    nodes: dict[str, tuple[Object, int]] = field(default_factory=dict)
    truncated: bool = False

    def objects(self) -> list[Object]:
        """All of them."""
        return [obj for obj, _ in self.nodes.values()]

    def needs(self, obj: Object) -> list[Edge]:
        """What an object needs, of the types asked for."""
        several = 0
        if isinstance(obj, Device) and obj.cluster:
            cluster = self.nodes.get(f"{CLUSTER.object_type}:{obj.cluster.id}")
            several = cluster[0].device_count if cluster and isinstance(cluster[0], Cluster) else 0
        return [edge for edge in edges_of(obj, several) if not self.query.types or edge.type in self.query.types]

    def take(self, found: Iterable[Object], depth: int) -> list[Object]:
        """Those that are new, as many as there is room for."""
        fresh: list[Object] = []
        for obj in found:
            if key_of(obj) in self.nodes:
                continue
            if len(self.nodes) >= self.query.nodes_max:
                self.truncated = True
                break
            self.nodes[key_of(obj)] = (obj, depth)
            fresh.append(obj)
        return fresh

    def told(self, root: str, asset: Callable[[Object], Asset]) -> Topology:
        """As the port tells it, with every relationship between the nodes."""
        ordered = sorted(self.nodes.values(), key=lambda node: node[1])
        edges = [
            Relationship(
                id=f"{key_of(obj)}>{edge.type}>{edge.to}"[:128],
                from_id=key_of(obj),
                to_id=edge.to,
                type=edge.type,
                impact=edge.impact,
                redundancy=edge.redundancy,
                source=SOURCE,
            )
            for obj, _ in ordered
            for edge in self.needs(obj)
            if edge.to in self.nodes
        ]
        nodes = [TopologyNode(asset=asset(obj), depth=depth) for obj, depth in ordered]
        return Topology(root=root, nodes=nodes, edges=edges, truncated=self.truncated)


async def walk(netbox: NetBox, root: Object, query: TopologyQuery) -> Walk:
    """Go from an object as far and along what the question says."""
    found = Walk(query)
    found.take([root], 0)
    for way, step in ((Direction.DEPENDENCIES, _needed), (Direction.DEPENDENTS, _needing)):
        if query.direction not in (way, Direction.BOTH):
            continue
        frontier = [root]
        for depth in range(1, query.depth + 1):
            frontier = found.take(await step(netbox, frontier, found), depth)
            if not frontier:
                break
    return found


async def _needed(netbox: NetBox, frontier: list[Object], found: Walk) -> list[Object]:
    wanted: dict[Kind, set[int]] = {}
    for obj in frontier:
        for edge in found.needs(obj):
            parsed = parse_key(edge.to)
            if parsed and edge.to not in found.nodes:
                wanted.setdefault(parsed[0], set()).add(parsed[1])
    asked = [(kind, some) for kind, ids in wanted.items() for some in _chunks(sorted(ids))]
    found_by = await asyncio.gather(
        *(netbox.all(kind.path, kind.model, [("id", str(number)) for number in some]) for kind, some in asked)
    )
    return [obj for (_, some), objects in zip(asked, found_by, strict=True) for obj in objects if obj.id in some]


async def _needing(netbox: NetBox, frontier: list[Object], found: Walk) -> list[Object]:
    level = {key_of(obj) for obj in frontier}
    asked = []
    for kind, naming in _NAMING.items():
        ids = sorted(number for parsed, number in map(_parsed, level) if parsed is kind)
        asked += [(other, name, some) for some in _chunks(ids) for other, name in naming]
    found_by = await asyncio.gather(*(_who_need(netbox, *question, level, found) for question in asked))
    return [obj for objects in found_by for obj in objects]


async def _who_need(
    netbox: NetBox, kind: Kind, name: str, ids: list[int], level: set[str], found: Walk
) -> list[Object]:
    """Objects of a kind that need one of the level. A list by site holds more than that, so each is looked at."""
    reached: list[Object] = []
    looked = 0
    room = found.query.nodes_max - len(found.nodes) + 1
    async for page in netbox.pages(kind.path, kind.model, [(name, str(number)) for number in ids], _PAGE):
        reached += [obj for obj in page.results if any(edge.to in level for edge in found.needs(obj))]
        looked += len(page.results)
        if page.next and (looked >= _LOOKED_MAX or len(reached) >= room):
            found.truncated = True
            break
    return reached


def _parsed(key: str) -> tuple[Kind | None, int]:
    return parse_key(key) or (None, 0)


def _chunks(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE)]
