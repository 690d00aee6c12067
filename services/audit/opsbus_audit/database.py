"""The database behind the store: address, engine, schema step. Tables live in tables.py, statements in store.py and
search.py."""

import asyncio
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, MetaData

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_SCHEMA_LOCK = 0x6F70_6175
"""Two workers that start at once create the tables one after the other (PostgreSQL advisory lock)."""


def database_url(given: str) -> URL:
    """``sqlite:///file`` or ``postgresql://...``, with the asynchronous driver put in.

    Raises:
        ValueError: another kind of database, or no URL at all.
    """
    try:
        url = make_url(given)
    except ArgumentError as wrong:
        raise ValueError("a database URL looks like sqlite:///audit.sqlite3 or postgresql://user@host/name") from wrong
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"no store for {url.drivername!r}; use sqlite:///... or postgresql://...")
    return url.set(drivername=driver)


def open_engine(given: str, timeout_s: float = 10.0, *, read_only: bool = False) -> AsyncEngine:
    """An engine with bounds on connections and waits.

    Args:
        timeout_s: For connecting, and for a statement. Seconds.
        read_only: The database refuses writes of this engine; a SQLite file that is not there is not made.
    """
    url = database_url(given)
    if url.drivername == "postgresql+asyncpg":
        server_settings = {"default_transaction_read_only": "on"} if read_only else {}
        return create_async_engine(
            url,
            pool_size=5,
            max_overflow=5,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            connect_args={"timeout": timeout_s, "command_timeout": timeout_s, "server_settings": server_settings},
        )
    if not read_only and url.database and url.database != ":memory:":
        Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    if read_only and url.database:
        # As a URI: only that spelling lets SQLite open a file without the right to write or create it.
        address = Path(url.database).expanduser().resolve().as_uri() + "?mode=ro"
        url = url.set(database=address.replace("file://", "file:", 1), query={"uri": "true"})
    engine = create_async_engine(url, connect_args={"timeout": timeout_s})
    if not read_only:
        event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: what was committed survives a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


async def create_schema(engine: AsyncEngine, metadata: MetaData, timeout_s: float = 15.0) -> None:
    """Create what is missing; safe to run at every start and from several workers at once.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, OSError: the database cannot be used, or was locked for ``timeout_s``.
    """
    ends = time.monotonic() + timeout_s
    while True:
        try:
            return await _create(engine, metadata)
        except OperationalError as error:
            # SQLite does not wait for another process that switches the journal; PostgreSQL never says this.
            if "locked" not in str(error.orig) or time.monotonic() > ends:
                raise
        await asyncio.sleep(0.05)


async def _create(engine: AsyncEngine, metadata: MetaData) -> None:
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            # WAL, kept in the file: readers do not block the writer.
            await connection.execute(text("PRAGMA journal_mode=WAL"))
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        for table in metadata.sorted_tables:
            await connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda item: str(item.name)):
                await connection.execute(CreateIndex(index, if_not_exists=True))
