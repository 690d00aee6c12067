"""The clusters the worker can reach, and a call's way into one of them.

Which context, as whom, which namespaces, how long.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from types import TracebackType
from typing import Protocol

from opsbus import ErrorCode, ToolError
from opsbus.permission import decide
from opsbus.toolerror import near
from opsbus_contracts import Identity
from opsbus_k8s_ops.api import VERSION, CallerClient, ClusterApi, Impersonation
from opsbus_k8s_ops.beside import Beside
from opsbus_k8s_ops.discovery import Discovery
from opsbus_k8s_ops.kube_light import ConfigException
from opsbus_k8s_ops.kubeconfig import ClusterConfig, Refresher, load_clusters
from opsbus_k8s_ops.listing import Bounds, names_of
from opsbus_k8s_ops.models import ClusterInfo
from opsbus_k8s_ops.settings import K8sSettings

RESERVED = "system:"
"""Users and groups of Kubernetes itself: nobody who comes through the bus may be taken for one."""

READS = "k8s:get"
"""The permission of the tools that read."""

PROBE_MARGIN_S = 0.5
"""Beyond a probe's own timeout. Seconds."""

WATCHES_MAX = 96
"""Connections that watches of one cluster hold, at most."""

ANSWER_MARGIN_S = 0.5
"""Kept of a call's deadline for the answer itself. Seconds."""


class Call(Protocol):
    """What is needed of a call's context."""

    @property
    def identity(self) -> Identity: ...
    @property
    def remaining_s(self) -> float: ...


@dataclass(frozen=True)
class Reach:
    """One context: how to reach it, and the client that does."""

    config: ClusterConfig
    client: CallerClient


