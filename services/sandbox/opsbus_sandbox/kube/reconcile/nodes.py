"""The node controller: a cordoned node has the taint that says so, and its events tell when that changed."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.reconcile.context import Context

Obj = dict[str, Any]

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_COMPONENT = "kubelet"


def sync_node(ctx: Context, _namespace: str, name: str) -> None:
    """The taint follows `spec.unschedulable`, in both directions."""
    node = ctx.store.get("nodes", "", name)
    if node is None:
        return
    taints = node["spec"].get("taints") or []
    cordoned = bool(node["spec"].get("unschedulable"))
    if cordoned == any(taint["key"] == UNSCHEDULABLE for taint in taints):
        return
    changed = ctx.changed(node)
    kept = [taint for taint in taints if taint["key"] != UNSCHEDULABLE]
    if cordoned:
        kept.append({"key": UNSCHEDULABLE, "effect": "NoSchedule", "timeAdded": timestamp(ctx.now())})
    changed["spec"].pop("taints", None)
    if kept:
        changed["spec"]["taints"] = kept
    updated = ctx.store.update("nodes", changed)
    reason = "NodeNotSchedulable" if cordoned else "NodeSchedulable"
    message = f"Node {name} status is now: {reason}"
    ctx.recorder.record(updated, "Normal", reason, message, _COMPONENT, host=name)
