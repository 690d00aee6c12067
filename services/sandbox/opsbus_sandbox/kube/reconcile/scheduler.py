"""The scheduler: gives pending pods a node, or says why it cannot."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.podstatus import condition, set_condition
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.scheduling import choose_node

Obj = dict[str, Any]
_COMPONENT = "default-scheduler"
# How often an unschedulable pod is tried again when nothing changes, as the real queue does.
RETRY_S = 60.0


def schedule(ctx: Context, pod: Obj) -> None:
    """Bind one pod to a node. A pod that fits nowhere gets the condition and the event that explain it."""
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return
    if pod["spec"].get("schedulerName", _COMPONENT) != _COMPONENT:
        return  # another scheduler's
    node, why = choose_node(pod, ctx.store.list("nodes"), ctx.store.list("pods"))
    changed = ctx.changed(pod)
    meta = pod["metadata"]
    if node is None:
        ctx.after(RETRY_S, ("pods", meta["namespace"], meta["name"]))
        _tell_unschedulable(ctx, pod, changed, why)
        return
    now = ctx.now()
    changed["spec"]["nodeName"] = node
    set_condition(changed["status"], "PodScheduled", "True", now)
    changed["status"]["startTime"] = timestamp(now)
    ctx.store.update("pods", changed)
    message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
    ctx.recorder.record(pod, "Normal", "Scheduled", message, _COMPONENT)


def _tell_unschedulable(ctx: Context, pod: Obj, changed: Obj, why: str) -> None:
    before = condition(pod, "PodScheduled")
    set_condition(changed["status"], "PodScheduled", "False", ctx.now(), "Unschedulable", why)
    ctx.store.update("pods", changed)
    last = ctx.scheduling_told.get(pod["metadata"]["uid"], float("-inf"))
    if before is None or before.get("message") != why or ctx.elapsed() - last >= RETRY_S:
        ctx.scheduling_told[pod["metadata"]["uid"]] = ctx.elapsed()
        ctx.recorder.record(pod, "Warning", "FailedScheduling", why, _COMPONENT)
