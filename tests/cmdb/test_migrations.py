"""The store's schema: from nothing, from before there were revisions, from several workers at once; what is newer, and
what is not ours, is refused; a failed step leaves nothing."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import ToolError
from opsbus.database import open_engine
from opsbus.settings import SettingsError
from opsbus_cmdb import seed, tables
from opsbus_cmdb.app import open_inventory
from opsbus_cmdb.migrations import revisions
from opsbus_cmdb.migrations.versions import r0001_baseline
from opsbus_cmdb.settings import CmdbSettings
from opsbus_cmdb.store import EmbeddedInventory

OPEN_AND_LOAD = """
import asyncio, sys
from opsbus_cmdb import seed
from opsbus_cmdb.store import EmbeddedInventory
async def main():
    store = EmbeddedInventory(sys.argv[1])
    await store.create()
    await store.load(seed.estate("shop"))
    await store.close()
asyncio.run(main())
"""


@pytest.fixture
async def engine(database_url: str) -> Any:
    opened = open_engine(database_url)
    yield opened
    await opened.dispose()


async def run(engine: AsyncEngine, what: Any) -> Any:
    async with engine.begin() as connection:
        return await connection.run_sync(what)


async def revision(engine: AsyncEngine) -> str:
    return str(
        await run(engine, lambda c: c.execute(text("SELECT version_num FROM cmdb_alembic_version")).scalar_one())
    )


async def opened(database_url: str) -> None:
    store = EmbeddedInventory(database_url)
    try:
        await store.create()
    finally:
        await store.close()


def differences(connection: Connection) -> list[Any]:
    ours = {*tables.metadata.tables}
    of_one_database = {"cmdb_asset_labels", "cmdb_asset_search", "cmdb_asset_scan"}
    of_one_database |= {"cmdb_asset_place", "cmdb_workload_place"}  # of expressions, which each database spells its way

    def compared(name: str | None, kind: str, _parents: Any) -> bool:
        return name in ours if kind == "table" else name not in of_one_database

    context = MigrationContext.configure(connection, opts={"include_name": compared})
    return list(compare_metadata(context, tables.metadata))


async def test_from_nothing_to_what_the_code_says(database_url: str, engine: AsyncEngine) -> None:
    await opened(database_url)
    assert await run(engine, differences) == []
    assert await revision(engine) == revisions.newest()
    await opened(database_url)  # a second start finds it done


def test_the_newest_revision_is_where_alembic_ends() -> None:
    assert revisions.newest() == ScriptDirectory(str(revisions.FOLDER)).get_current_head()


def _old(connection: Connection) -> None:
    r0001_baseline.metadata.create_all(connection)
    estate = seed.estate("shop")
    known = {column.name for column in r0001_baseline.metadata.tables["cmdb_asset"].columns}
    rows = [{key: value for key, value in asset.model_dump().items() if key in known} for asset in estate.assets]
    connection.execute(r0001_baseline.metadata.tables["cmdb_asset"].insert(), rows)
    edges = [edge.model_dump() for edge in estate.relationships]
    connection.execute(r0001_baseline.metadata.tables["cmdb_relationship"].insert(), edges)


async def test_a_database_from_before_revisions_is_taken_over_with_its_rows(
    database_url: str, engine: AsyncEngine
) -> None:
    await run(engine, _old)
    store = EmbeddedInventory(database_url)
    await store.create()
    assert (await store.get_asset("service:shop/checkout")).owner_team == "checkout"
    assert not await store.load(seed.estate("shop"))
    await store.close()
    assert await revision(engine) == revisions.newest()
    assert await run(engine, differences) == []


async def test_tables_that_an_early_version_lacked_are_added(database_url: str, engine: AsyncEngine) -> None:
    await run(engine, lambda c: r0001_baseline.metadata.tables["cmdb_asset"].create(c))
    await opened(database_url)
    assert await run(engine, differences) == []


async def test_tables_that_are_not_ours_are_left_alone(database_url: str, engine: AsyncEngine) -> None:
    await run(engine, lambda c: c.execute(text("CREATE TABLE cmdb_asset (id TEXT PRIMARY KEY, owner TEXT)")))
    with pytest.raises(ToolError) as refused:
        await opened(database_url)
    assert "cmdb_asset without" in refused.value.message
    assert "OPSBUS_CMDB_DATABASE_URL" in refused.value.hint
    assert await run(engine, lambda c: inspect(c).get_table_names()) == ["cmdb_asset"]


async def test_a_newer_database_is_refused_and_the_start_says_why(database_url: str, engine: AsyncEngine) -> None:
    await opened(database_url)
    await run(engine, lambda c: c.execute(text("UPDATE cmdb_alembic_version SET version_num = '9001'")))
    with pytest.raises(ToolError) as refused:
        await opened(database_url)
    assert "'9001'" in refused.value.message
    assert "backup" in refused.value.hint
    with pytest.raises(SettingsError) as start:
        async for _ in open_inventory(CmdbSettings(database_url=database_url)):
            pass
    assert "newer" in str(start.value)
    assert await revision(engine) == "9001"


async def test_several_workers_at_once(database_url: str, engine: AsyncEngine) -> None:
    await run(engine, _old)
    arguments = (sys.executable, "-c", OPEN_AND_LOAD, database_url)
    others = [
        await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE) for _ in range(3)
    ]  # from other processes, and twice in this one
    await asyncio.gather(opened(database_url), opened(database_url))
    ended = [await asyncio.wait_for(other.communicate(), 90) for other in others]
    assert [other.returncode for other in others] == [0, 0, 0], ended
    assert await revision(engine) == revisions.newest()
    assert await run(engine, differences) == []


async def test_a_step_that_fails_leaves_nothing(
    database_url: str, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(database_url)
    before = revisions.newest()
    scripts = tmp_path / "migrations"
    shutil.copytree(revisions.FOLDER, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "r9999_bad.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision, down_revision = '9999', {before!r}\n"
        "def upgrade():\n"
        "    op.create_table('cmdb_half', sa.Column('id', sa.Integer))\n"
        "    op.execute('INSERT INTO cmdb_half VALUES (1)')\n"
        "    op.execute('SELECT no_such_thing FROM nowhere')\n"
    )
    monkeypatch.setattr(revisions, "FOLDER", scripts)
    with pytest.raises(ToolError) as failed:
        await opened(database_url)
    assert "nowhere" not in failed.value.message
    assert await revision(engine) == before
    assert "cmdb_half" not in await run(engine, lambda c: inspect(c).get_table_names())
