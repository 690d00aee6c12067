"""Where a pod fits: the filter and score of the scheduler, as pure functions. When it runs is the reconciler's."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from opsbus_sandbox.kube.podstatus import requested
from opsbus_sandbox.kube.quantity import parse_quantity

Obj = dict[str, Any]


def choose_node(pod: Obj, nodes: list[Obj], pods: list[Obj]) -> tuple[str | None, str]:
    """The least loaded node the pod fits on, or None and the scheduler's explanation."""
    if not nodes:
        return None, "no nodes available to schedule pods"
    used = _usage(pods)
    reasons: Counter[str] = Counter()
    preemptible = 0
    best: tuple[Decimal, str] | None = None
    for node in nodes:
        why = _misfits(pod, node, used)
        if why:
            reasons.update(why)
            preemptible += all(reason.startswith(("Insufficient", "Too many")) for reason in why)
            continue
        name = node["metadata"]["name"]
        score = _load_after(pod, node, used)
        if best is None or (score, name) < best:
            best = (score, name)
    if best is not None:
        return best[1], ""
    return None, _explanation(len(nodes), reasons, preemptible)


def _usage(pods: list[Obj]) -> dict[str, tuple[Decimal, Decimal, int]]:
    used: dict[str, tuple[Decimal, Decimal, int]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if not node or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        cpu, memory, count = used.get(node, (Decimal(0), Decimal(0), 0))
        used[node] = (cpu + requested(pod["spec"], "cpu"), memory + requested(pod["spec"], "memory"), count + 1)
    return used


def _misfits(pod: Obj, node: Obj, used: dict[str, tuple[Decimal, Decimal, int]]) -> list[str]:
    spec, node_spec = pod["spec"], node.get("spec", {})
    tolerations = spec.get("tolerations") or []
    if node_spec.get("unschedulable") and not any(
        tolerates(t, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}) for t in tolerations
    ):
        return ["node(s) were unschedulable"]
    for taint in node_spec.get("taints") or []:
        if taint.get("effect") == "PreferNoSchedule" or taint["key"] == "node.kubernetes.io/unschedulable":
            continue
        if not any(tolerates(toleration, taint) for toleration in tolerations):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    return _lacks(spec, node, used.get(node["metadata"]["name"], (Decimal(0), Decimal(0), 0)))


def _lacks(spec: Obj, node: Obj, used: tuple[Decimal, Decimal, int]) -> list[str]:
    room = node.get("status", {}).get("allocatable") or {}
    cpu, memory, count = used
    lacks = []
    if count + 1 > int(room.get("pods", "110")):
        lacks.append("Too many pods")
    if cpu + requested(spec, "cpu") > parse_quantity(room.get("cpu", "0")):
        lacks.append("Insufficient cpu")
    if memory + requested(spec, "memory") > parse_quantity(room.get("memory", "0")):
        lacks.append("Insufficient memory")
    return lacks


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _load_after(pod: Obj, node: Obj, used: dict[str, tuple[Decimal, Decimal, int]]) -> Decimal:
    cpu, memory, _ = used.get(node["metadata"]["name"], (Decimal(0), Decimal(0), 0))
    room = node["status"]["allocatable"]
    cpu_share = (cpu + requested(pod["spec"], "cpu")) / parse_quantity(room["cpu"])
    memory_share = (memory + requested(pod["spec"], "memory")) / parse_quantity(room["memory"])
    return cpu_share + memory_share


def _explanation(total: int, reasons: Counter[str], preemptible: int) -> str:
    parts = sorted(f"{count} {reason}" for reason, count in reasons.items())
    helpless = total - preemptible
    why_not = []
    if helpless:
        why_not.append(f"{helpless} Preemption is not helpful for scheduling")
    if preemptible:
        why_not.append(f"{preemptible} No preemption victims found for incoming pod")
    return (
        f"0/{total} nodes are available: {', '.join(parts)}. "
        f"preemption: 0/{total} nodes are available: {', '.join(why_not)}."
    )
