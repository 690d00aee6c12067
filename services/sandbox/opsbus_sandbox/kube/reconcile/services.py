"""Endpoints: which ready pods stand behind a service."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.podstatus import is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.selectors import match_selector

Obj = dict[str, Any]


def sync_service(ctx: Context, namespace: str, name: str) -> None:
    """Write the endpoints of a service that selects pods, remove those of one that is gone."""
    service = ctx.store.get("services", namespace, name)
    existing = ctx.store.get("endpoints", namespace, name)
    if service is None:
        if existing is not None:
            ctx.store.delete("endpoints", namespace, name)
        return
    selector = service["spec"].get("selector")
    if not selector:
        return
    pods = [
        pod
        for pod in ctx.store.list("pods", namespace)
        if match_selector({"matchLabels": selector}, pod["metadata"].get("labels") or {})
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") == "Running"
    ]
    wanted: Obj = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": namespace, "labels": service["metadata"].get("labels") or {}},
        "subsets": _subsets(service, pods),
    }
    if existing is None:
        ctx.store.create("endpoints", wanted)
    else:
        ctx.store.update("endpoints", {**wanted, "metadata": {**existing["metadata"], **wanted["metadata"]}})


def _subsets(service: Obj, pods: list[Obj]) -> list[Obj]:
    ready = [_address(pod) for pod in pods if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]
    waiting = [_address(pod) for pod in pods if not is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]
    if not ready and not waiting:
        return []
    ports = []
    for port in service["spec"].get("ports") or []:
        entry: Obj = {"port": _target(port), "protocol": port.get("protocol", "TCP")}
        ports.append({**entry, "name": port["name"]} if "name" in port else entry)
    subset: Obj = {"addresses": ready} if ready else {}
    if waiting:
        subset["notReadyAddresses"] = waiting
    return [{**subset, "ports": ports}]


def _target(port: Obj) -> int:
    target = port.get("targetPort", port["port"])
    return target if isinstance(target, int) else int(port["port"])


def _address(pod: Obj) -> Obj:
    meta = pod["metadata"]
    reference = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    return {"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": reference}
