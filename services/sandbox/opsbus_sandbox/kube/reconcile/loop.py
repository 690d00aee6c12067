"""The loop that drives all controllers: changes and timers become keys of work, and keys become calls."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable

from opsbus_sandbox.kube.factory import controller_of
from opsbus_sandbox.kube.reconcile.budgets import sync_autoscaler, sync_budget, sync_quota
from opsbus_sandbox.kube.reconcile.context import Context, WorkKey
from opsbus_sandbox.kube.reconcile.daemonsets import sync_daemonset
from opsbus_sandbox.kube.reconcile.deployments import sync_deployment
from opsbus_sandbox.kube.reconcile.garbage import collect, sync_claim, sync_deleting, sync_namespace
from opsbus_sandbox.kube.reconcile.jobs import sync_cronjob, sync_job
from opsbus_sandbox.kube.reconcile.kubelet import Kubelet
from opsbus_sandbox.kube.reconcile.nodes import sync_node
from opsbus_sandbox.kube.reconcile.replicasets import sync_replicaset
from opsbus_sandbox.kube.reconcile.services import sync_service
from opsbus_sandbox.kube.reconcile.statefulsets import sync_statefulset
from opsbus_sandbox.kube.recorder import Recorder
from opsbus_sandbox.kube.resources import BY_KIND
from opsbus_sandbox.kube.runtime import Software
from opsbus_sandbox.kube.store import Change, HistoryGoneError, ObjectStore

log = logging.getLogger(__name__)

# Changes that come together are worked on together, and no misbehaving pair of controllers can spin.
_BREATH_S = 0.005
_EVENTS_SWEEP_S = 60.0
_FAILED_RETRY_S = 5.0
_DELETING = "deleting:"
_SETTLED = {"events", "endpoints", "configmaps", "secrets", "serviceaccounts"}


class Reconciler:
    """All controllers over one store. `run` until cancelled."""

    def __init__(self, store: ObjectStore, software: Software) -> None:
        self._store = store
        self.context = Context(store, software, Recorder(store), self._after)
        self._kubelet = Kubelet(self.context)
        self._queue: dict[WorkKey, None] = {}
        self._timers: list[tuple[float, int, WorkKey]] = []
        self._due: dict[WorkKey, float] = {}
        self._sequence = itertools.count()
        self._position = store.version
        self._controllers: dict[str, Callable[[str, str], None]] = {
            "pods": self._kubelet.sync_pod,
            "events": lambda _namespace, _name: self._sweep(),
            "namespaces": lambda _, name: sync_namespace(self.context, name),
        } | {resource: self._bound(sync) for resource, sync in _SYNCS.items()}

    def _bound(self, sync: Callable[[Context, str, str], None]) -> Callable[[str, str], None]:
        return lambda namespace, name: sync(self.context, namespace, name)

    def _after(self, simulated_s: float, key: WorkKey) -> None:
        """Work on a key later. The earliest wish wins: a sync always asks anew for what it still waits for."""
        due = time.monotonic() + self.context.clock.real_seconds(max(simulated_s, 0.0))
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._timers, (due, next(self._sequence), key))

    async def run(self) -> None:
        """Reconcile for ever."""
        self._enqueue_everything()
        self._after(_EVENTS_SWEEP_S * self.context.clock.speed, ("events", "", ""))
        while True:
            self._take_changes()
            self._take_timers()
            for count, key in enumerate(list(self._queue)):
                del self._queue[key]
                self._work(key)
                if count % 50 == 49:
                    await asyncio.sleep(0)
            if not self._queue:
                await self._wait()
            await asyncio.sleep(_BREATH_S)

    def _work(self, key: WorkKey) -> None:
        resource, namespace, name = key
        try:
            if resource.startswith(_DELETING):
                sync_deleting(self.context, resource.removeprefix(_DELETING), namespace, name)
            else:
                self._controllers[resource](namespace, name)
        except Exception:
            # A controller that fails on one object must not stop the others; it is tried again.
            log.exception("reconciling %s %s/%s failed", resource, namespace, name)
            self._after(_FAILED_RETRY_S * self.context.clock.speed, key)

    async def _wait(self) -> None:
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        try:
            # Not wait_for, which before Python 3.12 can lose a cancellation.
            async with asyncio.timeout(timeout):
                await self._store.wait_beyond(self._position)
        except TimeoutError:
            return

    def _take_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self._enqueue(key)

    def _take_changes(self) -> None:
        try:
            changes = self._store.changes_since(self._position)
        except HistoryGoneError:
            self._enqueue_everything()
            changes = []
        self._position = self._store.version
        for change in changes:
            self._follow_up(change)

    def _enqueue(self, key: WorkKey) -> None:
        self._queue[key] = None

    def _enqueue_everything(self) -> None:
        for resource in self._controllers:
            if resource == "events":
                continue
            for obj in self._store.list(resource):
                self._enqueue((resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))

    def _follow_up(self, change: Change) -> None:
        """Who has work because of a change."""
        obj, resource = change.object, change.resource
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        if resource in self._controllers and resource != "events":
            self._enqueue((resource, namespace, name))
        if reference := controller_of(obj):
            self._enqueue_owner(namespace, reference["kind"], reference["name"])
        for reference in meta.get("ownerReferences") or []:
            if change.kind == "DELETED":
                self._enqueue_deleting(namespace, reference["kind"], reference["name"])
        if meta.get("deletionTimestamp") and meta.get("finalizers"):
            self._enqueue((f"{_DELETING}{resource}", namespace, name))
        if change.kind == "DELETED" and resource not in _SETTLED:
            collect(self.context, obj)
        if resource == "pods":
            self._follow_up_pod(change, namespace)
        elif resource == "nodes":
            self._enqueue_all("daemonsets")
            self._enqueue_unplaced()
        elif resource == "deployments":
            self._enqueue_all("horizontalpodautoscalers", namespace)
        elif resource == "serviceaccounts" or (resource == "resourcequotas" and change.kind == "DELETED"):
            # What kept pods from being created may be over.
            self._enqueue_all("replicasets", namespace)

    def _follow_up_pod(self, change: Change, namespace: str) -> None:
        for resource in ("services", "poddisruptionbudgets", "resourcequotas"):
            self._enqueue_all(resource, namespace)
        phase = change.object.get("status", {}).get("phase")
        if change.kind == "DELETED" or phase in ("Succeeded", "Failed"):
            self._enqueue_unplaced()
        if change.kind == "DELETED":
            self._kubelet.forget(change.object["metadata"]["uid"])

    def _enqueue_owner(self, namespace: str, kind: str, name: str) -> None:
        found = BY_KIND.get(kind)
        if found is not None and found.plural in self._controllers:
            self._enqueue((found.plural, namespace if found.namespaced else "", name))

    def _enqueue_deleting(self, namespace: str, kind: str, name: str) -> None:
        if found := BY_KIND.get(kind):
            self._enqueue((f"{_DELETING}{found.plural}", namespace if found.namespaced else "", name))

    def _enqueue_all(self, resource: str, namespace: str | None = None) -> None:
        for obj in self._store.list(resource, namespace):
            self._enqueue((resource, obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def _enqueue_unplaced(self) -> None:
        for pod in self._store.list("pods"):
            if not pod["spec"].get("nodeName"):
                self._enqueue(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]))

    def _sweep(self) -> None:
        self.context.recorder.forget_old()
        self._after(_EVENTS_SWEEP_S * self.context.clock.speed, ("events", "", ""))


# In this order at the start, so that what is counted is there before it is judged.
_SYNCS: dict[str, Callable[[Context, str, str], None]] = {
    "replicasets": sync_replicaset,
    "deployments": sync_deployment,
    "statefulsets": sync_statefulset,
    "daemonsets": sync_daemonset,
    "nodes": sync_node,
    "jobs": sync_job,
    "cronjobs": sync_cronjob,
    "services": sync_service,
    "poddisruptionbudgets": sync_budget,
    "resourcequotas": sync_quota,
    "horizontalpodautoscalers": sync_autoscaler,
    "persistentvolumeclaims": sync_claim,
}
