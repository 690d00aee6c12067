"""One process, two faces: the Kubernetes API on one port, the monitoring APIs on the other. Wiring only."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from opsbus.service import Service
from opsbus_sandbox.__main__ import run
from opsbus_sandbox.certificates import make_certificate
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.estate.cluster import CLUSTER, KUBERNETES_VERSION
from opsbus_sandbox.estate.software import EstateSoftware
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.reconcile.loop import Reconciler
from opsbus_sandbox.kube.server import KubeServer
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kubeconfig import write_kubeconfig
from opsbus_sandbox.metrics.app import build_app
from opsbus_sandbox.settings import SandboxSettings

_STOP_TIMEOUT_S = 1.0


@dataclass
class Estate:
    """A running estate. `close` stops it; nothing of it is kept. `tokens` are by account name."""

    kube_url: str
    prometheus_url: str
    kubeconfig: Path
    tokens: dict[str, str]
    store: ObjectStore
    _runners: list[web.AppRunner]
    _tasks: list[asyncio.Task[Any]]

    @property
    def alertmanager_url(self) -> str:
        """Alertmanager's API, beside Prometheus."""
        return f"{self.prometheus_url}/alertmanager"

    @property
    def grafana_url(self) -> str:
        """Grafana's API, beside Prometheus."""
        return f"{self.prometheus_url}/grafana"

    @property
    def facts(self) -> dict[str, str]:
        """The addresses, as the ready file and the console tell them."""
        return {
            "kubernetes_url": self.kube_url,
            "kubeconfig": str(self.kubeconfig.resolve()),
            "prometheus_url": self.prometheus_url,
            "alertmanager_url": self.alertmanager_url,
            "grafana_url": self.grafana_url,
        }

    async def close(self) -> None:
        """Stop serving, end open watches, stop the controllers."""
        for runner in self._runners:
            await runner.cleanup()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task


async def serve(
    host: str = "127.0.0.1", kube_port: int = 0, metrics_port: int = 0, state_dir: Path = Path(".opsbus/sandbox"),
    **more: Any,
) -> Estate:  # fmt: skip
    """Start the estate and return once both faces answer. `more` are further fields of `SandboxSettings`."""
    settings = SandboxSettings(host=host, kube_port=kube_port, metrics_port=metrics_port, state_dir=state_dir, **more)
    return await start(settings)


async def start(settings: SandboxSettings) -> Estate:
    """Build the estate, start its controllers and serve it. Raises OSError when a port is taken."""
    clock = Clock(settings.speed)
    store = ObjectStore(clock, history_limit=settings.history_limit, seed=settings.seed)
    build_estate(store)
    software = EstateSoftware(clock)
    tokens = {name: account.token or secrets.token_urlsafe(24) for name, account in settings.accounts.items()}
    users = {tokens[name]: User(account.user, account.groups) for name, account in settings.accounts.items()}
    server = KubeServer(store, software, users, version=KUBERNETES_VERSION, bookmark_every_s=settings.bookmark_every_s)
    certificate = make_certificate(settings.host)
    kube, kube_url = await _listen(server.app(), settings.host, settings.kube_port, certificate.context)
    monitoring = build_app(
        store, scrape_targets=settings.scrape_targets, grafana_token=settings.grafana_token.get_secret_value()
    )
    try:
        metrics, prometheus_url = await _listen(monitoring, settings.host, settings.metrics_port)
    except OSError:
        await kube.cleanup()
        raise
    kubeconfig = settings.state_dir / "kubeconfig"
    write_kubeconfig(
        kubeconfig, cluster=CLUSTER, server=kube_url, authority_pem=certificate.authority_pem, namespace="shop",
        tokens=tokens,
    )  # fmt: skip
    controllers = asyncio.create_task(Reconciler(store, software).run(), name="sandbox-controllers")
    return Estate(kube_url, prometheus_url, kubeconfig, tokens, store, [kube, metrics], [controllers])


async def _listen(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """Serve one application; the runner and the actual address are returned."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_STOP_TIMEOUT_S, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
    except OSError:
        await runner.cleanup()
        raise
    actual = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return runner, f"{'https' if tls else 'http'}://{shown}:{actual}"


service = Service(
    name="sandbox", token="sandbox", main=run, order=5, needs=(), kind="backend",  # noqa: S106 - a name
    description="The practice estate: a Kubernetes cluster and its monitoring, for whoever has none at hand.",
)  # fmt: skip
