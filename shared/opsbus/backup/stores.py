"""The services' stores: which there are (entry points, group ``opsbus.stores``) and where each one is."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.commands.where import run_facts
from opsbus.database import create_schema
from opsbus.up.folder import Folder

GROUP = "opsbus.stores"


BeforeRows = Callable[[AsyncConnection, Table, list[dict[str, Any]]], Awaitable[None]]


@dataclass(frozen=True)
class Store:
    """A service's store."""

    name: str
    """The service's token."""
    metadata: MetaData
    """Its tables."""
    create: Callable[[AsyncEngine], Awaitable[None]] | None = None
    """Makes the tables where making them takes more than the metadata says."""
    before_rows: BeforeRows | None = None
    """Makes room for rows that are about to be restored, in their transaction."""

    async def prepare(self, engine: AsyncEngine) -> None:
        """Make what is missing."""
        if self.create is not None:
            await self.create(engine)
        else:
            await create_schema(engine, self.metadata)


def installed_stores() -> list[Store]:
    """Of every service that is installed here, by name."""
    found: list[Store] = [entry.load() for entry in entry_points(group=GROUP)]
    return sorted(found, key=lambda store: store.name)


def store_url(name: str, data: Path) -> str | None:
    """Where a store is: OPSBUS_<NAME>_DATABASE_URL, the running platform's, DATABASE_URL, the data folder's file.

    None: nowhere. A file that is to be restored need not exist yet.
    """
    for candidate in (
        os.environ.get(f"OPSBUS_{name.upper().replace('-', '_')}_DATABASE_URL"),
        run_facts(data).get(f"{name}_database_url"),
        os.environ.get("DATABASE_URL"),
    ):
        if isinstance(candidate, str) and candidate:
            return candidate
    folder = Folder(data).state
    return f"sqlite:///{folder / name}.sqlite3" if folder.is_dir() else None
