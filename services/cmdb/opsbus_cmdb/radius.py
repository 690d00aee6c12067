"""Who feels a write: the blast radius of a plan. What an outage would do stands in impact.py."""

from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset, Criticality
from opsbus_cmdb.query import Direction, TopologyQuery

_DEPTH = 3
_NODES = 100
_NAMED = 8


async def dependents_of(inventory: Inventory, assets: list[Asset]) -> tuple[list[Asset], bool]:
    """What needs any of the assets, nearest first, without them; and whether there is more."""
    own = {asset.id for asset in assets}
    found: dict[str, Asset] = {}
    truncated = False
    for asset in assets:
        query = TopologyQuery(direction=Direction.DEPENDENTS, depth=_DEPTH, nodes_max=_NODES)
        reached = await inventory.topology(asset.id, query)
        truncated = truncated or reached.truncated
        found |= {node.asset.id: node.asset for node in reached.nodes if node.asset.id not in own}
    return list(found.values()), truncated


def told(others: list[Asset], truncated: bool) -> str:
    """The blast radius in a sentence, the critical first."""
    if not others:
        return "nothing recorded needs it"
    critical = [asset for asset in others if asset.criticality is Criticality.CRITICAL]
    named = ", ".join(asset.ref for asset in [*critical, *(a for a in others if a not in critical)][:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    count = f"more than {len(others)}" if truncated else str(len(others))
    return f"{count} assets need it, {len(critical)} of them critical: {named}{more}"
