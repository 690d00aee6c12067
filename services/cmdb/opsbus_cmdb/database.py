"""The database behind the embedded store: address, engine, schema step. Tables live in tables.py, queries in the
store."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, MetaData

from opsbus import ErrorCode, ToolError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_SCHEMA_LOCK = 0x6F70_636D
"""Two workers that start at once create the tables one after the other (PostgreSQL advisory lock)."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime. SQLite forgets the zone, so everything is stored as UTC and read back as such."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a naive time is a programming error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time does not say when")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Back with its zone."""
        if value is None:
            return None
        stored: datetime = value
        return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


def database_url(given: str) -> URL:
    """``sqlite:///file`` or ``postgresql://...``, with the asynchronous driver put in.

    Raises:
        ValueError: another kind of database, or no URL at all.
    """
    try:
        url = make_url(given)
    except ArgumentError as wrong:
        raise ValueError("a database URL looks like sqlite:///cmdb.sqlite3 or postgresql://user@host/name") from wrong
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"no store for {url.drivername!r}; use sqlite:///... or postgresql://...")
    return url.set(drivername=driver)


def open_engine(given: str, statement_timeout_s: float = 10.0) -> AsyncEngine:
    """An engine with bounds on connections and waits; the folder of a SQLite file is made."""
    url = database_url(given)
    if url.drivername == "postgresql+asyncpg":
        return create_async_engine(
            url,
            pool_size=5,
            max_overflow=5,
            pool_timeout=statement_timeout_s,
            pool_pre_ping=True,
            connect_args={"timeout": statement_timeout_s, "command_timeout": statement_timeout_s},
        )
    if url.database and url.database != ":memory:":
        Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, connect_args={"timeout": statement_timeout_s})
    event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: what was committed survives a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
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


def unavailable(what: str, error: Exception) -> ToolError:
    """A database error as a caller may see it: no statement, no address, no secret."""
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"the CMDB's database did not answer while {what} ({type(error).__name__})",
        hint="try again shortly; if it stays, check the database behind OPSBUS_CMDB_DATABASE_URL and the worker's log",
    )
