"""Real edges on the real bus, the conformance fixtures as their workers, and clients to talk to them."""

import asyncio
import importlib.util
import itertools
import json
import os
import sys
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
                "audit_timeout_s": 10,
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
    changed = asyncio.Event()
    stop = served.edge.catalog.subscribe(lambda _: changed.set())
    try:
        async with asyncio.timeout(60):
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


VERSION = "2026-07-28"
NAMES = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


def envelope(method: str, params: dict[str, Any], capabilities: dict[str, Any] | None) -> dict[str, Any]:
    """A modern request's body."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": capabilities or {},
    }
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": method,
        "params": {**params, "_meta": {**meta, **params.get("_meta", {})}},
    }


class Raw:
    """A client that writes HTTP itself."""

    def __init__(self, sub: str, roles: tuple[str, ...]) -> None:
        self.http = httpx2.AsyncClient(
            headers={
                "Authorization": f"Bearer {token(sub, *roles)}",
                "Accept": "application/json, text/event-stream",
                "Content-Type": "application/json",
            },
            timeout=httpx2.Timeout(30.0),
        )

    async def modern(
        self, url: str, method: str, params: dict[str, Any] | None = None, capabilities: dict[str, Any] | None = None
    ) -> httpx2.Response:
        """One modern request."""
        params = params or {}
        return await self.http.post(
            url, json=envelope(method, params, capabilities), headers=self.modern_headers(method, params)
        )

    def envelope(
        self, method: str, params: dict[str, Any], capabilities: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """A modern request's body and headers."""
        return envelope(method, params, capabilities), self.modern_headers(method, params)

    def modern_headers(self, method: str, params: dict[str, Any]) -> dict[str, str]:
        name = params.get(NAMES.get(method, ""))
        return {"MCP-Protocol-Version": VERSION, "Mcp-Method": method, **({"Mcp-Name": name} if name else {})}

    async def initialize(self, url: str, **capabilities: Any) -> str:
        """Opens a session; gives its id."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "raw", "version": "1"},
        }
        response = await self.http.post(url, json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert response.status_code == 200, response.text
        session_id = response.headers["mcp-session-id"]
        accepted = await self.post(url, session_id, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert accepted.status_code == 202, accepted.text
        return session_id

    async def post(self, url: str, session_id: str, message: dict[str, Any]) -> httpx2.Response:
        """One message of a session."""
        return await self.http.post(url, json=message, headers=self.session_headers(session_id))

    async def call(self, url: str, session_id: str, tool: str, number: int = 1, **arguments: Any) -> dict[str, Any]:
        """A tool call in a session; gives the JSON-RPC response."""
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        response = await self.post(url, session_id, message)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return events(response.text)[-1]

    def session_headers(self, session_id: str) -> dict[str, str]:
        return {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": "2025-11-25"}


def events(text: str) -> list[dict[str, Any]]:
    """The messages of an event stream."""
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line]


@pytest.fixture
async def raw() -> AsyncIterator[Callable[..., Raw]]:
    """``raw(sub="tester", roles=("admin",))``: a client that writes HTTP itself."""
    made: list[Raw] = []

    def make(sub: str = "tester", roles: tuple[str, ...] = ("admin",)) -> Raw:
        made.append(Raw(sub, roles))
        return made[-1]

    yield make
    for one in made:
        await one.http.aclose()


class Lines:
    """An answer that is read as it comes."""

    def __init__(self, client: Raw, method: str, url: str, headers: dict[str, str], body: Any = None) -> None:
        self._request = (method, url, headers, body)
        self._http = client.http
        self.lines: list[str] = []
        self.over = asyncio.Event()
        self._some = asyncio.Event()

    async def __aenter__(self) -> "Lines":
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _read(self) -> None:
        method, url, headers, body = self._request
        try:
            async with self._http.stream(method, url, headers=headers, json=body) as answer:
                assert answer.status_code == 200, answer.status_code
                async for line in answer.aiter_lines():
                    self.lines.append(line)
                    self._some.set()
        finally:
            self.over.set()
            self._some.set()

    async def wait(self, text: str) -> None:
        """Returns when a line has the text."""
        async with asyncio.timeout(30):
            while not any(text in line for line in self.lines):
                assert not self.over.is_set(), self.lines
                self._some.clear()
                await self._some.wait()


@pytest.fixture
def lines() -> type[Lines]:
    """``async with lines(client, method, url, headers, body) as read``: an answer that is read as it comes."""
    return Lines


@pytest.fixture
def read_events() -> Callable[[str], list[dict[str, Any]]]:
    return events


class Process:
    """An edge in a process of its own."""

    def __init__(self, environment: dict[str, str], ready: Path) -> None:
        self._environment = environment | {"OPSBUS_READY_FILE": str(ready)}
        self._ready = ready
        self.mcp_url = ""

    async def __aenter__(self) -> "Process":
        command = (sys.executable, "-m", "opsbus", "run", "edge")
        self._process = await asyncio.create_subprocess_exec(
            *command, env=self._environment, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            while not self._ready.exists():
                assert self._process.returncode is None, "the edge ended while it started"
                await asyncio.sleep(0.05)
        self.mcp_url = json.loads(self._ready.read_text())["http_url"] + "/mcp"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def signal(self, number: int) -> None:
        """A signal to the process."""
        self._process.send_signal(number)


@pytest.fixture
def spawn_edge(bus: Bus, run_edge: RunEdge, tmp_path: Path) -> Callable[..., Process]:
    """``async with spawn_edge(OPSBUS_EDGE_X="y") as process``: an edge that can be killed."""
    environment = {
        "PATH": os.environ["PATH"],
        "NATS_URL": bus.url,
        "OPSBUS_NATS_SEED_FILE": str(bus.credentials("edge")),
        "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(tmp_path / "identity.pem"),
        "OPSBUS_EDGE_SEAL_KEY_FILE": str(tmp_path / "seal.key"),
        "OPSBUS_EDGE_JWT_SECRET_FILES": json.dumps([str(tmp_path / "jwt.secret")]),
        "OPSBUS_EDGE_HTTP_PORT": "0",
        "OPSBUS_EDGE_AUDIT_TIMEOUT_S": "10",
        "OPSBUS_LOG_LEVEL": "warning",
    }
    numbers = itertools.count()
    return lambda **more: Process(environment | more, tmp_path / f"ready-{next(numbers)}.json")
