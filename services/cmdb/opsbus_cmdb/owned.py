"""Assets as owners are told of them: which, and what of each. Telling them is owners_told.py's."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.owners import KINDS, Owned
from opsbus_cmdb import tables
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Criticality, Lifecycle
from opsbus_cmdb.query import LIMIT_MAX, AssetQuery

SERVICE_KINDS = ("service", "application")
SERVICE_KEYS = ("service", "app.kubernetes.io/part-of")
CONTACT_KEYS = ("on_call", "contact", "chat")
ALIVE = tuple(state.value for state in Lifecycle if state not in (Lifecycle.PLANNED, Lifecycle.RETIRED))
"""Nothing fires for what is not there yet or any more."""

LOOKED_MAX = 100_000
_PAGE = 500
_READ = (
    "ref", "kind", "namespace", "name", "environment", "owner_team", "criticality", "attributes", "labels",
)  # fmt: skip
_asset = tables.asset


def owned_of(row: Mapping[str, Any]) -> Owned:
    """An asset's fields as they are told."""
    attributes, labels = row["attributes"] or {}, row["labels"] or {}
    told = (attributes.get(key) for key in CONTACT_KEYS)
    named = (labels.get(key) or attributes.get(key) for key in SERVICE_KEYS)
    service = row["name"] if row["kind"] in SERVICE_KINDS else next((text for text in named if text), "")
    contact = next((text for text in told if isinstance(text, str) and text), None)
    return Owned(
        ref=row["ref"],
        kind=row["kind"],
        namespace=row["namespace"],
        name=row["name"],
        service=str(service)[:200],
        environment=row["environment"],
        owner_team=row["owner_team"],
        contact=contact[:200] if contact else None,
        criticality=str(row["criticality"]),
    )


async def read(connection: AsyncConnection, most: int) -> list[Owned]:
    """By criticality, then ref; in pages, so that a large estate holds up no call for long."""
    found: list[Owned] = []
    for level in Criticality:
        after = ""
        while len(found) < most:
            statement = (
                select(*(_asset.c[name] for name in _READ))
                .where(
                    _asset.c.owner_team != "",
                    _asset.c.kind.in_(KINDS),
                    _asset.c.lifecycle.in_(ALIVE),
                    _asset.c.criticality == level.value,
                    _asset.c.ref > after,
                )
                .order_by(_asset.c.ref)
                .limit(min(_PAGE, most - len(found)))
            )
            rows = (await connection.execute(statement)).all()
            found += [owned_of(dict(row._mapping)) for row in rows]
            await asyncio.sleep(0)
            if len(rows) < _PAGE:
                break
            after = rows[-1].ref
    return found


async def paged(inventory: Inventory, most: int) -> list[Owned]:
    """Of an inventory elsewhere: page by page as it gives them, ordered here, and no more than so many looked at."""
    query = AssetQuery(filters={"kind": list(KINDS)})
    found: list[tuple[int, str, Owned]] = []
    looked, cursor = 0, None
    while looked < LOOKED_MAX:
        page = await inventory.find_assets(query, LIMIT_MAX, cursor)
        looked += len(page.items)
        found += [
            (list(Criticality).index(asset.criticality), asset.ref, owned_of(asset.model_dump()))
            for asset in page.items
            if asset.owner_team and asset.lifecycle.value in ALIVE
        ]
        cursor = page.next_cursor
        if cursor is None:
            break
    return [owned for _, _, owned in sorted(found, key=lambda item: item[:2])[:most]]


async def mark(connection: AsyncConnection) -> str:
    """Every change of an asset leaves the row that was, and every new one is one more; both are in an index."""
    count = (await connection.execute(select(func.count()).select_from(_asset))).scalar_one()
    latest = (await connection.execute(select(func.max(tables.asset_past.c.valid_to)))).scalar_one()
    return f"{count} {latest.isoformat() if latest else ''}"
