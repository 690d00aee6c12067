"""Reading and writing the status of a pod: conditions, container statuses, readiness, resources asked for.

Pure functions over objects; when things happen is the kubelet's matter.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Any

from opsbus_sandbox.clock import parse_timestamp, timestamp
from opsbus_sandbox.kube.quantity import parse_quantity

Obj = dict[str, Any]


def set_condition(status: Obj, kind: str, value: str, now: datetime, reason: str = "", message: str = "") -> None:
    """Set one condition in place; the transition time moves only when the value does."""
    conditions = status.setdefault("conditions", [])
    entry: Obj = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": timestamp(now)}
    if reason:
        entry["reason"] = reason
    if message:
        entry["message"] = message
    for index, old in enumerate(conditions):
        if old["type"] == kind:
            if old["status"] == value:
                entry["lastTransitionTime"] = old["lastTransitionTime"]
            conditions[index] = entry
            return
    conditions.append(entry)


def condition(obj: Obj, kind: str) -> Obj | None:
    """One condition of an object's status, or None."""
    for entry in obj.get("status", {}).get("conditions") or []:
        if entry.get("type") == kind:
            return dict(entry)
    return None


def is_ready(pod: Obj) -> bool:
    """Whether the pod's Ready condition is True."""
    entry = condition(pod, "Ready")
    return entry is not None and entry["status"] == "True"


def ready_since(pod: Obj) -> datetime | None:
    """When the pod became ready, or None while it is not."""
    entry = condition(pod, "Ready")
    if entry is None or entry["status"] != "True":
        return None
    return parse_timestamp(entry["lastTransitionTime"])


def is_active(pod: Obj) -> bool:
    """Whether a controller still counts the pod: neither finished nor being deleted."""
    finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not finished and not pod["metadata"].get("deletionTimestamp")


def image_id(image: str) -> str:
    """The digest form of an image; the digest is derived from the name, as no registry exists."""
    repository = image.rsplit(":", 1)[0] if ":" in image.rsplit("/", 1)[-1] else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def container_id(pod: Obj, name: str, restart: int) -> str:
    """The runtime's id of one run of a container."""
    key = f"{pod['metadata']['uid']}/{name}/{restart}"
    return f"containerd://{hashlib.sha256(key.encode()).hexdigest()}"


def container_status(container: Obj, state: Obj, *, restarts: int = 0, ready: bool = False) -> Obj:
    """A container status with the given state and no last state."""
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "state": state,
        "lastState": {},
        "ready": ready,
        "started": "running" in state,
        "restartCount": restarts,
    }


def running_status(pod: Obj, container: Obj, started: datetime, *, ready: bool, restarts: int = 0) -> Obj:
    """A container status of a container that runs since `started`."""
    state = {"running": {"startedAt": timestamp(started)}}
    entry = container_status(container, state, restarts=restarts, ready=ready)
    entry["imageID"] = image_id(container["image"])
    entry["containerID"] = container_id(pod, container["name"], restarts)
    return entry


def requested(spec: Obj, name: str) -> Decimal:
    """What a pod spec asks of a node: "cpu" in cores or "memory" in bytes."""
    total = Decimal(0)
    for container in spec.get("containers") or []:
        total += _amount(container, "requests", name)
    starting = [_amount(container, "requests", name) for container in spec.get("initContainers") or []]
    return max([total, *starting])


def limited(spec: Obj, name: str) -> Decimal:
    """The sum of a pod's limits of one resource."""
    return sum((_amount(container, "limits", name) for container in spec.get("containers") or []), Decimal(0))


def _amount(container: Obj, field: str, name: str) -> Decimal:
    value = ((container.get("resources") or {}).get(field) or {}).get(name)
    return Decimal(0) if value is None else parse_quantity(value)
