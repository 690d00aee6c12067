"""The daemon set controller: one pod on each node that will have it."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.factory import REVISION_LABEL, revision_name
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.podstatus import is_active, is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.pods_of import create_pod, delete_pod, pods_owned_by, recheck_when_available
from opsbus_sandbox.kube.revisions import keep_revision
from opsbus_sandbox.kube.rollout import resolve
from opsbus_sandbox.kube.scheduling import tolerates

Obj = dict[str, Any]
_COMPONENT = "daemonset-controller"
_RETRY_S = 10.0


def sync_daemonset(ctx: Context, namespace: str, name: str) -> None:
    """Create what is missing, remove what is misplaced, replace what is outdated, then write the status."""
    owner = ctx.store.get("daemonsets", namespace, name)
    if owner is None or owner["metadata"].get("deletionTimestamp"):
        return
    keep_revision(ctx.store, owner)
    key = ("daemonsets", namespace, name)
    nodes = [node["metadata"]["name"] for node in ctx.store.list("nodes") if _wants(owner, node)]
    pods = [pod for pod in pods_owned_by(ctx, owner) if pod.get("status", {}).get("phase") != "Failed"]
    by_node: dict[str, list[Obj]] = {}
    for pod in pods:
        by_node.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    for node in nodes:
        if not by_node.get(node) and _create(ctx, owner, node):
            ctx.after(_RETRY_S, key)
    for node, there in by_node.items():
        keep = 1 if node in nodes else 0
        for pod in [p for p in there if is_active(p)][keep:]:
            delete_pod(ctx, owner, pod, _COMPONENT)
    _update_some(ctx, owner, pods, len(nodes))
    _write_status(ctx, owner, nodes)
    recheck_when_available(ctx, pods, owner["spec"].get("minReadySeconds", 0), key)


def _wants(owner: Obj, node: Obj) -> bool:
    spec = owner["spec"]["template"]["spec"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    tolerations = spec.get("tolerations") or []
    # Daemons run on cordoned nodes too, and on nodes that are not ready.
    taints = [taint for taint in node["spec"].get("taints") or [] if not taint["key"].startswith("node.kubernetes.io/")]
    return all(any(tolerates(toleration, taint) for toleration in tolerations) for taint in taints)


def _create(ctx: Context, owner: Obj, node: str) -> str:
    name = f"{owner['metadata']['name']}-{random_suffix(ctx.store.random)}"
    labels = {REVISION_LABEL: revision_name(owner), "pod-template-generation": str(owner["metadata"]["generation"])}
    spec = {"nodeName": node}
    return create_pod(ctx, owner, owner["spec"]["template"], name, _COMPONENT, labels=labels, spec=spec)


def _update_some(ctx: Context, owner: Obj, pods: list[Obj], total: int) -> None:
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return
    allowed = resolve((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), total, up=True)
    newest = revision_name(owner)
    allowed -= total - sum(1 for pod in pods if is_active(pod) and is_ready(pod))
    outdated = [p for p in pods if is_active(p) and p["metadata"]["labels"].get(REVISION_LABEL) != newest]
    for pod in outdated:
        broken = not is_ready(pod)
        if not broken and allowed <= 0:
            continue
        delete_pod(ctx, owner, pod, _COMPONENT)
        allowed -= not broken


def _write_status(ctx: Context, owner: Obj, nodes: list[str]) -> None:
    pods = [pod for pod in pods_owned_by(ctx, owner) if is_active(pod)]
    placed = [pod for pod in pods if pod["spec"].get("nodeName") in nodes]
    min_ready = owner["spec"].get("minReadySeconds", 0)
    available = sum(ctx.is_available(pod, min_ready) for pod in placed)
    newest = revision_name(owner)
    status = {
        "currentNumberScheduled": len(placed),
        "numberMisscheduled": len(pods) - len(placed),
        "desiredNumberScheduled": len(nodes),
        "numberReady": sum(map(is_ready, placed)),
        "observedGeneration": owner["metadata"]["generation"],
        "updatedNumberScheduled": sum(p["metadata"]["labels"].get(REVISION_LABEL) == newest for p in placed),
        "numberAvailable": available,
    }
    if unavailable := len(nodes) - available:
        status["numberUnavailable"] = unavailable
    ctx.set_status("daemonsets", owner, status)
