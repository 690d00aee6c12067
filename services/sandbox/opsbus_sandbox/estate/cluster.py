"""Cluster `lab` itself: its four nodes and its namespaces."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

CLUSTER = "lab"
KUBERNETES_VERSION = "v1.34.2"
CONTROL_PLANE = "lab-control-1"
WORKERS = ("lab-worker-1", "lab-worker-2", "lab-worker-3")
_AGE = timedelta(days=141)

# namespace -> (environment, owning team)
NAMESPACES: dict[str, tuple[str, str]] = {
    "default": ("", ""),
    "kube-system": ("", "platform"),
    "payments": ("production", "payments"),
    "platform": ("production", "platform"),
    "shop": ("production", "storefront"),
    "shop-staging": ("staging", "storefront"),
}


def create_namespaces(store: ObjectStore, now: datetime) -> None:
    """The namespaces, each with its default service account and the cluster's root certificate."""
    for name, (environment, team) in NAMESPACES.items():
        labels = {"kubernetes.io/metadata.name": name}
        if environment:
            labels |= {"environment": environment}
        if team:
            labels |= {"team": team}
        notes = {"annotations": {"owner": f"{team}@shop.example"}} if team else {}
        _create_namespace(store, {"name": name, "labels": labels, **notes}, now)


def create_system_namespaces(store: ObjectStore, now: datetime) -> None:
    """Those that an API server makes for itself. Nobody gives them service accounts."""
    for name in ("default", "kube-node-lease", "kube-public", "kube-system"):
        _create_namespace(store, {"name": name, "labels": {"kubernetes.io/metadata.name": name}}, now)


def _create_namespace(store: ObjectStore, meta: Obj, now: datetime) -> None:
    meta["creationTimestamp"] = timestamp(now - _AGE)
    store.create(
        "namespaces",
        {
            "apiVersion": "v1", "kind": "Namespace", "metadata": meta,
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        },
    )  # fmt: skip


def create_nodes(store: ObjectStore, now: datetime) -> None:
    """One control-plane node that takes no workloads, and three workers of four cores."""
    store.create("nodes", _node(CONTROL_PLANE, 1, now, cores=2, memory_mib=8192, control_plane=True))
    for index, name in enumerate(WORKERS, start=2):
        store.create("nodes", _node(name, index, now, cores=4, memory_mib=16384, control_plane=False))


def _node(name: str, index: int, now: datetime, *, cores: int, memory_mib: int, control_plane: bool) -> Obj:
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "lab.medium" if control_plane else "lab.large",
        "topology.kubernetes.io/region": "lab",
        "topology.kubernetes.io/zone": f"lab-{'abc'[(index - 1) % 3]}",
    }
    spec: Obj = {"podCIDR": f"10.244.{index}.0/24", "podCIDRs": [f"10.244.{index}.0/24"], "providerID": f"lab://{name}"}
    if control_plane:
        labels["node-role.kubernetes.io/control-plane"] = ""
        spec["taints"] = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    capacity = {"cpu": str(cores), "memory": f"{memory_mib}Mi", "pods": "110", "ephemeral-storage": "101430960Ki"}
    allocatable = {**capacity, "cpu": f"{cores * 1000 - 80}m", "memory": f"{memory_mib - 512}Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "creationTimestamp": timestamp(now - _AGE)},
        "spec": spec,
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": f"10.0.0.{10 + index}"},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [_node_condition(kind, now) for kind in _HEALTH],
            "nodeInfo": _node_info(name),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }


_HEALTH = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
}


def _node_condition(kind: str, now: datetime) -> Obj:
    value, reason, message = _HEALTH[kind]
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": timestamp(now),
        "lastTransitionTime": timestamp(now - _AGE),
    }


def _node_info(name: str) -> Obj:
    return {
        "architecture": "amd64",
        "bootID": f"boot-{name}",
        "containerRuntimeVersion": "containerd://1.7.22",
        "kernelVersion": "6.1.0-25-amd64",
        "kubeProxyVersion": KUBERNETES_VERSION,
        "kubeletVersion": KUBERNETES_VERSION,
        "machineID": f"machine-{name}",
        "operatingSystem": "linux",
        "osImage": "Debian GNU/Linux 12 (bookworm)",
        "systemUUID": f"system-{name}",
    }
