"""Brings a database to the newest revision: at every start, from several workers at once, from before there were
revisions. A database that a newer version made is refused."""

import asyncio
import threading
import time

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from opsbus.database import serialize
from opsbus_cmdb.migrations.revisions import newest, revision

PATIENCE_S = 600.0
"""For one statement of a migration, and for another worker that migrates."""

_one_at_a_time = threading.Lock()
"""Alembic keeps the migration that runs in module globals."""


async def migrate(engine: AsyncEngine) -> None:
    """Bring the database behind ``engine`` to the newest revision. Whoever comes second waits, and finds it done.

    Raises:
        ToolError: ``backend_error``: a newer version made it, or tables of our names are not ours.
        sqlalchemy.exc.SQLAlchemyError, OSError: the database cannot be used.
    """
    async with engine.connect() as connection:
        if await connection.run_sync(revision) == newest():
            return
    # In a thread with a loop of its own: alembic is synchronous, and a migration may take minutes.
    await asyncio.to_thread(_migrate, engine.url)


def _migrate(url: URL) -> None:
    with _one_at_a_time:
        asyncio.run(_upgraded(url))


async def _upgraded(url: URL) -> None:
    from opsbus_cmdb.migrations.steps import upgrade

    sqlite = url.get_backend_name() == "sqlite"
    waits = {"timeout": PATIENCE_S} if sqlite else {"timeout": 30.0, "command_timeout": PATIENCE_S}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=waits)
    try:
        if sqlite:
            await _write_ahead(engine)
        async with engine.begin() as connection:
            if sqlite:
                # Before the first look: of two workers the second waits here. Python's driver begins too late.
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await serialize(connection, "cmdb", "schema")
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


async def _write_ahead(engine: AsyncEngine) -> None:
    """WAL, kept in the file: readers do not block the writer. SQLite does not wait for another that switches."""
    ends = time.monotonic() + 30
    while True:
        try:
            async with engine.connect() as connection:
                await connection.execute(text("PRAGMA journal_mode=WAL"))
                return
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > ends:
                raise
        await asyncio.sleep(0.05)
