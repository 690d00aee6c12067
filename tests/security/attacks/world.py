"""What attacks are sent at: a real edge that listens, a real bus, a worker that counts what it does. In a loop of its
own thread, so that it lives as long as a module's tests."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import BaseModel

from opsbus import Context, Elicit, ToolResult, Worker
from opsbus.identity import Signer
from opsbus.plan import Plan
from opsbus.testing.bus import ONLOOKER, Bus
from opsbus.testing.running import running
from opsbus_edge.asgi.serve import serving
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.wiring import running_edge

ROLES = {"viewer": ["viewer"], "operator": ["operator"], "admin": ["admin"], "nobody": []}
TIMEOUT_S = 60.0


class Sure(BaseModel):
    sure: bool


@dataclass
class World:
    """The edge under attack."""

    bus: Bus
    folder: Path
    port: int = 0
    did: list[str] = field(default_factory=list)
    """What tools did."""
    dispatched: list[str] = field(default_factory=list)
    """Subjects of calls on the bus."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Audit events of the edge."""
    platform: Signer = field(default_factory=Signer.generate)
    secret: str = "5e" * 32
    facts: dict[str, Any] = field(default_factory=dict)
    """What was prepared for rows: states, tokens, sessions of other callers."""

    def __post_init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="attacked")
        self._stack = AsyncExitStack()

    def start(self, **settings: Any) -> None:
        """On return the edge listens and knows the worker's tools."""
        self._thread.start()
        self.run(self._start(settings))

    def stop(self) -> None:
        """Ends the edge, the worker and the thread."""
        try:
            self.run(self._stack.aclose())
            self.run(_end_the_rest())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(TIMEOUT_S)
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the edge's loop, from outside."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    async def _start(self, settings: dict[str, Any]) -> None:
        await self.bus.reset()
        self._stack.push_async_callback(self.bus.close)
        files = {
            "identity.pem": self.bus.signer.pem(),
            "platform.pub.pem": self.platform.public().public_key_pem.encode(),
            "hs256.key": self.secret.encode(),
            "seal.key": b"0123456789abcdef0123456789abcdef\n",
        }
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        loaded = EdgeSettings(
            **{
                "nats_url": self.bus.url,
                "nats_seed_file": self.bus.credentials("edge"),
                "http_port": 0,
                "identity_key_file": self.folder / "identity.pem",
                "jwt_public_key_files": [self.folder / "platform.pub.pem"],
                "jwt_secret_files": [self.folder / "hs256.key"],
                "seal_key_file": self.folder / "seal.key",
                "drain_timeout_s": 3.0,
            }
            | settings
        )
        await self._listen()
        edge = await self._stack.enter_async_context(running_edge(loaded))
        url = await self._stack.enter_async_context(serving(edge))
        self.port = int(url.rsplit(":", 1)[1])
        await self._stack.enter_async_context(running(self.bus, demo(self.did)))
        async with asyncio.timeout(TIMEOUT_S):
            while edge.catalog.tool("demo_echo") is None:
                await asyncio.sleep(0.01)

    async def _listen(self) -> None:
        above = await self.bus.connect(ONLOOKER)

        async def call(message: Any) -> None:
            self.dispatched.append(message.subject)

        async def event(message: Any) -> None:
            self.events.append(json.loads(message.data)["data"])

        await above.subscribe("tool.>", cb=call)
        await above.subscribe("mcp.>", cb=call)
        await above.subscribe("audit.edge.*", cb=event)
        await above.flush()

    def token(self, role: str = "admin", sub: str | None = None, **claims: Any) -> str:
        """A good token, with claims replaced; None leaves one out."""
        return self.signed(self.platform.private_key, "EdDSA", role, sub, **claims)

    def signed(
        self,
        key: Any,
        algorithm: str,
        role: str = "admin",
        sub: str | None = None,
        *,
        header: Any = None,
        **claims: Any,
    ) -> str:
        """A token by a key of one's choice."""
        now = int(time.time())
        body = {
            "iss": "opsbus",
            "aud": "opsbus",
            "sub": sub or f"{role}@shop.example",
            "roles": ROLES.get(role, [role]),
            "iat": now,
            "exp": now + 600,
        } | claims
        return jwt.encode({k: v for k, v in body.items() if v is not None}, key, algorithm, headers=header)

    def exchange(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes, read one answer. ``(0, {}, b"")``: the connection ended without one."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S) as connection:
            try:
                connection.sendall(sent)
                answer = http.client.HTTPResponse(connection, method=sent.split(b" ", 1)[0].decode("latin-1"))
                answer.begin()
                headers = {name.lower(): value for name, value in answer.getheaders()}
                body = (
                    b""
                    if headers.get("content-type", "").startswith("text/event-stream") and (sent.startswith(b"GET"))
                    else answer.read()
                )
                return answer.status, headers, body
            except (ConnectionError, http.client.BadStatusLine):
                return 0, {}, b""

    def settled(self) -> None:
        """What was published has been heard."""

        async def flush() -> None:
            for client in self.bus._open:
                await client.flush()
                await client.flush()

        self.run(flush())

    def until(self, condition: Any) -> bool:
        """Whether it comes to hold."""
        ends = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > ends:
                return False
            time.sleep(0.01)
        return True


async def _end_the_rest() -> None:
    """What the SDK's event streams leave behind in a loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def demo(did: list[str]) -> Worker:
    """A worker that counts."""
    worker = Worker("demo", version="1.0.0", blobs="demo:secret")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str = "", number: int = 0) -> dict[str, object]:
        """Says it again."""
        did.append("echo")
        return {"text": text, "number": number}

    @worker.tool(permission="demo:write")
    async def remove(ctx: Context, name: str) -> dict[str, str]:
        """Removes, if you are sure."""
        answer = await ctx.ask("sure", Elicit(f"Remove {name}?", Sure))
        did.append(f"remove {name} {answer.sure}")
        return {"removed": name}

    @worker.tool(permission="demo:write")
    async def scale(ctx: Context, name: str, replicas: int, confirm: str = "") -> dict[str, object]:
        """Scales, once confirmed."""
        await ctx.confirm(Plan(summary=f"scale {name} to {replicas}"), version="7", confirm=confirm or None)
        did.append(f"scale {name} {replicas}")
        return {"replicas": replicas}

    @worker.tool(permission="demo:secret", read_only=True)
    async def export(ctx: Context) -> ToolResult:
        """A secret, as a blob."""
        return ToolResult(content=[await ctx.blob(b"a secret", "text/plain", name="secret")])

    @worker.resource("demo://things/{name}", name="thing", permission="demo:secret")
    async def thing(ctx: Context, name: str) -> str:
        did.append(f"thing {name}")
        return f"thing {name}"

    @worker.prompt(permission="demo:secret")
    async def runbook(ctx: Context, name: str) -> str:
        """A runbook."""
        did.append(f"runbook {name}")
        return f"runbook {name}"

    return worker
