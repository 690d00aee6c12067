"""What ``opsbus backup`` takes of this service: its embedded store."""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.backup.stores import Store
from opsbus_cmdb.history import rank, search_text
from opsbus_cmdb.migrations.upgrade import migrate
from opsbus_cmdb.tables import asset, metadata


async def _as_now(_connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """A backup from before there was a history lacks what the revisions would have filled in."""
    if table is asset:
        for row in rows:
            row.setdefault("rank", rank(row["status"], row["criticality"]))
            row.setdefault("search", search_text(row))
            row.setdefault("valid_from", row["created_at"])


store = Store("cmdb", metadata, create=migrate, before_rows=_as_now)