class Clusters:
    """Every configured cluster. An async context manager: entering reads the configuration, leaving closes connections.

    Raises:
        NoClustersError: on entering, when there is no usable configuration.
    """

    def __init__(self, settings: K8sSettings) -> None:
        self.settings = settings
        self.default = ""
        self.discovery = Discovery()
        self.beside = Beside()
        self._reach: dict[str, Reach] = {}

    async def __aenter__(self) -> "Clusters":
        configs, self.default = await load_clusters(self.settings)
        for name, config in configs.items():
            if self.settings.watch:  # watches hold connections, which calls must not lack
                config.configuration.connection_pool_maxsize += WATCHES_MAX
            client = CallerClient(config.configuration)
            client.user_agent = "opsbus-k8s-ops"
            self._reach[name] = Reach(config, client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reach in self._reach.values():
            hook = reach.config.configuration.refresh_api_key_hook
            if isinstance(hook, Refresher):
                await hook.close()
            await reach.client.close()  # type: ignore[no-untyped-call]

    @property
    def names(self) -> list[str]:
        """The contexts, the default one first."""
        return sorted(self._reach, key=lambda name: (name != self.default, name))

    @property
    def bounds(self) -> Bounds:
        """How much one call reads."""
        return Bounds(self.settings.page_size, self.settings.scan_max)

    def api(self, call: Call, cluster: str | None) -> ClusterApi:
        """The API of one cluster, as the call's caller, within the call's deadline.

        Raises:
            ToolError: ``not_found`` for an unknown cluster, ``forbidden`` for a caller that names a part of
            Kubernetes itself.
        """
        name = cluster or self.default
        if name not in self._reach:
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"there is no cluster {name!r}",
                hint=f"Configured clusters: {', '.join(self.names)}.",
                did_you_mean=near(name, self.names),
            )
        client = self._reach[name].client.acting_as(self.impersonation(call.identity))
        limits = self.settings.request_timeout_s, self.settings.response_bytes_max
        names = partial(self._may_hear_of, call.identity, name)
        api = ClusterApi(name, client, *limits, negotiation=self.discovery, names=names)
        return api.within(call.remaining_s - ANSWER_MARGIN_S)

    def _may_hear_of(self, who: Identity, cluster: str, namespace: str) -> bool:
        """Whether settings and policy leave a namespace open to somebody."""
        touches = {"cluster": (cluster,), "namespace": (namespace,)}
        return self.allowed(namespace) and decide(tuple(who.permissions), who.grants, READS, touches).permitted

    def impersonation(self, identity: Identity) -> Impersonation | None:
        """Whom the cluster shall see; None when impersonation is off.

        Raises:
            ToolError: ``forbidden`` for names that Kubernetes reserves or no header can carry.
        """
        if not self.settings.impersonate:
            return None
        user = self.settings.impersonate_user_prefix + identity.sub
        groups = tuple(self.settings.impersonate_group_prefix + role for role in identity.roles)
        for name in (user, *groups):
            if name.startswith(RESERVED) or not name.isprintable():
                raise ToolError(
                    ErrorCode.FORBIDDEN,
                    f"{name!r} cannot be impersonated in a cluster",
                    hint=f"Names that begin with {RESERVED!r} belong to Kubernetes itself.",
                )
        return Impersonation(user, groups)

    def allowed(self, namespace: str) -> bool:
        """Whether the settings let the tools touch a namespace."""
        patterns = self.settings.namespaces
        return not patterns or any(fnmatchcase(namespace, pattern) for pattern in patterns)

    def require_allowed(self, namespaces: Iterable[str]) -> None:
        """
        Raises:
            ToolError: ``forbidden`` for a namespace outside the settings.
        """
        for namespace in namespaces:
            if not self.allowed(namespace):
                raise ToolError(
                    ErrorCode.FORBIDDEN,
                    f"namespace {namespace!r} is closed to these tools",
                    hint=f"This worker serves: {', '.join(self.settings.namespaces)}.",
                )

    def watched(self, namespace: str) -> bool:
        """Whether the settings want a namespace watched."""
        patterns = self.settings.watch_namespaces
        return self.allowed(namespace) and (
            not patterns or any(fnmatchcase(namespace, pattern) for pattern in patterns)
        )

    def as_itself(self, name: str) -> ClusterApi:
        """A cluster as the worker itself, for what no call asked for; its failures shut out no call."""
        client = self._reach[name].client.with_own_guard()
        return ClusterApi(name, client, self.settings.request_timeout_s, self.settings.response_bytes_max)

    def as_worker(self, api: ClusterApi) -> ClusterApi:
        """The same cluster as the worker itself, for questions about a caller that the caller may not ask."""
        return replace(api, client=self._reach[api.name].client)

    async def namespaces(self, call: Call, cluster: str | None = None) -> list[str]:
        """Names of the namespaces the caller can list and the settings allow."""
        api = self.api(call, cluster)
        return [name for name in await names_of(api, "namespaces") if api.names(name)]

    async def probe(self) -> list[ClusterInfo]:
        """Version and reachability of every cluster, as the worker itself.

        All are asked at once and none for longer than ``probe_timeout_s``: a dead one holds up nobody.
        """
        return list(await asyncio.gather(*(self._probe_in_time(name) for name in self.names)))

    async def _probe_in_time(self, name: str) -> ClusterInfo:
        reach, limit_s = self._reach[name], self.settings.probe_timeout_s
        info = ClusterInfo(name=name, server=reach.config.server, default=name == self.default, reachable=False)
        try:
            # A little longer than the request itself: credentials may have to be fetched by a program first.
            return await asyncio.wait_for(self._probe(name, info), limit_s + PROBE_MARGIN_S)
        except TimeoutError:
            why = f"did not answer within {limit_s + PROBE_MARGIN_S:g} s: its credentials may hang"
        except (ConfigException, OSError, ValueError) as error:  # what hands out its credentials is broken
            why = f"its credentials cannot be loaded: {type(error).__name__}"
        return info.model_copy(update={"reason": f"cluster {name} {why}"})

    async def _probe(self, name: str, info: ClusterInfo) -> ClusterInfo:
        reach = self._reach[name]
        api = ClusterApi(name, reach.client, self.settings.probe_timeout_s, self.settings.response_bytes_max)
        begun = time.monotonic()
        try:
            version = await api.get(VERSION, "read the version")
        except ToolError as error:
            return info.model_copy(update={"reason": error.message})
        latency_ms = round((time.monotonic() - begun) * 1000, 1)
        update = {"reachable": True, "version": str(version.get("gitVersion") or ""), "latency_ms": latency_ms}
        return info.model_copy(update=update)
