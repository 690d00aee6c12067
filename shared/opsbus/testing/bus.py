"""A real nats-server with JetStream, least privilege and everything provisioned, for tests. One per test process."""

import asyncio
from pathlib import Path

from nats.js import JetStreamContext
from nats.js.errors import ServerError

from opsbus import nats_client
from opsbus.identity import Signer
from opsbus.keys import publish_key
from opsbus.nats_quick import QuickClient
from opsbus.nats_server import NatsServer, ServerOptions
from opsbus.nkeys_ import load_or_create
from opsbus.provision import provision
from opsbus.settings import Settings
from opsbus.testing.ports import free_port
from opsbus.testing.waiting import until
from opsbus_contracts.permissions import PLATFORM_IDENTITIES

SERVICES = ("approvals", "audit", "billing", "cmdb", "demo", "json", "k8s", "monitoring", "test")
"""Identities that are there from the start; ``add_service`` makes more."""

ONLOOKER = "onlooker"
"""Hears and says everything but what is JetStream's own. No such identity is on a real bus."""

_NO_STORE = 10049
"""JetStream's "error creating store for stream"."""

_TRIES = 8


class Bus:
    """The bus of a test. ``url`` and ``credentials`` are all another process needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seeds = folder / "seeds"
        self._users = {name: self._seed(name) for name in (*PLATFORM_IDENTITIES, *SERVICES)}
        options = ServerOptions(
            store_dir=folder / "data",
            users=dict(self._users),
            onlookers={ONLOOKER: self._seed(ONLOOKER)},
            port=free_port(),
            sync_always=False,
            name="test",
            dies_with_parent=True,
        )
        self.server = NatsServer(options, folder)
        self.signer = Signer.generate()
        """Signs identities as the edge does; its public key is in the bucket KEYS."""
        self.errors: list[Exception] = []
        """What the connections of this test reported, such as a denied publish."""
        self._open: list[QuickClient] = []

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:41222``"""
        return self.server.url

    def start(self) -> None:
        """Starts the server."""
        self.server.start()

    def stop(self) -> None:
        """Stops the server."""
        self.server.stop()

    def restart(self) -> None:
        """Stops and starts the server on the same port with the same data."""
        self.server.restart()

    def credentials(self, identity: str) -> Path:
        """The seed file of an identity; a service that is new is added."""
        if identity != ONLOOKER:
            self.add_service(identity)
        return self._seeds / f"{identity}.nk"

    def add_service(self, service: str) -> None:
        """Makes an identity for a service, with its permissions; nothing when it is there."""
        if service not in self._users:
            self._users[service] = self._seed(service)
            self.server.reload(self._users)

    def settings(self, identity: str, **more: object) -> Settings:
        """Settings that connect an identity."""
        return Settings(nats_url=self.url, nats_seed_file=self.credentials(identity), **more)  # type: ignore[arg-type]

    async def connect(self, identity: str) -> QuickClient:
        """A connection of an identity; closed at the end of the test."""
        client = await nats_client.connect(self.settings(identity), identity, on_error=self.errors.append)
        self._open.append(client)
        return client

    async def jetstream(self, identity: str = "provisioner") -> JetStreamContext:
        """JetStream as an identity sees it."""
        return (await self.connect(identity)).jetstream()

    async def reset(self) -> None:
        """Everything as provisioned, and empty."""
        self.errors.clear()
        js = (await self.connect("provisioner")).jetstream(timeout=30.0)
        await until(self._tidy)
        for info in await js.streams_info():
            if info.state.last_seq and info.config.name:
                await js.delete_stream(info.config.name)
        await self._provision(js)
        await publish_key(js, self.signer.public())
        await until(self._tidy)

    def _tidy(self) -> bool:
        """Whether the server has done away with what it deleted.

        It moves a stream's folder to ``.NAME``, says that the stream is deleted, and empties that afterwards; a stream
        of that name that is deleted meanwhile cannot be moved there.
        """
        return not any(self._folder.glob("data/jetstream/STORE/streams/.*"))

    async def _provision(self, js: JetStreamContext) -> None:
        """Provisions, again when the server still tidies away the folder of a stream that it said was deleted."""
        for attempt in range(1, _TRIES + 1):
            try:
                await provision(js)
                return
            except ServerError as error:
                if error.err_code != _NO_STORE or attempt == _TRIES:
                    error.add_note(f"nats-server's log ends: {self.server.last_words()}")
                    raise
                await asyncio.sleep(0.1 * attempt)

    async def close(self) -> None:
        """Closes the connections of the test."""
        while self._open:
            await nats_client.close(self._open.pop())

    def _seed(self, identity: str) -> str:
        return load_or_create(self._seeds / f"{identity}.nk").public
