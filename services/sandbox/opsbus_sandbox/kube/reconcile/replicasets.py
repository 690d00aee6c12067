"""The replica set controller: as many pods as asked for."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.podstatus import is_active, is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.pods_of import (
    create_pod,
    delete_pod,
    deletion_order,
    pods_owned_by,
    recheck_when_available,
)

Obj = dict[str, Any]
_COMPONENT = "replicaset-controller"
_RETRY_S = 10.0


def sync_replicaset(ctx: Context, namespace: str, name: str) -> None:
    """Create or delete pods, then write the status."""
    replicaset = ctx.store.get("replicasets", namespace, name)
    if replicaset is None or replicaset["metadata"].get("deletionTimestamp"):
        return
    key = ("replicasets", namespace, name)
    active = [pod for pod in pods_owned_by(ctx, replicaset) if is_active(pod)]
    missing = replicaset["spec"].get("replicas", 0) - len(active)
    failure = ""
    for _ in range(max(0, missing)):
        pod_name = f"{name}-{random_suffix(ctx.store.random)}"
        failure = create_pod(ctx, replicaset, replicaset["spec"]["template"], pod_name, _COMPONENT)
        if failure:
            ctx.after(_RETRY_S, key)
            break
    for pod in sorted(active, key=deletion_order)[: max(0, -missing)]:
        delete_pod(ctx, replicaset, pod, _COMPONENT)
    _write_status(ctx, replicaset, failure)
    recheck_when_available(ctx, active, replicaset["spec"].get("minReadySeconds", 0), key)


def _write_status(ctx: Context, replicaset: Obj, failure: str) -> None:
    pods = [pod for pod in pods_owned_by(ctx, replicaset) if is_active(pod)]
    min_ready = replicaset["spec"].get("minReadySeconds", 0)
    counts = {
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": sum(map(is_ready, pods)),
        "availableReplicas": sum(ctx.is_available(pod, min_ready) for pod in pods),
    }
    status: Obj = {"replicas": len(pods), **{field: count for field, count in counts.items() if count}}
    status["observedGeneration"] = replicaset["metadata"]["generation"]
    if failure:
        old = (replicaset.get("status") or {}).get("conditions") or [{}]
        status["conditions"] = [
            {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": failure,
                "lastTransitionTime": old[0].get("lastTransitionTime") or timestamp(ctx.now()),
            }
        ]
    ctx.set_status("replicasets", replicaset, status)
