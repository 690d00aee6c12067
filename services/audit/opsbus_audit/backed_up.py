"""What ``opsbus backup`` takes of this service: its store."""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.backup.stores import Store
from opsbus_audit.partitions import add_months, is_partitioned, month_of
from opsbus_audit.tables import event, metadata


async def _months_for(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    if table is event and await is_partitioned(connection):
        await add_months(connection, {month_of(row["stored_ns"]) for row in rows})


store = Store("audit", metadata, before_rows=_months_for)
