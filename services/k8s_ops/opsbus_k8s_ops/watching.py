"""Watches of every cluster, beside the calls: list, then follow from there with bookmarks, and start over when the
server, the way there or the stream no longer holds.

What is made of the objects is in watchfacts.py; telling it is in telling.py. No tool waits for any of this.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from opsbus import ErrorCode, ToolError, Worker, tasks
from opsbus.logs import Log
from opsbus.runtime import Runtime
from opsbus_k8s_ops.api import VERSION, ClusterApi, Obj, path_of
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.kube_light import ConfigException
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_k8s_ops.settings import K8sSettings
from opsbus_k8s_ops.telling import Telling
from opsbus_k8s_ops.watchfacts import Fact, Key, Nodes, Pods, View, Workloads, key_of
from opsbus_k8s_ops.watchmetrics import WatchMetrics
from opsbus_k8s_ops.watchstream import BrokenWatchError, StaleWatchError, WatchRefusedError, watch_events

CLUSTERS_URI = "enterprise://k8s/clusters"

WORKLOADS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}
NAMESPACED = (*WORKLOADS, "pods")

PAGE_SIZE = 250
"""Objects per request of a listing here: a page is in memory whole, for a moment."""

NAMESPACES_WATCHED_MAX = 20
"""Namespaces that have watches of their own; of more the whole cluster is watched, and the others left out."""

OPEN_S = (240.0, 480.0)
"""How long the server is asked to keep a watch open, scattered. Seconds."""

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 60.0
REFUSED_RETRY_S = 600.0
"""A kind that may not be watched, or is not served, is tried again after this long. Seconds."""

SETTLED_S = 10.0
"""A watch that stood this long was no failure. Seconds."""

AGAIN_S = 6 * 3600.0
"""How often what runs is told again, so that readers who come late, or doubt what is old, find it. Seconds."""

LOOK_AGAIN_S = 10.0
"""How often pods that are not simply running are judged anew. Seconds."""

PROBE_AFTER_S = 1.0
"""A cluster is looked at this long after a watch of it began or ended. Seconds."""


@dataclass
class Parts:
    """What all watches of a worker share."""

    telling: Telling
    metrics: WatchMetrics
    log: Log
    stale_s: float
    objects_max: int
    page_size: int


class Watch:
    """One kind in one cluster, or in one namespace of it."""

    def __init__(
        self,
        api: ClusterApi,
        resource: str,
        namespace: str | None,
        view: View,
        parts: Parts,
        *,
        wanted: Callable[[str], bool],
        listing: asyncio.Lock,
        moved: Callable[[], None],
    ) -> None:
        """``wanted``: of namespaces; ``listing``: held while a list is read; ``moved``: told of beginnings and ends."""
        self.api = api
        self.resource = resource
        self.view = view
        self.heard_at = time.monotonic()
        self.open = False
        self._namespace = namespace
        self._parts = parts
        self._wanted = wanted
        self._listing = listing
        self._moved = moved
        self._version = ""
        self._first = True
        self._again_at = _in_hours()
        self._failures = 0
        self._refused = False
        self._log = parts.log.bind(cluster=api.name, resource=resource, namespace=namespace or "")

    async def run(self) -> None:
        """Watches for ever."""
        while True:
            reason = await self._round()
            self._parts.metrics.restarts.labels(self.api.name, self.resource, reason).inc()
            self._moved()
            await asyncio.sleep(self._pause_s(reason))

    def look_again(self, now: datetime) -> None:
        """Tells what has become true since by the passing of time."""
        self._tell(self.view.later(now))

    async def _round(self) -> str:
        """A listing where one is needed, and a watch to its end; why it ended."""
        try:
            if time.monotonic() > self._again_at:
                self.view.again()
                self._version, self._first, self._again_at = "", True, _in_hours()
            if not self._version:
                await self._list()
            await self._follow()
        except StaleWatchError as stale:
            self._version = ""  # what stood silent may have let nothing through: the list says what is
            return self._failed("stale", stale)
        except WatchRefusedError as error:
            self._version = ""
            return self._failed("expired" if error.code == 410 else "unavailable", error)
        except BrokenWatchError as error:
            self._version = ""
            return self._failed("broken", error)
        except ToolError as error:
            return self._told_off(error)
        except (aiohttp.ClientError, ConfigException, OSError, ValueError) as error:
            return self._failed("unavailable", error)
        except Exception as bug:  # noqa: BLE001 - it is logged; a watch that ended here would be silent for good
            self._version = ""
            self._log.exception("watch_failed", bug)
            self._failures += 1
            return "failed"
        return "closed"

    async def _list(self) -> None:
        there: list[Key] = []

        def keep(obj: Obj) -> None:
            if self._is_wanted(obj):
                there.append(key_of(obj))
                self._tell(self.view.seen(self._whole(obj)))

        bounds = Bounds(self._parts.page_size, self._parts.objects_max)
        async with self._listing:
            listing = await list_objects(self.api, self.resource, self._namespace, keep, bounds)
        if not listing.version:
            raise BrokenWatchError("the list has no resourceVersion")
        self._parts.metrics.lists.labels(self.api.name, self.resource).inc()
        if listing.complete:
            self._tell(self.view.only(there))
        else:
            self._log.warning("list_too_long", looked_at=len(listing.items))
        self._version, self._first, self._refused = listing.version, False, False
        self.heard_at = time.monotonic()

    async def _follow(self) -> None:
        query: list[tuple[str, str | int]] = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", int(random.uniform(*OPEN_S))),  # noqa: S311 - a scatter
        ]
        path, stale_s = path_of(self.resource, self._namespace), self._parts.stale_s
        began = time.monotonic()
        async with self.api.stream(path, f"watch {self.resource}", query, silence_s=stale_s + 1) as content:
            self.open = True
            self._moved()
            try:
                async for kind, obj in watch_events(content, stale_s):
                    self._take(kind, obj)
            finally:
                self.open = False
                if time.monotonic() - began > SETTLED_S:
                    self._failures = 0
        if time.monotonic() - began < SETTLED_S and self.heard_at < began:
            self._failures += 1  # ended at once, with nothing said

    def _take(self, kind: str, obj: Obj) -> None:
        self.heard_at = time.monotonic()
        self._failures = 0
        if kind != "BOOKMARK" and self._is_wanted(obj):
            self._tell(self.view.gone(obj) if kind == "DELETED" else self.view.seen(self._whole(obj)))
        self._version = str(obj["metadata"].get("resourceVersion") or self._version)

    def _tell(self, facts: list[Fact]) -> None:
        self._parts.telling.add(facts, first=self._first)

    def _is_wanted(self, obj: Obj) -> bool:
        namespace = key_of(obj)[0]
        return not namespace or self._wanted(namespace)

    def _whole(self, obj: Obj) -> Obj:
        """Objects of a list do not say their kind."""
        kind = WORKLOADS.get(self.resource)
        return {**obj, "kind": kind} if kind else obj

    def _told_off(self, error: ToolError) -> str:
        status = error.details.get("http_status")
        if status == 410:
            self._version = ""
            return self._failed("expired", error)
        if error.code in (ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND) or status == 405:
            self._version = ""
            if not self._refused:
                self._refused = True
                self._log.error(
                    "watch_refused",
                    error=error.message,
                    hint="its events are not told; the worker's own account needs list and watch; tried again rarely",
                    again_in_s=REFUSED_RETRY_S,
                )
            return "refused"
        if error.code is not ErrorCode.BACKEND_UNAVAILABLE:
            self._version = ""
        return self._failed("unavailable", error)

    def _failed(self, reason: str, error: Exception) -> str:
        self._failures += 1
        if self._failures > 3:
            self._version = ""
        if self._failures in (1, 10, 100):
            self._log.warning(
                "watch_ended", reason=reason, error=f"{type(error).__name__}: {error}"[:300], times=self._failures
            )
        return reason

    def _pause_s(self, reason: str) -> float:
        if reason == "refused":
            return REFUSED_RETRY_S * random.uniform(0.8, 1.2)  # noqa: S311 - a scatter
        # The first failure after a good time is tried again at once, nearly: it is how watches end.
        longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10))
        return random.uniform(0.2, 1.0) * longest  # noqa: S311 - a scatter


def _in_hours() -> float:
    """When what runs is told again: scattered, so that workers started together do not list together."""
    return time.monotonic() + AGAIN_S * random.uniform(0.8, 1.2)  # noqa: S311


class Watching:
    """All watches of a worker."""

    def __init__(self, clusters: Clusters, settings: K8sSettings, runtime: Runtime) -> None:
        self._clusters = clusters
        self._settings = settings
        self._runtime = runtime
        self._log = runtime.log.bind(part="watching")
        metrics = self.metrics = WatchMetrics()
        self._parts = Parts(
            telling=Telling(
                runtime.js,
                runtime.worker.name,
                runtime.instance,
                self._log,
                per_s=settings.watch_events_per_s,
                told=lambda kind: metrics.events.labels(kind).inc(),
                lost=lambda kind: metrics.lost.labels(kind).inc(),
            ),
            metrics=metrics,
            log=self._log,
            stale_s=settings.watch_stale_s,
            objects_max=settings.watch_objects_max,
            page_size=min(PAGE_SIZE, settings.page_size),
        )
        self._moved: dict[str, asyncio.Event] = {}
        self.watches = list(self._all())
        metrics.refresh = self._refresh

    async def run(self) -> None:
        """Watches every cluster for ever; metrics are on the worker's own /metrics meanwhile."""
        registry = self._runtime.metrics.registry
        registry.register(self.metrics)
        running = [asyncio.create_task(self._parts.telling.run()), asyncio.create_task(self._look_again())]
        running += [asyncio.create_task(watch.run()) for watch in self.watches]
        running += [asyncio.create_task(self._keep_probed(name, moved)) for name, moved in self._moved.items()]
        try:
            await asyncio.gather(*running)
        finally:
            await tasks.end(*running)
            registry.unregister(self.metrics)

    def _all(self) -> Iterator[Watch]:
        for name in self._clusters.names:
            listing, moved = asyncio.Lock(), self._moved.setdefault(name, asyncio.Event())
            for namespace in self._scope():
                for resource in NAMESPACED:
                    kind = WORKLOADS.get(resource)
                    view = Workloads(name, kind.lower()) if kind else Pods(name)
                    yield self._one(name, resource, namespace, view, listing, moved)
            if not self._settings.namespaces and not self._settings.watch_namespaces:
                yield self._one(name, "nodes", None, Nodes(name), listing, moved)

    def _one(
        self, name: str, resource: str, namespace: str | None, view: View, listing: asyncio.Lock, moved: asyncio.Event
    ) -> Watch:
        api = self._clusters.as_itself(name)
        return Watch(api, resource, namespace, view, self._parts, wanted=self._wanted, listing=listing, moved=moved.set)

    def _scope(self) -> list[str | None]:
        """Namespaces that are watched one by one, so that rights in them are enough; or the whole cluster."""
        chosen = self._settings.watch_namespaces or self._settings.namespaces
        plain = [name for name in dict.fromkeys(chosen) if not set(name) & set("*?[")]
        if not chosen or len(plain) < len(set(chosen)) or len(plain) > NAMESPACES_WATCHED_MAX:
            return [None]
        return [name for name in plain if self._wanted(name)]

    def _wanted(self, namespace: str) -> bool:
        return self._clusters.watched(namespace)

    def _refresh(self) -> None:
        now = time.monotonic()
        places = {(watch.api.name, watch.resource) for watch in self.watches}
        for place in places:
            watches = [watch for watch in self.watches if (watch.api.name, watch.resource) == place]
            self.metrics.age.labels(*place).set(max(now - watch.heard_at for watch in watches))
            self.metrics.open.labels(*place).set(sum(watch.open for watch in watches))
            self.metrics.objects.labels(*place).set(sum(len(watch.view) for watch in watches))
        self.metrics.pending.set(self._parts.telling.pending)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            for watch in self.watches:
                watch.look_again(datetime.now(UTC))
                await asyncio.sleep(0)

    async def _keep_probed(self, name: str, moved: asyncio.Event) -> None:
        """Tells readers of the resource when a cluster comes, goes or changes its version."""
        api = self._clusters.as_itself(name).within(self._settings.probe_timeout_s)
        known: str | None = None
        while True:
            await moved.wait()
            await asyncio.sleep(PROBE_AFTER_S)
            moved.clear()
            found = await _version(api)
            if known is not None and found != known:
                await self._runtime.events.emit("resource_updated", {"uri": CLUSTERS_URI}, CLUSTERS_URI)
            known = found


async def _version(api: ClusterApi) -> str:
    """Of a cluster that answers; empty: it does not."""
    with suppress(ToolError, ConfigException, OSError, ValueError):
        return str((await api.get(VERSION, "read the version")).get("gitVersion") or "unknown")
    return ""


async def watch_clusters(made: Worker, settings: K8sSettings, clusters: Clusters) -> None:
    """Watches as the instance that runs with ``settings``, once it is there, for ever."""
    while True:
        runtime = next((one for one in made.runtimes if one.settings is settings), None)
        if runtime is None:
            await asyncio.sleep(0.1)
            continue
        try:
            await Watching(clusters, settings, runtime).run()
        except Exception as bug:
            runtime.log.exception("watching_failed", bug)
            await asyncio.sleep(BACKOFF_MAX_S)
