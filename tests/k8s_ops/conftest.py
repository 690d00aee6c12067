"""An API server that misbehaves on demand, for what a well-behaved one never does; a well-behaved one in which nothing
moves by itself; and kubeconfig files."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from opsbus.testing.caller import Caller, Reply
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import Identity
from opsbus_contracts.identity import audience
from opsbus_k8s_ops.api import CallerClient, ClusterApi
from opsbus_k8s_ops.app import build
from opsbus_sandbox.app import Estate, serve
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.access import PLATFORM_USER
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.estate.cluster import KUBERNETES_VERSION
from opsbus_sandbox.estate.software import EstateSoftware
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.server import KubeServer
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.versions import served
from opsbus_sandbox.listen import listen

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def no_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches ask beside the calls: a test that is not about them counts its requests without."""
    monkeypatch.setenv("OPSBUS_K8S_WATCH", "false")


class RoughServer:
    """Answers every request with ``handler`` and keeps what was asked."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.requests: list[web.Request] = []
        self.url = ""
        self.client: CallerClient | None = None

    def api(self, *, timeout_s: float = 30.0, bytes_max: int = 1_000_000) -> ClusterApi:
        """The worker's way in."""
        assert self.client is not None
        return ClusterApi("lab", self.client, timeout_s, bytes_max)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The route of everything."""
        self.requests.append(request)
        assert self.handler is not None
        return await self.handler(request)


@pytest.fixture
async def rough() -> AsyncIterator[RoughServer]:
    """A rough server and a client for it."""
    server = RoughServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    running = TestServer(app)
    await running.start_server()
    server.url = f"http://127.0.0.1:{running.port}"
    server.client = CallerClient(Configuration(host=server.url, api_key={"BearerToken": "Bearer t"}))
    yield server
    await server.client.close()
    await running.close()


def kubeconfig(folder: Path, contexts: dict[str, str], current: str = "", user: dict[str, Any] | None = None) -> Path:
    """Writes a kubeconfig: context name to server address."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current or next(iter(contexts)),
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in contexts.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in contexts],
        "users": [{"name": "me", "user": user or {"token": "t0ken"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@dataclass
class Still:
    """The practice estate's objects behind its API, without controllers and monitoring: soon there."""

    store: ObjectStore
    kubeconfig: Path


def still_store() -> ObjectStore:
    """The estate's objects."""
    store = ObjectStore(Clock(0.1))
    build_estate(store)
    return store


@asynccontextmanager
async def still_cluster(
    folder: Path,
    store: ObjectStore,
    *,
    version: str = "",
    lacks: Sequence[str] = (),
    down: Sequence[str] = (),
    bookmark_every_s: float = 60.0,
) -> AsyncIterator[Still]:
    """Serves the objects as a Kubernetes of some version; the context is ``lab``."""
    serves = served(version, KUBERNETES_VERSION, lacks, down)
    users = {"t0ken": User(PLATFORM_USER)}
    server = KubeServer(
        store, EstateSoftware(store.clock), users, served=serves, bookmark_every_s=bookmark_every_s
    )  # fmt: skip
    runner, url = await listen(server.app(), "127.0.0.1", 0)
    try:
        yield Still(store, kubeconfig(folder, {"lab": url}))
    finally:
        await runner.cleanup()


@pytest.fixture(scope="session")
def standing_estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """The practice estate over its real API, for reading: its story hardly moves. On a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="estate")
    thread.start()
    started = serve(state_dir=tmp_path_factory.mktemp("estate"), speed=0.1)
    running = asyncio.run_coroutine_threadsafe(started, loop).result(60)
    yield running
    asyncio.run_coroutine_threadsafe(running.close(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture
async def estate(standing_estate: Estate) -> Estate:
    """What the worker of a test sees. Tests that write have one of their own in its place."""
    return standing_estate


@pytest.fixture
async def ask(estate: Estate, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Callable[..., Awaitable[Reply]]]:
    """Calls a tool of a worker that serves the estate, as somebody with a role."""

    async def call(tool: str, role: str = "operator", options: dict[str, Any] | None = None, **arguments: Any) -> Reply:
        who = identity(role)
        return await caller.call("k8s", tool, arguments, **({"identity": who} | (options or {})))

    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"]):
        yield call


def identity(role: str) -> Identity:
    """Somebody with one role and every permission of the platform: the cluster's own rules decide."""
    now = int(time.time())
    return Identity(
        sub=f"{role}@shop.example",
        roles=[role],
        permissions=["*"],
        aud=audience("k8s"),
        auth="test",
        iat=now,
        exp=now + 120,
    )
