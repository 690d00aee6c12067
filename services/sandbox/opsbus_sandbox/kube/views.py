"""Objects that two API versions show in two shapes: events (core/v1 and events.k8s.io/v1), autoscalers (v2 and v1).

One shape is stored; here are the ways to the other and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from opsbus_sandbox.clock import micro_timestamp, parse_timestamp
from opsbus_sandbox.kube.errors import bad_request
from opsbus_sandbox.kube.resources import AUTOSCALERS_V1, BY_PLURAL, EVENTS_V1, ResourceType

Obj = dict[str, Any]

# core/v1 name -> events.k8s.io/v1 name
_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
_EVENT_NAMES_BACK = {new: old for old, new in _EVENT_NAMES.items()}
# Where autoscaling/v1 keeps the metrics it has no field for.
_OTHER_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"


def stored_kind(kind: ResourceType) -> ResourceType:
    """The type under which objects of `kind` are kept."""
    return BY_PLURAL[kind.plural]


def present(kind: ResourceType, obj: Obj) -> Obj:
    """A stored object as the asked-for API shows it."""
    view = _VIEWS.get((kind.group, kind.version, kind.plural))
    return obj if view is None else {**view[0](obj), "apiVersion": kind.api_version}


def to_stored(kind: ResourceType, body: Any) -> Any:
    """A body that came in as the asked-for API has it, in the stored shape. Raises ApiError 400."""
    view = _VIEWS.get((kind.group, kind.version, kind.plural))
    if view is None or not isinstance(body, dict):
        return body
    if body.get("apiVersion", kind.api_version) != kind.api_version:
        return body  # the decoder will name the mismatch
    return {**view[1](body), "apiVersion": stored_kind(kind).api_version}


def _event(obj: Obj) -> Obj:
    # This version requires a time of its own, which events of the first version do not have.
    since = obj.get("firstTimestamp") or obj["metadata"].get("creationTimestamp")
    obj = {"eventTime": micro_timestamp(parse_timestamp(since)) if since else None} | obj
    return {_EVENT_NAMES.get(name, name): value for name, value in obj.items()}


def _event_back(body: Obj) -> Obj:
    return {_EVENT_NAMES_BACK.get(name, name): value for name, value in body.items()}


def _is_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    return bool(resource.get("name") == "cpu" and "averageUtilization" in (resource.get("target") or {}))


def _autoscaler(obj: Obj) -> Obj:
    spec = {name: value for name, value in obj["spec"].items() if name not in ("metrics", "behavior")}
    metrics = obj["spec"].get("metrics") or []
    meta = obj["metadata"]
    for metric in metrics:
        if _is_cpu(metric):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
    if others := [metric for metric in metrics if not _is_cpu(metric)]:
        meta = {**meta, "annotations": {**(meta.get("annotations") or {}), _OTHER_METRICS: json.dumps(others)}}
    status = dict(obj.get("status") or {})
    for metric in status.pop("currentMetrics", None) or []:
        if (metric.get("resource") or {}).get("name") == "cpu":
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"].get("averageUtilization")
    if conditions := status.pop("conditions", None):
        meta = {**meta, "annotations": {**(meta.get("annotations") or {}), _CONDITIONS: json.dumps(conditions)}}
    return {**obj, "metadata": meta, "spec": spec, "status": status}


def _autoscaler_back(body: Obj) -> Obj:
    spec, meta = dict(body.get("spec") or {}), dict(body.get("metadata") or {})
    annotations = dict(meta.get("annotations") or {})
    metrics: list[Obj] = []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if annotations.pop(_CONDITIONS, None):  # of the status, which a write of the rest keeps
        meta["annotations"] = annotations
    if text := annotations.pop(_OTHER_METRICS, None):
        try:
            metrics += json.loads(text)
        except (TypeError, ValueError) as error:
            raise bad_request(f"annotation {_OTHER_METRICS} is not a list of metrics: {error}") from error
        meta["annotations"] = annotations
    return {**body, "metadata": meta, "spec": {**spec, "metrics": metrics}}


_VIEWS: dict[tuple[str, str, str], tuple[Callable[[Obj], Obj], Callable[[Obj], Obj]]] = {
    (EVENTS_V1.group, EVENTS_V1.version, EVENTS_V1.plural): (_event, _event_back),
    (AUTOSCALERS_V1.group, AUTOSCALERS_V1.version, AUTOSCALERS_V1.plural): (_autoscaler, _autoscaler_back),
}
