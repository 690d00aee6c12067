"""The emulated cluster of the practice estate, its official clients, and waiting without sleeping."""

import asyncio
import base64
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from kubernetes import config as sync_config
from kubernetes.aio import client as aio
from kubernetes.aio import config as aio_config
from multidict import CIMultiDict

from opsbus_sandbox.cluster import Cluster, start_cluster
from opsbus_sandbox.settings import SandboxSettings

PATIENCE_S = 30.0
"""How long a test waits for what usually takes well under a second."""


@pytest.fixture
def speed() -> float:
    """How fast the estate lives; a module overrides it."""
    return 25.0


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """Further settings of the cluster; a module or test overrides it."""
    return {}


@pytest.fixture
async def cluster(tmp_path: Path, speed: float, more_settings: dict[str, Any]) -> AsyncIterator[Cluster]:
    """The emulated cluster, alive."""
    running = await start_cluster(SandboxSettings(state_dir=tmp_path / "sandbox", speed=speed, **more_settings))
    yield running
    await running.close()


@dataclass
class Api:
    """The official asyncio client, as one account."""

    client: aio.ApiClient
    session: aiohttp.ClientSession
    """Plain requests with the same credentials, relative to the server's address."""

    @property
    def core(self) -> aio.CoreV1Api:
        return aio.CoreV1Api(self.client)

    @property
    def apps(self) -> aio.AppsV1Api:
        return aio.AppsV1Api(self.client)

    @property
    def batch(self) -> aio.BatchV1Api:
        return aio.BatchV1Api(self.client)

    async def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Any request at all: (code, headers, decoded body or text). Bytes are sent as they are."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        async with self.session.request(method, path, data=data, headers=given) as answer:
            text = await answer.text()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, dict(answer.headers), json.loads(text) if is_json and text else text


def trusting(cluster: Cluster) -> ssl.SSLContext:
    """TLS that trusts the cluster's own authority and nobody else."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    authority = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"])
    return ssl.create_default_context(cadata=authority.decode())


@pytest.fixture
async def login(cluster: Cluster) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """The asyncio client of an account of the kubeconfig; with `user` and `groups` it impersonates."""
    async with AsyncExitStack() as stack:

        async def enter(account: str = "admin", user: str = "", groups: tuple[str, ...] = ()) -> Api:
            context = "lab" if account == "opsbus" else f"lab-{account}"
            made = await aio_config.new_client_from_config(
                str(cluster.kubeconfig), context=context, persist_config=False
            )
            await stack.enter_async_context(made)
            if user:
                made.set_default_header("Impersonate-User", user)
            if groups:
                made.set_default_header("Impersonate-Group", groups[0])
            headers = CIMultiDict(Authorization=f"Bearer {cluster.tokens[account]}")
            if user:
                headers.add("Impersonate-User", user)
            for group in groups:
                headers.add("Impersonate-Group", group)
            connector = aiohttp.TCPConnector(ssl=trusting(cluster))
            session = aiohttp.ClientSession(cluster.url, headers=headers, connector=connector)
            return Api(made, await stack.enter_async_context(session))

        yield enter


@pytest.fixture
async def api(login: Callable[..., Awaitable[Api]]) -> Api:
    """The asyncio client of the cluster's administrator."""
    return await login("admin")


@pytest.fixture
def sync_client(cluster: Cluster) -> Any:
    """The official synchronous client of the cluster's administrator; call it in a thread."""
    return sync_config.new_client_from_config(str(cluster.kubeconfig), context="lab-admin", persist_config=False)


@dataclass(frozen=True)
class Ran:
    """A kubectl that ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Callable[..., Awaitable[Ran]]:
    """Runs kubectl as the administrator (or another context); the test is skipped where there is none."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed (Debian package kubernetes-client)")

    async def run(*words: str, context: str = "lab-admin", stdin: str = "") -> Ran:
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path)}
        child = await asyncio.create_subprocess_exec(
            found, "--context", context, *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(child.communicate(stdin.encode()), 90)
        except TimeoutError:
            child.kill()
            await child.wait()
            raise
        return Ran(child.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def until(cluster: Cluster) -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """Waits until a question about the store has a true answer, and returns it; asks again at each change."""

    async def wait(question: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        async with asyncio.timeout(patience_s):
            while True:
                version = cluster.store.version
                if answer := question():
                    return answer
                await cluster.store.wait_beyond(version)

    return wait


def deployment(name: str, image: str = "nginx:1.27", *, replicas: int = 1, **container: Any) -> dict[str, Any]:
    """A small deployment."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image, **container}]},
            },
        },
    }


def pod(name: str, image: str = "nginx:1.27", *, restart: str = "Always", **container: Any) -> dict[str, Any]:
    """A small pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": image, **container}]},
    }


@pytest.fixture
def make_deployment() -> Callable[..., dict[str, Any]]:
    return deployment


@pytest.fixture
def make_pod() -> Callable[..., dict[str, Any]]:
    return pod


STAGING = "shop-staging"
