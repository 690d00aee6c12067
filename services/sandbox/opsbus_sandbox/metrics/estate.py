"""The cluster as monitoring sees it: a snapshot of pods and workloads taken from the object store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol


class Objects(Protocol):
    """Where the cluster's objects are read."""

    def list(self, resource: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """Objects of a plural such as ``pods``."""
        ...


@dataclass(frozen=True)
class Pod:
    """A pod and its first container."""

    name: str
    namespace: str
    app: str
    node: str
    phase: str
    ready: bool
    restarts: int
    waiting: str
    """Reason of a waiting container; empty: none."""
    terminated: str
    """Reason of the last termination; empty: none."""
    memory_limit: float
    memory_request: float
    cpu_limit: float
    cpu_request: float


@dataclass(frozen=True)
class Workload:
    """A deployment."""

    name: str
    namespace: str
    team: str
    wanted: int
    ready: int
    updated: int


@dataclass(frozen=True)
class Snapshot:
    """The cluster at a moment."""

    pods: list[Pod] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    nodes: dict[str, bool] = field(default_factory=dict)
    """Readiness by name."""

    def unwell(self) -> dict[tuple[str, str], int]:
        """Pods by namespace and app that are not ready, or were killed for memory and will be again."""
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for pod in self.pods:
            counts[pod.namespace, pod.app] += not pod.ready or pod.terminated == "OOMKilled"
        return counts


_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "Ki": 1024.0, "M": 1e6, "Mi": 1024.0**2, "G": 1e9, "Gi": 1024.0**3}


def quantity(text: object) -> float:
    """A Kubernetes quantity as a number: ``256Mi``, ``100m``; 0 when absent."""
    raw = str(text or "0")
    digits = raw.rstrip("kKMGim")
    return float(digits) * _UNITS[raw[len(digits) :]]


def snapshot(objects: Objects) -> Snapshot:
    """What the cluster is now."""
    return Snapshot(
        pods=[_pod(item) for item in objects.list("pods")],
        workloads=[_workload(item) for item in objects.list("deployments")],
        nodes={item["metadata"]["name"]: _condition(item, "Ready") for item in objects.list("nodes")},
    )


def _condition(item: dict[str, Any], kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _pod(item: dict[str, Any]) -> Pod:
    status = item.get("status", {})
    container = (status.get("containerStatuses") or [{}])[0]
    resources = (item["spec"].get("containers") or [{}])[0].get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    labels = item["metadata"].get("labels", {})
    return Pod(
        name=item["metadata"]["name"],
        namespace=item["metadata"]["namespace"],
        app=labels.get("app") or labels.get("app.kubernetes.io/name") or item["metadata"]["name"],
        node=item["spec"].get("nodeName", ""),
        phase=status.get("phase", "Unknown"),
        ready=_condition(item, "Ready"),
        restarts=int(container.get("restartCount", 0)),
        waiting=container.get("state", {}).get("waiting", {}).get("reason", ""),
        terminated=container.get("lastState", {}).get("terminated", {}).get("reason", ""),
        memory_limit=quantity(limits.get("memory")),
        memory_request=quantity(requests.get("memory")),
        cpu_limit=quantity(limits.get("cpu")),
        cpu_request=quantity(requests.get("cpu")),
    )


def _workload(item: dict[str, Any]) -> Workload:
    status = item.get("status", {})
    return Workload(
        name=item["metadata"]["name"],
        namespace=item["metadata"]["namespace"],
        team=item["metadata"].get("labels", {}).get("team", ""),
        wanted=int(item["spec"].get("replicas", 1)),
        ready=int(status.get("readyReplicas", 0)),
        updated=int(status.get("updatedReplicas", 0)),
    )
