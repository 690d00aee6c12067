"""An API server that misbehaves on demand, for what a well-behaved one never does; and kubeconfig files."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from opsbus_k8s_ops.api import CallerClient, ClusterApi

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RoughServer:
    """Answers every request with ``handler`` and keeps what was asked."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.requests: list[web.Request] = []
        self.url = ""
        self.client: CallerClient | None = None

    def api(self, *, timeout_s: float = 5.0, bytes_max: int = 1_000_000) -> ClusterApi:
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
