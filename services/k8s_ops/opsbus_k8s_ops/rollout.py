"""How a workload's rollout stands, from its object alone: counts, a state, a sentence. Pure functions over objects."""

from dataclasses import dataclass

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.objects import condition, meta

ORDER = ("failing", "stuck", "degraded", "progressing", "paused", "complete", "scaled_to_zero")
"""Rollout states, the worst first: the order of lists."""

HEALTHY = frozenset({"complete", "scaled_to_zero"})


@dataclass(frozen=True)
class Rollout:
    """Counts of replicas, and how the rollout stands."""

    desired: int
    ready: int
    updated: int
    available: int
    state: str
    reason: str | None = None

    @property
    def healthy(self) -> bool:
        """Nothing for a person to look at. A rollout that lacks replicas may be on its way, or may never arrive."""
        return self.state in HEALTHY or (self.state == "progressing" and self.available >= self.desired)

    @property
    def running(self) -> bool:
        """The controller is still replacing or adding replicas."""
        return self.state in ("progressing", "stuck")


def rollout_of(obj: Obj) -> Rollout:
    """The rollout of a Deployment, StatefulSet or DaemonSet."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if "desiredNumberScheduled" in status or obj.get("kind") == "DaemonSet":
        desired, total = _int(status, "desiredNumberScheduled"), _int(status, "currentNumberScheduled")
        updated, ready = _int(status, "updatedNumberScheduled"), _int(status, "numberReady")
        available = _int(status, "numberAvailable")
    else:
        desired = int(spec["replicas"]) if spec.get("replicas") is not None else 1
        total, updated = _int(status, "replicas"), _int(status, "updatedReplicas")
        ready, available = _int(status, "readyReplicas"), _int(status, "availableReplicas")
    state, reason = _state(obj, desired, total, ready, updated, available)
    return Rollout(desired, ready, updated, available, state, reason)


def _state(obj: Obj, desired: int, total: int, ready: int, updated: int, available: int) -> tuple[str, str | None]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    failure = condition(obj, "ReplicaFailure")
    progressing = condition(obj, "Progressing")
    if failure.get("status") == "True":
        return "failing", f"replicas cannot be created: {failure.get('message') or failure.get('reason')}"
    if spec.get("paused"):
        return "paused", "the rollout is paused"
    if _int(status, "observedGeneration") < int(meta(obj).get("generation") or 0):
        return "progressing", "the controller has not seen the last change yet"
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return "stuck", f"{updated} of {desired} replicas updated, {available} available: {progressing.get('message')}"
    if desired == 0:
        return ("scaled_to_zero", None) if total == 0 else ("progressing", f"{total} replicas are still stopping")
    rolled_out = progressing.get("reason") == "NewReplicaSetAvailable" or not progressing
    partition = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0
    wanted = max(0, desired - int(partition)) if obj.get("kind") == "StatefulSet" else desired
    if updated < wanted:
        return "progressing", f"{updated} of {desired} replicas updated"
    if total > updated and obj.get("kind") != "StatefulSet":
        return "progressing", f"{total - updated} old replicas are still running"
    if available < desired:
        said = f"{available} of {desired} replicas available, {ready} ready"
        return ("degraded", said) if rolled_out else ("progressing", said)
    return "complete", None


def _int(status: Obj, key: str) -> int:
    return int(status.get(key) or 0)
