"""One process, two faces: the Kubernetes API on one port, the monitoring APIs on the other. Wiring only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from opsbus.service import Service
from opsbus_sandbox.__main__ import run
from opsbus_sandbox.cluster import Cluster, start_cluster
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.listen import listen
from opsbus_sandbox.metrics.app import build_app
from opsbus_sandbox.settings import SandboxSettings


@dataclass
class Estate:
    """A running estate. `close` stops it; nothing of it is kept."""

    cluster: Cluster
    prometheus_url: str
    _monitoring: web.AppRunner

    @property
    def kube_url(self) -> str:
        """The Kubernetes API."""
        return self.cluster.url

    @property
    def kubeconfig(self) -> Path:
        """How a person with kubectl gets in; the platform's own account is the current context."""
        return self.cluster.kubeconfig

    @property
    def tokens(self) -> dict[str, str]:
        """The bearer tokens, by account name."""
        return self.cluster.tokens

    @property
    def store(self) -> ObjectStore:
        """The cluster's objects."""
        return self.cluster.store

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
            "kubeconfig": str(self.cluster.platform_kubeconfig.resolve()),
            "people_kubeconfig": str(self.kubeconfig.resolve()),
            "prometheus_url": self.prometheus_url,
            "alertmanager_url": self.alertmanager_url,
            "grafana_url": self.grafana_url,
        }

    async def close(self) -> None:
        """Stop serving, end open watches, stop the controllers."""
        await self._monitoring.cleanup()
        await self.cluster.close()


async def serve(
    host: str = "127.0.0.1", kube_port: int = 0, metrics_port: int = 0, state_dir: Path = Path(".opsbus/sandbox"),
    **more: Any,
) -> Estate:  # fmt: skip
    """Start the estate and return once both faces answer. `more` are further fields of `SandboxSettings`."""
    settings = SandboxSettings(host=host, kube_port=kube_port, metrics_port=metrics_port, state_dir=state_dir, **more)
    return await start(settings)


async def start(settings: SandboxSettings) -> Estate:
    """Start the cluster, then its monitoring. Raises OSError when a port is taken."""
    cluster = await start_cluster(settings)
    token = settings.grafana_token.get_secret_value()
    monitoring = build_app(cluster.store, scrape_targets=settings.scrape_targets, grafana_token=token)
    try:
        runner, url = await listen(monitoring, settings.host, settings.metrics_port)
    except OSError:
        await cluster.close()
        raise
    return Estate(cluster, url, runner)


service = Service(
    name="sandbox", token="sandbox", main=run, order=5, needs=(), kind="backend",  # noqa: S106 - a name
    description="The practice estate: a Kubernetes cluster and its monitoring, for whoever has none at hand.",
)  # fmt: skip
