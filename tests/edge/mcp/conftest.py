"""Real edges on the real bus, the conformance fixtures as their workers, and clients to talk to them."""

import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import jwt
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from opsbus.testing.bus import Bus
from opsbus_edge.asgi.serve import serving
from opsbus_edge.context import Edge
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.wiring import running_edge

SECRET = "a-secret-of-the-tests-that-is-long-enough"
FIXTURES = Path(__file__).parents[2] / "conformance"


@dataclass
class Served:
    """An edge that answers HTTP."""

    edge: Edge
    url: str
    stack: AsyncExitStack = field(repr=False, default_factory=AsyncExitStack)

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    async def stop(self) -> None:
        """The edge ends in good order."""
        await self.stack.aclose()


RunEdge = Callable[..., AbstractAsyncContextManager[Served]]


def token(sub: str = "tester", *roles: str, expires_s: float = 600) -> str:
    """A bearer token."""
    claims = {"iss": "opsbus", "aud": "opsbus", "sub": sub, "roles": list(roles or ("admin",))}
    return jwt.encode(claims | {"iat": int(time.time()), "exp": int(time.time() + expires_s)}, SECRET)


def load_worker(name: str) -> ModuleType:
    """A fixture worker's module, fresh: what one test adds to it no other one sees."""
    spec = importlib.util.spec_from_file_location(f"fixture_{name}", FIXTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_token() -> Callable[..., str]:
    return token


@pytest.fixture
def run_edge(bus: Bus, tmp_path: Path) -> RunEdge:
    """``async with run_edge(**settings) as served``: an edge over HTTP on a free port; any number of them."""
    (tmp_path / "identity.pem").write_bytes(bus.signer.pem())
    (tmp_path / "seal.key").write_text("0123456789abcdef0123456789abcdef-of-the-tests\n")
    (tmp_path / "jwt.secret").write_text(SECRET)

    @asynccontextmanager
    async def run(**more: Any) -> AsyncIterator[Served]:
        settings = EdgeSettings(
            **{
                "nats_url": bus.url,
                "nats_seed_file": bus.credentials("edge"),
                "identity_key_file": tmp_path / "identity.pem",
                "seal_key_file": tmp_path / "seal.key",
                "jwt_secret_files": [tmp_path / "jwt.secret"],
                "http_port": 0,
                "drain_timeout_s": 2,
            }
            | more
        )
        async with AsyncExitStack() as stack:
            edge = await stack.enter_async_context(running_edge(settings))
            url = await stack.enter_async_context(serving(edge))
            yield Served(edge, url, stack)

    return run


@pytest.fixture
async def fixtures(run_worker: Any) -> AsyncIterator[ModuleType]:
    """The worker ``test``, running; gives its module."""
    module = load_worker("fixtures_worker")
    async with run_worker(module.worker):
        yield module


@pytest.fixture
async def served(run_edge: RunEdge, fixtures: ModuleType) -> AsyncIterator[Served]:
    """One edge that knows the fixtures."""
    async with run_edge() as one:
        await known(one)
        yield one


async def known(served: Served, tool: str = "test_simple_text") -> None:
    """Returns when the edge knows the tool."""
    import asyncio

    changed = asyncio.Event()
    stop = served.edge.catalog.subscribe(lambda _: changed.set())
    try:
        async with asyncio.timeout(10):
            while served.edge.catalog.tool(tool) is None:
                await changed.wait()
                changed.clear()
    finally:
        stop()


@pytest.fixture
def wait_known() -> Callable[..., Awaitable[None]]:
    return known


Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect() -> Connect:
    """``async with connect(url, mode="legacy", sub=..., roles=...)``: the SDK's client with a token."""

    @asynccontextmanager
    async def open_client(
        url: str, *, mode: str = "auto", sub: str = "tester", roles: tuple[str, ...] = ("admin",), **more: Any
    ) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {token(sub, *roles)}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30.0)) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode, **more) as client,
        ):
            yield client

    return open_client
