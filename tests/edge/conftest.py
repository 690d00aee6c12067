"""Edges for tests: on the real bus, over real HTTP, with tokens for every role."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus_edge.asgi.serve import serving
from opsbus_edge.context import Edge
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.wiring import running_edge

VERSION = "2026-07-28"
ROLES = {"viewer": ["viewer"], "operator": ["operator"], "admin": ["admin"], "nobody": []}


@dataclass
class Keys:
    """Key files that all edges of a test share."""

    folder: Path
    platform: Signer = field(default_factory=Signer.generate)
    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def settings(self, bus: Bus) -> dict[str, Any]:
        """Settings that name the files."""
        files = {
            "identity.pem": bus.signer.pem(),
            "platform.pub.pem": self.platform.public().public_key_pem.encode(),
            "hs256.key": self.secret.encode(),
            "seal.key": b"0123456789abcdef0123456789abcdef\n",
        }
        for name, content in files.items():
            if not (self.folder / name).exists():
                (self.folder / name).write_bytes(content)
        return {
            "nats_url": bus.url,
            "nats_seed_file": bus.credentials("edge"),
            "http_port": 0,
            "identity_key_file": self.folder / "identity.pem",
            "jwt_public_key_files": [self.folder / "platform.pub.pem"],
            "jwt_secret_files": [self.folder / "hs256.key"],
            "seal_key_file": self.folder / "seal.key",
            "drain_timeout_s": 10.0,
            "audit_timeout_s": 10.0,  # more than a busy machine takes
        }

    def token(self, role: str = "admin", sub: str | None = None, **claims: Any) -> str:
        """A bearer token as the platform issues it."""
        now = int(time.time())
        body = {
            "iss": "opsbus",
            "aud": "opsbus",
            "sub": sub or f"{role}@shop.example",
            "roles": ROLES.get(role, [role]),
            "iat": now,
            "exp": now + 600,
        } | claims
        return jwt.encode({k: v for k, v in body.items() if v is not None}, self.platform.private_key, "EdDSA")


@dataclass
class Answer:
    """An HTTP answer to an MCP request."""

    status: int
    headers: httpx.Headers
    messages: list[dict[str, Any]]
    """JSON-RPC messages, one for JSON, all of them for a stream."""

    @property
    def last(self) -> dict[str, Any]:
        """The response."""
        return self.messages[-1]

    @property
    def result(self) -> dict[str, Any]:
        """Its result; an error fails the test."""
        assert "result" in self.last, self.last
        return self.last["result"]

    @property
    def error(self) -> dict[str, Any]:
        """Its JSON-RPC error; a result fails the test."""
        assert "error" in self.last, self.last
        return self.last["error"]

    @property
    def tool_error(self) -> dict[str, Any]:
        """The ErrorBody of an isError result."""
        assert self.result["isError"] is True, self.last
        return self.result["structuredContent"]["error"]


@dataclass
class Running:
    """An edge that serves."""

    edge: Edge
    url: str
    keys: Keys
    http: httpx.AsyncClient

    def headers(self, method: str, name: str | None, role: str | None) -> dict[str, str]:
        """What a modern client sends."""
        found = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": VERSION,
            "mcp-method": method,
        }
        if name is not None:
            found["mcp-name"] = name
        if role is not None:
            found["authorization"] = f"Bearer {self.keys.token(role)}"
        return found

    async def mcp(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        role: str | None = "admin",
        capabilities: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """A modern MCP request."""
        params = dict(params or {})
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": capabilities or {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            **(meta or {}),
        }
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        name = params.get("name", params.get("uri"))
        sent = self.headers(method, name, role) | (headers or {})
        response = await self.http.post("/mcp", json=body, headers=sent, timeout=timeout)
        return Answer(response.status_code, response.headers, _messages(response))

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Answer:
        """A modern tools/call."""
        extra = options.pop("params", {})
        return await self.mcp("tools/call", {"name": tool, "arguments": arguments or {}, **extra}, **options)

    async def rest(self, method: str, path: str, *, role: str | None = "admin", **given: Any) -> httpx.Response:
        """A REST request."""
        headers = given.pop("headers", {})
        if role is not None:
            headers = {"authorization": f"Bearer {self.keys.token(role)}"} | headers
        return await self.http.request(method, path, headers=headers, **given)

    async def knows(self, *tools: str) -> None:
        """Wait until the catalogue has these tools."""
        await until(lambda: all(self.edge.catalog.tool(name) for name in tools))

    async def ready(self) -> httpx.Response:
        """``/ready`` as it is now."""
        return await self.http.get("/ready")


def _messages(response: httpx.Response) -> list[dict[str, Any]]:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        lines = response.text.replace("\r\n", "\n").split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line[6:].strip()]
    if response.headers.get("content-type", "").startswith("application/json") and response.content:
        return [response.json()]
    return []


async def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


RunEdge = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Key files of this test."""
    folder = tmp_path / "keys"
    folder.mkdir()
    return Keys(folder)


@pytest.fixture
def run_edge(bus: Bus, keys: Keys) -> RunEdge:
    """``async with run_edge(**settings) as running:`` an edge that serves."""

    @asynccontextmanager
    async def run(mcp: Any = None, **settings: Any) -> AsyncIterator[Running]:
        loaded = EdgeSettings(**(keys.settings(bus) | settings))
        async with (
            running_edge(loaded) as edge,
            serving(edge, mcp) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as http,
        ):
            yield Running(edge, url, keys, http)

    return run


@pytest.fixture
async def running(run_edge: RunEdge) -> AsyncIterator[Running]:
    """One edge with default settings."""
    async with run_edge() as found:
        yield found


AuditEvents = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def audit_events(bus: Bus) -> AuditEvents:
    """``await audit_events(2)``: data of all audit events, with ``subject`` and ``raw``, once there are as many."""

    async def read(wanted: int = 0, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        js = await bus.jetstream()
        async with asyncio.timeout(timeout_s):
            while (info := await js.stream_info("AUDIT")).state.messages < wanted:
                await asyncio.sleep(0.02)
        found = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            msg = await js.get_msg("AUDIT", seq=sequence)
            assert msg.data is not None
            found.append(json.loads(msg.data)["data"] | {"subject": msg.subject, "raw": msg.data})
        return found

    return read
