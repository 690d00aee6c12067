"""A platform whose every part is a process that can be killed: one nats-server or three, a worker, an edge with a disk
spool, an audit worker with a store. As shipped: the stream is on the disk before it acknowledges."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext

from opsbus import nats_client
from opsbus.identity import Signer
from opsbus.keys import publish_key
from opsbus.nats_server import NatsServer, ServerOptions
from opsbus.nkeys_ import load_or_create
from opsbus.provision import provision
from opsbus.settings import Settings
from opsbus.testing.ports import free_port
from opsbus_contracts.permissions import PLATFORM_IDENTITIES

VICTIM = Path(__file__).with_name("victim.py")
_ERRORS = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)


@dataclass
class Process:
    """A program that is started again after it was killed."""

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    running: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        environment = {**os.environ, **self.environment, "OPSBUS_READY_FILE": str(ready)}
        with (self.folder / "log").open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(*self.command, env=environment, stdout=log, stderr=log)
        async with asyncio.timeout(60):
            while not ready.exists():
                assert self.running.returncode is None, self.said()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Without a word."""
        assert self.running is not None
        self.running.kill()
        await self.running.wait()

    async def stop(self) -> None:
        """As an operator does."""
        if self.running is not None and self.running.returncode is None:
            self.running.send_signal(signal.SIGTERM)
            await self.running.wait()

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text(errors="replace")[-3_000:]


@dataclass
class Estate:
    """All of it."""

    folder: Path
    servers: list[NatsServer]
    signer: Signer
    users: dict[str, str]
    edge_port: int = field(default_factory=free_port)
    edge: Process = field(init=False)
    audit: Process = field(init=False)
    worker: Process = field(init=False)

    def __post_init__(self) -> None:
        python = sys.executable
        self.worker = self._process("demo", (python, str(VICTIM)), {
            "VICTIM_DIARY": str(self.folder / "diary"), "VICTIM_FAST": "1",
        })  # fmt: skip
        self.audit = self._process("audit", (python, "-c", "from opsbus_audit.app import worker; worker.run()"), {
            "OPSBUS_AUDIT_DATABASE_URL": self.database_url,
            "OPSBUS_AUDIT_CLOSE_AFTER_S": "600",
        })  # fmt: skip
        self.edge = self._process("edge", (python, "-c", "from opsbus_edge.app import main; main()"), {
            "OPSBUS_EDGE_HTTP_PORT": str(self.edge_port),
            "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(self._file("identity.pem", self.signer.pem())),
            "OPSBUS_EDGE_SEAL_KEY_FILE": str(self._file("seal.key", b"0123456789abcdef0123456789abcdef\n")),
            "OPSBUS_EDGE_JWT_SECRET_FILES": f'["{self._file("hs256.key", b"s" * 64)}"]',
            "OPSBUS_EDGE_AUDIT_SPOOL_FOLDER": str(self.folder / "spool"),
            "OPSBUS_EDGE_CALL_TIMEOUT_MAX_S": "5",
            "OPSBUS_EDGE_QUARANTINE_STALE_S": "60",
        })  # fmt: skip

    @property
    def url(self) -> str:
        """Where the bus is."""
        return ",".join(server.url for server in self.servers)

    @property
    def database_url(self) -> str:
        """Where the store is."""
        return f"sqlite:///{self.folder}/audit.sqlite3"

    @property
    def token(self) -> str:
        """Of a caller who may do everything."""
        claims = {"iss": "opsbus", "aud": "opsbus", "sub": "ada", "roles": ["admin"], "exp": int(time.time()) + 3_600}
        return jwt.encode(claims, "s" * 64, "HS256")

    @asynccontextmanager
    async def jetstream(self, identity: str = "provisioner") -> AsyncIterator[JetStreamContext]:
        """A connection for a while."""
        settings = Settings(nats_url=self.url, nats_seed_file=self.folder / f"{identity}.nk")
        client = await nats_client.connect(settings, identity)
        try:
            yield client.jetstream(timeout=5.0)
        finally:
            await nats_client.close(client)

    async def start(self) -> None:
        """Servers, streams, processes."""
        for server in self.servers:
            await asyncio.to_thread(server.start)
        async with self.jetstream() as js, asyncio.timeout(60):
            await again(lambda: provision(js, replicas=len(self.servers)))
            await again(lambda: publish_key(js, self.signer.public()))
        for process in (self.worker, self.audit, self.edge):
            await process.start()

    async def leader(self) -> NatsServer:
        """The server that leads the stream AUDIT now."""
        async with self.jetstream() as js, asyncio.timeout(60):
            while True:
                info = await again(lambda: js.stream_info("AUDIT"))
                for server in self.servers:
                    if info.cluster is not None and server.options.name == info.cluster.leader:
                        return server
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Everything, the bus last."""
        for process in (self.edge, self.audit, self.worker):
            await process.stop()
        for server in self.servers:
            await asyncio.to_thread(server.stop)

    def _process(self, identity: str, command: tuple[str, ...], environment: dict[str, str]) -> Process:
        folder = self.folder / identity
        folder.mkdir()
        bus = {"NATS_URL": self.url, "OPSBUS_NATS_SEED_FILE": str(self.folder / f"{identity}.nk")}
        return Process(command, {**bus, "OPSBUS_LOG_LEVEL": "warning", **environment}, folder)

    def _file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


async def again(work: Callable[[], Any]) -> Any:
    """Until it works: a cluster that elects a leader refuses meanwhile. The caller bounds the time."""
    while True:
        try:
            return await work()
        except _ERRORS:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def estate(folder: Path, servers: int) -> AsyncIterator[Estate]:
    """A platform that runs, and is gone afterwards."""
    users = {name: load_or_create(folder / f"{name}.nk").public for name in (*PLATFORM_IDENTITIES, "audit", "demo")}
    routes = [free_port() for _ in range(servers)]
    made = []
    for number in range(servers):
        cluster = {
            "name": "opsbus", "listen": f"127.0.0.1:{routes[number]}",
            "routes": [f"nats://127.0.0.1:{port}" for port in routes if port != routes[number]],
        }  # fmt: skip
        options = ServerOptions(
            store_dir=folder / f"nats-{number}" / "data", users=users, name=f"nats-{number}", port=free_port(),
            dies_with_parent=True, extra={"cluster": cluster} if servers > 1 else {},
        )  # fmt: skip
        made.append(NatsServer(options, folder / f"nats-{number}"))
    found = Estate(folder, made, Signer.generate(), users)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(found.stop)
        await found.start()
        yield found
