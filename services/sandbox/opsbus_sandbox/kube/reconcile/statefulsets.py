"""The stateful set controller: numbered pods, one after the other."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.factory import REVISION_LABEL, revision_name
from opsbus_sandbox.kube.podstatus import is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.pods_of import create_pod, delete_pod, pods_owned_by, recheck_when_available
from opsbus_sandbox.kube.revisions import keep_revision

Obj = dict[str, Any]
_COMPONENT = "statefulset-controller"
_RETRY_S = 10.0


def sync_statefulset(ctx: Context, namespace: str, name: str) -> None:
    """One step: create the next pod, remove the highest surplus one, or replace the highest outdated one."""
    owner = ctx.store.get("statefulsets", namespace, name)
    if owner is None or owner["metadata"].get("deletionTimestamp"):
        return
    keep_revision(ctx.store, owner)
    pods = {_ordinal(pod): pod for pod in pods_owned_by(ctx, owner)}
    min_ready = owner["spec"].get("minReadySeconds", 0)
    failure = _step(ctx, owner, pods, min_ready)
    key = ("statefulsets", namespace, name)
    if failure:
        ctx.after(_RETRY_S, key)
    _write_status(ctx, owner, min_ready)
    recheck_when_available(ctx, list(pods.values()), min_ready, key)


def _ordinal(pod: Obj) -> int:
    text = pod["metadata"]["name"].rsplit("-", 1)[-1]
    return int(text) if text.isdigit() else -1


def _step(ctx: Context, owner: Obj, pods: dict[int, Obj], min_ready: int) -> str:
    wanted = owner["spec"]["replicas"]
    ordered = owner["spec"].get("podManagementPolicy") != "Parallel"
    for index in range(wanted):
        pod = pods.get(index)
        if pod is None:
            failure = _create(ctx, owner, index)
            if failure or ordered:
                return failure
        elif ordered and (not ctx.is_available(pod, min_ready) or pod["metadata"].get("deletionTimestamp")):
            return _replace_if_broken(ctx, owner, pod)
    surplus = sorted((index for index in pods if index >= wanted), reverse=True)
    for index in surplus:
        if pods[index]["metadata"].get("deletionTimestamp"):
            if ordered:
                return ""
            continue
        delete_pod(ctx, owner, pods[index], _COMPONENT)
        if ordered:
            return ""
    return "" if surplus else _update_one(ctx, owner, pods, min_ready)


def _create(ctx: Context, owner: Obj, index: int) -> str:
    name = f"{owner['metadata']['name']}-{index}"
    labels = {
        REVISION_LABEL: revision_name(owner),
        "apps.kubernetes.io/pod-index": str(index),
        "statefulset.kubernetes.io/pod-name": name,
    }
    return create_pod(ctx, owner, owner["spec"]["template"], name, _COMPONENT, labels=labels, spec={"hostname": name})


def _is_outdated(owner: Obj, pod: Obj) -> bool:
    return bool(pod["metadata"]["labels"].get(REVISION_LABEL) != revision_name(owner))


def _replace_if_broken(ctx: Context, owner: Obj, pod: Obj) -> str:
    """An outdated pod that is not ready is replaced, or a bad template could never be corrected."""
    if _is_outdated(owner, pod) and not is_ready(pod) and not pod["metadata"].get("deletionTimestamp"):
        delete_pod(ctx, owner, pod, _COMPONENT)
    return ""


def _update_one(ctx: Context, owner: Obj, pods: dict[int, Obj], min_ready: int) -> str:
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return ""
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
    for index in sorted(pods, reverse=True):
        pod = pods[index]
        if index < partition:
            break
        if pod["metadata"].get("deletionTimestamp"):
            return ""
        if _is_outdated(owner, pod):
            delete_pod(ctx, owner, pod, _COMPONENT)
            return ""
        if not ctx.is_available(pod, min_ready):
            return ""
    return ""


def _write_status(ctx: Context, owner: Obj, min_ready: int) -> None:
    pods = pods_owned_by(ctx, owner)
    newest = revision_name(owner)
    updated = [pod for pod in pods if not _is_outdated(owner, pod)]
    old = owner.get("status") or {}
    complete = len(updated) == len(pods) == owner["spec"]["replicas"] and all(map(is_ready, pods))
    current = newest if complete else old.get("currentRevision", newest)
    status = {
        "observedGeneration": owner["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": sum(map(is_ready, pods)),
        "availableReplicas": sum(ctx.is_available(pod, min_ready) for pod in pods),
        "currentReplicas": sum(pod["metadata"]["labels"].get(REVISION_LABEL) == current for pod in pods),
        "updatedReplicas": len(updated),
        "currentRevision": current,
        "updateRevision": newest,
        "collisionCount": 0,
    }
    ctx.set_status("statefulsets", owner, status)
