"""Fixtures of the CMDB's tests: both databases, a filled store, the HTTP CMDB in front of one."""

import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web

from opsbus_cmdb import seed
from opsbus_cmdb.http_inventory import HttpInventory
from opsbus_cmdb.http_server import application
from opsbus_cmdb.store import EmbeddedInventory


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that tests may import it, and its dataclasses find it
    spec.loader.exec_module(module)
    return module


postgres_server = _load(Path(__file__).parent / "postgres_server.py")
netbox_server = _load(Path(__file__).parent / "netbox_server.py")
API_KEY = "test-key"


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """A PostgreSQL server; without one the test is skipped, and says so."""
    if postgres_server.binaries() is None:
        pytest.skip("PostgreSQL is not installed (no initdb)")
    with postgres_server.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cmdb.sqlite3"
    return await request.getfixturevalue("postgres").database()


@pytest.fixture
def start() -> datetime:
    """When the estate's story starts."""
    return datetime.now(UTC)


@pytest.fixture
async def store(database_url: str, start: datetime) -> AsyncIterator[EmbeddedInventory]:
    """An embedded store with the shop in it."""
    opened = EmbeddedInventory(database_url)
    await opened.create()
    assert await opened.load(seed.shop(start))
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path, start: datetime) -> AsyncIterator[EmbeddedInventory]:
    """The same in SQLite only."""
    opened = EmbeddedInventory(f"sqlite:///{tmp_path}/only.sqlite3")
    await opened.create()
    await opened.load(seed.shop(start))
    yield opened
    await opened.close()


@pytest.fixture
async def http_url(sqlite_store: EmbeddedInventory) -> AsyncIterator[str]:
    """A CMDB over HTTP on a free port, serving the filled store."""
    runner = web.AppRunner(application(sqlite_store, API_KEY))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@pytest.fixture
async def http_inventory(http_url: str) -> AsyncIterator[HttpInventory]:
    """The HTTP backend in front of it."""
    async with HttpInventory(http_url, API_KEY) as remote:
        yield remote


@pytest.fixture(params=["sqlite", "postgresql", "http"])
async def inventory(
    request: pytest.FixtureRequest, tmp_path: Path, start: datetime
) -> AsyncIterator[EmbeddedInventory | HttpInventory]:
    """Every backend, with the same shop in it: the port's promises hold for each."""
    if request.param == "http":
        # A fixture of its own loop: requested here, so that the SQLite and PostgreSQL runs start no server.
        sqlite = EmbeddedInventory(f"sqlite:///{tmp_path}/behind.sqlite3")
        await sqlite.create()
        await sqlite.load(seed.shop(start))
        runner = web.AppRunner(application(sqlite, API_KEY))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with HttpInventory(f"http://{host}:{port}", API_KEY) as remote:
            yield remote
        await runner.cleanup()
        await sqlite.close()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/cmdb.sqlite3"
    else:
        url = await request.getfixturevalue("postgres").database()
    embedded = EmbeddedInventory(url)
    await embedded.create()
    await embedded.load(seed.shop(start))
    yield embedded
    await embedded.close()
