"""Brings a database to the newest revision: at every start, from several workers at once, from before there were
revisions. A database that a newer version made is refused."""

import asyncio
import threading
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, column, inspect, select, table, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from opsbus import ErrorCode, ToolError
from opsbus.database import serialize
from opsbus_cmdb.migrations.versions import r0001_baseline

VERSION_TABLE = "cmdb_alembic_version"
"""Of our own: several stores may share one database."""
_version = table(VERSION_TABLE, column("version_num")).c.version_num
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
        if await connection.run_sync(_revision) == newest():
            return
    # In a thread with a loop of its own: alembic is synchronous, and a migration may take minutes.
    await asyncio.to_thread(_migrate, engine.url)


def newest() -> str:
    """The newest revision this version knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("there are no revisions")
    return head


def _migrate(url: URL) -> None:
    with _one_at_a_time:
        asyncio.run(_upgraded(url))


async def _upgraded(url: URL) -> None:
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
            await connection.run_sync(_upgrade)
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


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes |= {"connection": connection, "version_table": VERSION_TABLE}
    return config


def _upgrade(connection: Connection) -> None:
    at = _revision(connection)
    if at is None:
        _adopt(connection)
    else:
        _refuse_newer(at)
    command.upgrade(_config(connection), "head")


def _revision(connection: Connection) -> str | None:
    """The revision the database is at; None: there was never one. Several, which alembic allows, are joined."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(select(_version).order_by(_version)).scalars()
    return "+".join(found) or None


def _refuse_newer(at: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if at not in known:
        raise ToolError(
            ErrorCode.BACKEND_ERROR,
            f"the CMDB's database is at schema revision {at[:40]!r}, and this version knows none after {newest()!r}",
            hint="a newer opsbus made it: start that version again, or restore a backup from before the upgrade",
        )


def _adopt(connection: Connection) -> None:
    """A database from before there were revisions: what is there is the baseline, if it looks like it."""
    baseline: MetaData = r0001_baseline.metadata
    inspector = inspect(connection)
    there = [known for known in baseline.sorted_tables if inspector.has_table(known.name)]
    for known in there:
        missing = {item.name for item in known.columns} - {item["name"] for item in inspector.get_columns(known.name)}
        if missing:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"the database has a table {known.name} without {', '.join(sorted(missing))}: it is not a CMDB of ours",
                hint="point OPSBUS_CMDB_DATABASE_URL at another database, or restore a backup",
            )
    if there:
        baseline.create_all(connection)  # what an early version did not have yet
        command.stamp(_config(connection), r0001_baseline.revision)
