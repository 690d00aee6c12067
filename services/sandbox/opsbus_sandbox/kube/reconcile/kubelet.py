"""The nodes' agent: brings placed pods up, keeps their conditions true, and takes them down gracefully."""

from __future__ import annotations

import random
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.addresses import addresses
from opsbus_sandbox.kube.podstatus import is_ready, set_condition
from opsbus_sandbox.kube.reconcile.containers import COMPONENT, ContainerRunner, PodMemory
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.scheduler import schedule

Obj = dict[str, Any]


class Kubelet:
    """The agents of all nodes. Keeps what a node knows about its pods, by uid."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._memory: dict[str, PodMemory] = {}
        # Images on the nodes already. Those of pods that were running from the start are noted as they are met.
        self._pulled: set[tuple[str, str]] = set()

    def forget(self, uid: str) -> None:
        """A pod is gone."""
        self._memory.pop(uid, None)
        self._ctx.ready_at.pop(uid, None)
        self._ctx.scheduling_told.pop(uid, None)

    def sync_pod(self, namespace: str, name: str) -> None:
        """Do for one pod whatever its time has come for."""
        pod = self._ctx.store.get("pods", namespace, name)
        if pod is None or self._has_no_machine(pod["spec"].get("nodeName", "")):
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._terminate(pod)
        elif not pod["spec"].get("nodeName"):
            schedule(self._ctx, pod)
        elif pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self._run(pod)

    def _has_no_machine(self, name: str) -> bool:
        """Whether somebody registered the node by hand: no agent reports of it, and none acts on it."""
        node = self._ctx.store.get("nodes", "", name) if name else None
        return node is not None and not (node.get("status") or {}).get("nodeInfo")

    def _run(self, stored: Obj) -> None:
        ctx, pod = self._ctx, self._ctx.changed(stored)
        memory = self._memory.setdefault(pod["metadata"]["uid"], PodMemory())
        status, spec = pod["status"], pod["spec"]
        self._settle(pod)
        runner = ContainerRunner(ctx, pod, memory, self._pulled)
        initialized = self._initialize(runner)
        statuses = status.setdefault("containerStatuses", [])
        if initialized:
            for container in spec["containers"]:
                runner.drive(container, statuses)
        else:
            for container in spec["containers"]:
                if not any(entry["name"] == container["name"] for entry in statuses):
                    statuses.append(_not_yet(container))
        _judge(ctx, pod, initialized=initialized)
        for entry in statuses:
            if "running" in entry["state"]:
                self._pulled.add((runner.node, entry["image"]))
        now_ready = is_ready(pod)
        if now_ready and not is_ready(stored):
            ctx.ready_at[pod["metadata"]["uid"]] = ctx.elapsed()
        ctx.store.update("pods", pod)
        if runner.look_again is not None:
            meta = pod["metadata"]
            ctx.after(max(0.0, runner.look_again - ctx.elapsed()), ("pods", meta["namespace"], meta["name"]))

    def _settle(self, pod: Obj) -> None:
        """What a pod has as soon as its node knows of it: an address and a start time."""
        status, now = pod["status"], self._ctx.now()
        status.setdefault("startTime", timestamp(now))
        set_condition(status, "PodScheduled", "True", now)
        if "podIP" not in status:
            status.update(addresses(self._ctx.store, pod))

    def _initialize(self, runner: ContainerRunner) -> bool:
        """Run the init containers one after the other; whether all are done."""
        containers = runner.pod["spec"].get("initContainers") or []
        if not containers:
            return True
        statuses = runner.pod["status"].setdefault("initContainerStatuses", [])
        for container in containers:
            entry = runner.drive(container, statuses, initializing=True)
            if (entry["state"].get("terminated") or {}).get("exitCode") != 0:
                return False
        return True

    def _terminate(self, pod: Obj) -> None:
        """Give the containers a moment to stop, then let the pod go."""
        ctx, meta = self._ctx, pod["metadata"]
        memory = self._memory.setdefault(meta["uid"], PodMemory())
        key = ("pods", meta["namespace"], meta["name"])
        if memory.stop_at is None:
            grace = float(meta.get("deletionGracePeriodSeconds") or 0)
            dice = random.Random(meta["uid"])  # noqa: S311 - a delay
            memory.stop_at = ctx.elapsed() + min(grace, dice.uniform(0.5, 2.0))
            for container in pod["spec"]["containers"]:
                message = f"Stopping container {container['name']}"
                ctx.recorder.record(
                    pod, "Normal", "Killing", message, COMPONENT, host=pod["spec"].get("nodeName", ""),
                    container=container["name"],
                )  # fmt: skip
        left = memory.stop_at - ctx.elapsed()
        if left > 0:
            ctx.after(left, key)
        elif not meta.get("finalizers"):
            ctx.store.delete("pods", meta["namespace"], meta["name"])


def _not_yet(container: Obj) -> Obj:
    return {
        "name": container["name"], "image": container["image"], "imageID": "", "ready": False, "started": False,
        "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {},
    }  # fmt: skip


def _judge(ctx: Context, pod: Obj, *, initialized: bool) -> None:
    """Phase and conditions, from the states of the containers."""
    status, now = pod["status"], ctx.now()
    statuses = status["containerStatuses"]
    names = " ".join(entry["name"] for entry in statuses if not entry["ready"])
    unready = f"containers with unready status: [{names}]"
    ready = initialized and all(entry["ready"] for entry in statuses)
    ended = [entry["state"]["terminated"] for entry in statuses if "terminated" in entry["state"]]
    running = any("running" in e["state"] or (e.get("lastState") or {}).get("terminated") for e in statuses)
    begun = running or ended
    set_condition(status, "PodReadyToStartContainers", "True", now)
    if initialized:
        set_condition(status, "Initialized", "True", now)
    else:
        waiting = [c["name"] for c in pod["spec"].get("initContainers") or []]
        message = f"containers with incomplete status: [{' '.join(waiting)}]"
        set_condition(status, "Initialized", "False", now, "ContainersNotInitialized", message)
    if len(ended) == len(statuses) and pod["spec"].get("restartPolicy") != "Always":
        failed = any(entry["exitCode"] != 0 for entry in ended)
        status["phase"] = "Failed" if failed else "Succeeded"
        reason = "PodFailed" if failed else "PodCompleted"
        for kind in ("Ready", "ContainersReady"):
            set_condition(status, kind, "False", now, reason)
        return
    if _init_failed(pod):
        status["phase"] = "Failed"
    else:
        status["phase"] = "Running" if initialized and begun else "Pending"
    for kind in ("Ready", "ContainersReady"):
        if ready:
            set_condition(status, kind, "True", now)
        else:
            set_condition(status, kind, "False", now, "ContainersNotReady", unready)


def _init_failed(pod: Obj) -> bool:
    if pod["spec"].get("restartPolicy") != "Never":
        return False
    entries = pod["status"].get("initContainerStatuses") or []
    return any((entry["state"].get("terminated") or {}).get("exitCode", 0) != 0 for entry in entries)
