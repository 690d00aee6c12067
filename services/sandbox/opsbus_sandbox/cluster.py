"""The emulated cluster, running: store, controllers, API server and kubeconfig. Monitoring is not known here."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from opsbus_sandbox.certificates import make_certificate
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_bare, build_estate
from opsbus_sandbox.estate.cluster import CLUSTER, KUBERNETES_VERSION
from opsbus_sandbox.estate.software import EstateSoftware
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.reconcile.loop import Reconciler
from opsbus_sandbox.kube.server import KubeServer
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.versions import served
from opsbus_sandbox.kubeconfig import write_kubeconfig
from opsbus_sandbox.listen import listen
from opsbus_sandbox.settings import SandboxSettings


@dataclass
class Cluster:
    """A running cluster. `close` stops it; nothing of it is kept. `tokens` are by account name."""

    url: str
    kubeconfig: Path
    """A context per account, for a person with kubectl."""
    platform_kubeconfig: Path
    """The platform's own context alone, for a worker that offers every context it finds."""
    tokens: dict[str, str]
    store: ObjectStore
    _runner: web.AppRunner
    _controllers: asyncio.Task[None] | None
    """None: the cluster is bare."""

    async def close(self) -> None:
        """Stop serving, end open watches, stop the controllers."""
        await self._runner.cleanup()
        if self._controllers is None:
            return
        self._controllers.cancel()
        with suppress(asyncio.CancelledError):
            await self._controllers


async def start_cluster(settings: SandboxSettings) -> Cluster:
    """Build the estate's objects, start the controllers and serve the API. Raises OSError when the port is taken."""
    clock = Clock(settings.speed)
    store = ObjectStore(clock, history_limit=settings.history_limit, seed=settings.seed)
    (build_bare if settings.bare else build_estate)(store)
    software = EstateSoftware(clock)
    tokens = {name: account.token or secrets.token_urlsafe(24) for name, account in settings.accounts.items()}
    users = {tokens[name]: User(account.user, account.groups) for name, account in settings.accounts.items()}
    serves = served(settings.kube_version, KUBERNETES_VERSION, settings.kube_lacks, settings.kube_down)
    server = KubeServer(store, software, users, served=serves, bookmark_every_s=settings.bookmark_every_s)
    certificate = make_certificate(settings.host)
    runner, url = await listen(server.app(), settings.host, settings.kube_port, certificate.context)
    kubeconfig, platform = settings.state_dir / "kubeconfig", settings.state_dir / "kubeconfig-platform"
    try:
        for path, known in ((kubeconfig, tokens), (platform, dict(list(tokens.items())[:1]))):
            write_kubeconfig(
                path, cluster=CLUSTER, server=url, authority_pem=certificate.authority_pem, namespace="shop",
                tokens=known,
            )  # fmt: skip
    except OSError:
        await runner.cleanup()
        raise
    controllers = None
    if not settings.bare:
        controllers = asyncio.create_task(Reconciler(store, software).run(), name="sandbox-controllers")
    return Cluster(url, kubeconfig, platform, tokens, store, runner, controllers)
