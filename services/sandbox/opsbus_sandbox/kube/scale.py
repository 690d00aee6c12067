"""The scale subresource: a workload's replica count as an object of its own."""

from __future__ import annotations

import copy
from typing import Any

from opsbus_sandbox.kube.errors import bad_request, conflict, invalid, invalid_value
from opsbus_sandbox.kube.registry import Registry, WriteOptions
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.selectors import selector_text

Obj = dict[str, Any]


def scale_of(obj: Obj) -> Obj:
    """The autoscaling/v1 Scale of a workload."""
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec: Obj = {}
    if replicas := obj["spec"].get("replicas", 0):
        spec["replicas"] = replicas
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": spec,
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": selector_text(obj["spec"].get("selector") or {}),
        },
    }


def set_scale(
    registry: Registry, kind: ResourceType, namespace: str, name: str, scale: Any, options: WriteOptions
) -> Obj:
    """Write a Scale back. Raises ApiError 400, 404, 409 or 422."""
    before = registry.read(kind, namespace, name)
    if not isinstance(scale, dict) or scale.get("kind", "Scale") != "Scale":
        raise bad_request("the body is not a Scale")
    meta = scale.get("metadata") or {}
    if meta.get("name", name) != name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or not -(2**31) <= replicas < 2**31:
        raise bad_request(
            'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal '
            f"{'string' if isinstance(replicas, str) else 'number'} into Go struct field ScaleSpec.spec.replicas "
            "of type int32"
        )
    if replicas < 0:
        cause = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("Scale.autoscaling", name, [cause])
    given = meta.get("resourceVersion")
    if given and given != before["metadata"]["resourceVersion"]:
        raise conflict(kind, name)
    wanted = copy.deepcopy(before)
    wanted["spec"]["replicas"] = replicas
    return scale_of(registry.update(kind, namespace, name, wanted, options))
