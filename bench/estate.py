"""What is measured, as processes of their own: a nats-server with the platform's permissions, an edge, a worker."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt

from opsbus.identity import Signer
from opsbus.testing.bus import Bus

SERVICE = "demo"
READY_S = 90.0

LIMITS = {
    "rate_global": "10000000/second",
    "rate_caller": "10000000/second",
    "rate_address": "10000000/second",
    "rate_tools": '{"*": "10000000/second"}',
    "rate_tool_callers": '{"*": "10000000/second"}',
    "load_factor": "1000",
}
"""Settings with which every limit is on, and none is reached."""


@dataclass(frozen=True)
class RunningEdge:
    """An edge process under measurement."""

    url: str
    pid: int
    token: str
    """Bearer token of an admin."""


class Estate:
    """The bus and the keys; edges and workers come on top."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bus = Bus(folder / "bus")
        self._platform = Signer.generate()
        self._children: list[_Process] = []

    @property
    def server_pid(self) -> int:
        """The nats-server's."""
        pid = self.bus.server.pid
        if pid is None:
            raise RuntimeError("the nats-server is not running")
        return pid

    async def start(self) -> None:
        """Start the server and provision it."""
        self.bus.start()
        await self.bus.reset()
        (self._folder / "identity.pem").write_bytes(self.bus.signer.pem())
        (self._folder / "jwt.pub.pem").write_text(self._platform.public().public_key_pem, encoding="ascii")
        (self._folder / "seal.key").write_text(secrets.token_hex(32), encoding="ascii")

    async def stop(self) -> None:
        """Stop the server."""
        await self.bus.close()
        self.bus.stop()

    def token(self, sub: str = "bench@lab") -> str:
        """A bearer token of an admin, good for an hour."""
        now = int(time.time())
        claims = {"iss": "opsbus", "aud": "opsbus", "sub": sub, "roles": ["admin"], "exp": now + 3_600}
        return jwt.encode(claims, self._platform.private_key, "EdDSA")

    @asynccontextmanager
    async def edge(
        self, module: str = "bench.edges.whole", more: dict[str, str] | None = None, **settings: str
    ) -> AsyncIterator[RunningEdge]:
        """An edge process, or something in its place.

        Args:
            module: Run with ``python -m``: the edge as it is, one with something off, or a rival.
            more: Further environment.
            settings: By name, without the prefix.
        """
        ready = self._folder / f"edge-{secrets.token_hex(4)}.json"
        environment = {
            "OPSBUS_NATS_SEED_FILE": str(self.bus.credentials("edge")),
            "OPSBUS_EDGE_HTTP_PORT": "0",
            "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(self._folder / "identity.pem"),
            "OPSBUS_EDGE_JWT_PUBLIC_KEY_FILES": json.dumps([str(self._folder / "jwt.pub.pem")]),
            "OPSBUS_EDGE_SEAL_KEY_FILE": str(self._folder / "seal.key"),
            "OPSBUS_EDGE_READY_FILE": str(ready),
            "OPSBUS_EDGE_CALLS_PER_CALLER": "10000",
        } | {f"OPSBUS_EDGE_{name.upper()}": value for name, value in settings.items()}
        environment |= more or {}
        with self._process(module, environment) as process:
            url = (await _facts(ready, process))["http_url"]
            yield RunningEdge(url, process.pid, self.token())

    @asynccontextmanager
    async def worker(
        self, module: str, more: dict[str, str] | None = None, service: str = SERVICE
    ) -> AsyncIterator[int]:
        """A worker process; gives its process id.

        Args:
            module: Run with ``python -m``.
            more: Further environment.
            service: Whose identity it has.
        """
        environment = {
            "OPSBUS_NATS_SEED_FILE": str(self.bus.credentials(service)),
            "OPSBUS_CONCURRENCY": "256",
            "OPSBUS_BENCH_SERVICE": service,
        }
        with self._process(module, environment | (more or {})) as process:
            yield process.pid

    def _process(self, module: str, environment: dict[str, str]) -> "_Process":
        whole = {**os.environ, "OPSBUS_NATS_URL": self.bus.url, "OPSBUS_LOG_LEVEL": "error"} | environment
        child = _Process([sys.executable, "-m", module], whole)
        self._children.append(child)
        return child

    def end(self) -> None:
        """Tell all edges and workers to end, at once: one after the other takes its time."""
        for child in self._children:
            child.terminate()


class _Process:
    """A child that is ended with the block."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._child = subprocess.Popen(command, env=environment)
        self.pid = self._child.pid

    @property
    def ended(self) -> bool:
        """Whether it is no more."""
        return self._child.poll() is not None

    def terminate(self) -> None:
        """Tell it to end."""
        self._child.terminate()

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


async def _facts(ready: Path, process: _Process) -> dict[str, str]:
    async with asyncio.timeout(READY_S):
        while not ready.exists():
            if process.ended:
                raise RuntimeError("the edge ended while it started")
            await asyncio.sleep(0.05)
    facts: dict[str, str] = json.loads(ready.read_text(encoding="utf-8"))
    return facts
