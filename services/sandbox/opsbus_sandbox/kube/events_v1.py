"""Events in their second shape: the events.k8s.io/v1 view of core/v1 events."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.resources import EVENTS_V1, ResourceType

Obj = dict[str, Any]

# core/v1 name -> events.k8s.io/v1 name
_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _NAMES.items()}


def is_events_v1(kind: ResourceType) -> bool:
    """Whether a request came by the newer of the two doors."""
    return kind.group == EVENTS_V1.group


def present(kind: ResourceType, obj: Obj) -> Obj:
    """A stored object as the asked-for API shows it."""
    if not is_events_v1(kind):
        return obj
    shown = {_NAMES.get(name, name): value for name, value in obj.items()}
    return {**shown, "apiVersion": kind.api_version}


def to_stored(kind: ResourceType, body: Any) -> Any:
    """A body that came in as the asked-for API has it, in the stored shape."""
    if not is_events_v1(kind) or not isinstance(body, dict):
        return body
    stored = {_BACK.get(name, name): value for name, value in body.items()}
    return {**stored, "apiVersion": "v1"}
