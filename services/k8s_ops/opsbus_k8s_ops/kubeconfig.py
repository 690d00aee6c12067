"""Where the clusters are: contexts of kubeconfig files, or the cluster the worker runs in.

Talking to them is in api.py.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opsbus.settings import SettingsError
from opsbus.tasks import end
from opsbus_k8s_ops.kube_light import (
    ApiClient,
    ConfigException,
    Configuration,
    KubeConfigLoader,
    KubeConfigMerger,
    load_incluster_config,
)
from opsbus_k8s_ops.settings import K8sSettings

IN_CLUSTER = "in-cluster"
"""The name of the one context there is without a kubeconfig."""

CONNECTIONS_MAX = 32
"""Connections to one API server."""


REFRESH_EVERY_S = 60.0
"""How often credentials that expire are loaded anew. Seconds."""


class NoClustersError(SettingsError):
    """There is no usable configuration; the message says what was looked for."""


@dataclass(frozen=True)
class ClusterConfig:
    """How to reach one cluster, as the worker itself."""

    name: str
    configuration: Configuration

    @property
    def server(self) -> str:
        """The API server's address; it never carries credentials."""
        return str(self.configuration.host)

    def client(self) -> ApiClient:
        """A client of the official library for this cluster."""
        return ApiClient(self.configuration)


class Refresher:
    """Loads a token anew before it expires: exec plugins, OIDC and token files hand out short-lived ones.

    One load at a time, which whoever waits for it may leave: a program that hangs is not started again and again.
    """

    def __init__(self, loader: KubeConfigLoader) -> None:
        self._loader = loader
        self._loading: asyncio.Task[None] | None = None
        self._loaded = time.monotonic()

    async def __call__(self, configuration: Configuration) -> None:
        """The client library's hook: runs before each request, does something once a minute."""
        if time.monotonic() - self._loaded < REFRESH_EVERY_S:
            return
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(configuration))
            self._loading.add_done_callback(_seen)
        await asyncio.shield(self._loading)

    async def close(self) -> None:
        """Ends a load that is under way."""
        if self._loading is not None:
            await end(self._loading)

    async def _load(self, configuration: Configuration) -> None:
        await self._loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        self._loaded = time.monotonic()


def _seen(task: asyncio.Task[None]) -> None:
    """A failure was told to those who waited; that nobody did is no second failure."""
    if not task.cancelled():
        task.exception()


def config_paths(settings: K8sSettings) -> str:
    """Paths to read, joined as in KUBECONFIG; empty: use the pod's service account."""
    named = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    if named or os.environ.get("KUBERNETES_SERVICE_HOST"):
        return named
    return str(Path.home() / ".kube" / "config")


async def load_clusters(settings: K8sSettings) -> tuple[dict[str, ClusterConfig], str]:
    """Every context by name, and the name of the default one.

    Contexts that do not load are an error: a typo is not a cluster.

    Raises:
        NoClustersError: nothing to load, or it does not load.
    """
    paths = config_paths(settings)
    try:
        if not paths:
            return _in_cluster()
        return await _from_files(paths, settings)
    except (ConfigException, OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        where = paths or "the service account of this pod"
        raise NoClustersError(f"no Kubernetes configuration could be read from {where}: {error}") from error


def _in_cluster() -> tuple[dict[str, ClusterConfig], str]:
    configuration = Configuration(connection_pool_maxsize=CONNECTIONS_MAX)
    load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return {IN_CLUSTER: ClusterConfig(IN_CLUSTER, configuration)}, IN_CLUSTER


async def _from_files(paths: str, settings: K8sSettings) -> tuple[dict[str, ClusterConfig], str]:
    merged = KubeConfigMerger(paths).config  # type: ignore[no-untyped-call]
    if merged is None:
        raise NoClustersError(f"no kubeconfig at {paths}: set OPSBUS_K8S_KUBECONFIG or KUBECONFIG")
    names = [context["name"] for context in merged.value.get("contexts") or []]
    current = settings.default_context or merged.value.get("current-context") or ""
    if settings.contexts:
        missing = sorted(set(settings.contexts) - set(names))
        if missing:
            raise NoClustersError(
                f"the kubeconfig has no context {', '.join(missing)}; it has {', '.join(names) or 'none'}"
            )
        names = [name for name in names if name in settings.contexts]
    if not names:
        raise NoClustersError(f"the kubeconfig at {paths} has no contexts")
    if settings.default_context and settings.default_context not in names:
        raise NoClustersError(f"the default context {settings.default_context!r} is not among {', '.join(names)}")
    clusters = {}
    for name in names:
        configuration = Configuration(connection_pool_maxsize=CONNECTIONS_MAX)
        # None: files a kubeconfig names are relative to its own folder.
        loader = KubeConfigLoader(config_dict=merged, active_context=name, config_base_path=None)  # type: ignore[no-untyped-call]
        await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        if _expires(merged.value, name):
            configuration.refresh_api_key_hook = Refresher(loader)  # type: ignore[assignment]
        clusters[name] = ClusterConfig(name, configuration)
    return clusters, current if current in clusters else names[0]


def _expires(config: dict[str, Any], context_name: str) -> bool:
    """Whether the context's user has credentials that are handed out for a while."""
    user_name = next(c["context"].safe_get("user") for c in config["contexts"] if c["name"] == context_name)
    user = next((u["user"] for u in config.get("users") or [] if u["name"] == user_name), None) or {}
    return any(key in user for key in ("exec", "auth-provider", "tokenFile"))
