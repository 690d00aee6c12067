"""The database behind a service's embedded store: address, engine, schema step. SQLite or PostgreSQL.

Tables and statements are the service's own. Not imported by the kit itself: a service that has a store depends on
SQLAlchemy and the drivers.
"""

import asyncio
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, Engine, TypeDecorator, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable, MetaData

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


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
        raise ValueError("a database URL looks like sqlite:///file.sqlite3 or postgresql://user@host/name") from wrong
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"no store for {url.drivername!r}; use sqlite:///... or postgresql://...")
    return url.set(drivername=driver)


def open_engine(
    given: str, timeout_s: float = 10.0, *, read_only: bool = False, foreign_keys: bool = False
) -> AsyncEngine:
    """An engine with bounds on connections and waits. The folder of a SQLite file is made.

    Args:
        given: ``sqlite:///file`` or ``postgresql://...``.
        timeout_s: For connecting, and for a statement. Seconds.
        read_only: The database refuses writes of this engine; a SQLite file that is not there is not made.
        foreign_keys: SQLite checks them too.

    Raises:
        ValueError: another kind of database, or no URL at all.
        OSError: ``read_only``, and there is no readable file.
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
        # A failed connect of aiosqlite ends its thread after the loop may have gone, with a traceback: asked here.
        with Path(url.database).expanduser().open("rb"):
            pass
        # As a URI: only that spelling lets SQLite open a file without the right to write or create it.
        address = Path(url.database).expanduser().resolve().as_uri() + "?mode=ro"
        url = url.set(database=address.replace("file://", "file:", 1), query={"uri": "true"})
    engine = create_async_engine(url, connect_args={"timeout": timeout_s})
    if not read_only:
        _durable(engine.sync_engine, foreign_keys)
    return engine


def open_sqlite(given: str, timeout_s: float = 10.0) -> Engine:
    """An engine for a thread that writes to a SQLite file much at a time, beside one of ``open_engine``: there every
    statement waits its turn in the loop.

    Raises:
        ValueError: another kind of database, or none in a file.
    """
    url = database_url(given)
    if url.drivername != "sqlite+aiosqlite" or not url.database or url.database == ":memory:":
        raise ValueError("only a SQLite file can be written to from a second engine")
    engine = create_engine(url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": timeout_s})
    _durable(engine, foreign_keys=False)
    return engine


def _durable(engine: Engine, foreign_keys: bool) -> None:
    def pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # FULL: what was committed survives a power cut.
        cursor.execute("PRAGMA synchronous=FULL")
        if foreign_keys:
            cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    event.listen(engine, "connect", pragmas)


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
        await serialize(connection, "schema", *(table.name for table in metadata.sorted_tables))
        for table in metadata.sorted_tables:
            await connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda item: str(item.name)):
                await connection.execute(CreateIndex(index, if_not_exists=True))


async def serialize(connection: AsyncConnection, *names: str) -> None:
    """Whoever names the same takes turns until the transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        key = zlib.crc32("\0".join(names).encode())
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
