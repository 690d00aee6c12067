"""Marks and live health as the tools show them, where the inventory keeps them. Another CMDB does not: then nothing is
shown as well, and it is said."""

from collections.abc import Sequence
from datetime import UTC, datetime

from opsbus_cmdb.health import Live
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.marks import Mark
from opsbus_cmdb.model import Asset
from opsbus_cmdb.store import EmbeddedInventory


def keeper(inventory: Inventory) -> EmbeddedInventory | None:
    """The inventory, if it keeps marks and live health."""
    return inventory if isinstance(inventory, EmbeddedInventory) and inventory.learns else None


async def marks_of(inventory: Inventory, assets: Sequence[Asset]) -> dict[str, list[Mark]]:
    """Drift by asset id; nothing where none is kept."""
    kept = keeper(inventory)
    return await kept.marks([asset.id for asset in assets]) if kept is not None and assets else {}


async def live_of(
    inventory: Inventory, assets: Sequence[Asset], as_of: datetime | None = None
) -> tuple[dict[str, Live], list[str]]:
    """Live health by asset id, and what must be said of it. Of the past there is none."""
    if as_of is not None:
        return {}, ["live health is of now, and not shown for a past time"]
    kept = keeper(inventory)
    if kept is None:
        unknown = Live(health="unknown")
        return {asset.id: unknown for asset in assets}, [f"{inventory.source} keeps no live health: unknown is no ok"]
    return await kept.live(assets, datetime.now(UTC)), []


def counted(live: Sequence[Live]) -> dict[str, int]:
    """How many do how, the worst first."""
    states = [item.health for item in live]
    return {state: states.count(state) for state in ("down", "degraded", "unknown", "ok") if state in states}
