"""The status of a deployment: counts, and the conditions that say whether it serves and whether it gets on."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import parse_timestamp, timestamp
from opsbus_sandbox.kube.podstatus import condition
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.rollout import available_of, bounds_of

Obj = dict[str, Any]


def write_status(ctx: Context, deployment: Obj, newest: str, owned: list[Obj]) -> None:
    """Count, judge, store."""
    old = deployment.get("status") or {}
    total = _sum(owned, "replicas")
    available = sum(map(available_of, owned))
    updated = _sum([rs for rs in owned if rs["metadata"]["name"] == newest], "replicas")
    counts = {
        "replicas": total,
        "updatedReplicas": updated,
        "readyReplicas": _sum(owned, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, max(deployment["spec"]["replicas"], total) - available),
    }
    status: Obj = {"observedGeneration": deployment["metadata"]["generation"]}
    status |= {field: count for field, count in counts.items() if count}
    status["conditions"] = [dict(entry) for entry in old.get("conditions") or []]
    _judge_availability(ctx, deployment, status)
    _judge_progress(ctx, deployment, status, newest)
    _judge_failure(ctx, status, owned)
    ctx.set_status("deployments", deployment, status)


def _sum(owned: list[Obj], field: str) -> int:
    return sum(int((rs.get("status") or {}).get(field, 0)) for rs in owned)


def _judge_availability(ctx: Context, deployment: Obj, status: Obj) -> None:
    floor = deployment["spec"]["replicas"] - bounds_of(deployment).unavailable
    if status.get("availableReplicas", 0) >= floor:
        told = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        told = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    _set(ctx, status, "Available", *told)


def _judge_progress(ctx: Context, deployment: Obj, status: Obj, newest: str) -> None:
    if deployment["spec"].get("paused"):
        _set(ctx, status, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        return
    old = deployment.get("status") or {}
    current = condition(deployment, "Progressing")
    if _is_complete(deployment, status):
        message = f'ReplicaSet "{newest}" has successfully progressed.'
        # Once a rollout is complete, pods that come and go do not reopen it.
        _set(ctx, status, "Progressing", "True", "NewReplicaSetAvailable", message)
        return
    if (
        current
        and current["reason"] == "NewReplicaSetAvailable"
        and status.get("replicas") == status.get("updatedReplicas")
        and old.get("observedGeneration") == status["observedGeneration"]
    ):
        return
    progressed = (
        status.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or status.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or status.get("availableReplicas", 0) > old.get("availableReplicas", 0)
        or _older(status) < _older(old)
    )
    fresh = current is None or current["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused")
    if progressed or fresh or old.get("observedGeneration") != status["observedGeneration"]:
        # A new spec or a step forward starts the deadline anew.
        _set(
            ctx,
            status,
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            f'ReplicaSet "{newest}" is progressing.',
            touch=True,
        )
        current = condition({"status": status}, "Progressing")
    _check_deadline(ctx, deployment, status, newest, current or {})


def _older(status: Obj) -> int:
    return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))


def _is_complete(deployment: Obj, status: Obj) -> bool:
    wanted = deployment["spec"]["replicas"]
    fields = ("updatedReplicas", "replicas", "availableReplicas")
    return all(status.get(field, 0) == wanted for field in fields)


def _check_deadline(ctx: Context, deployment: Obj, status: Obj, newest: str, current: Obj) -> None:
    if current["reason"] == "ProgressDeadlineExceeded":
        return
    deadline = deployment["spec"].get("progressDeadlineSeconds") or 600
    waited = ctx.simulated_age(parse_timestamp(current["lastUpdateTime"]))
    if waited < deadline:
        meta = deployment["metadata"]
        ctx.after(deadline - waited + ctx.clock.speed, ("deployments", meta["namespace"], meta["name"]))
        return
    message = f'ReplicaSet "{newest}" has timed out progressing.'
    _set(ctx, status, "Progressing", "False", "ProgressDeadlineExceeded", message)


def _judge_failure(ctx: Context, status: Obj, owned: list[Obj]) -> None:
    failures = [entry for rs in owned if (entry := condition(rs, "ReplicaFailure"))]
    if failures:
        _set(ctx, status, "ReplicaFailure", "True", failures[0]["reason"], failures[0]["message"])
    else:
        status["conditions"] = [entry for entry in status["conditions"] if entry["type"] != "ReplicaFailure"]


def _set(ctx: Context, status: Obj, kind: str, value: str, reason: str, message: str, *, touch: bool = False) -> None:
    now = timestamp(ctx.now())
    entry = {
        "type": kind, "status": value, "lastUpdateTime": now, "lastTransitionTime": now, "reason": reason,
        "message": message,
    }  # fmt: skip
    for index, old in enumerate(status["conditions"]):
        if old["type"] != kind:
            continue
        if old["status"] == value:
            entry["lastTransitionTime"] = old["lastTransitionTime"]
            if old["reason"] == reason and old["message"] == message and not touch:
                entry["lastUpdateTime"] = old["lastUpdateTime"]
        status["conditions"][index] = entry
        return
    status["conditions"].append(entry)
