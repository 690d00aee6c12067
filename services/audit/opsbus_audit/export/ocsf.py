"""An event in the Open Cybersecurity Schema Framework: class API Activity (6003), schema 1.3.0."""

from datetime import datetime
from typing import Any

from opsbus_audit.ordered import Recorded
from opsbus_audit.reading import outcome_of_data

VERSION = "1.3.0"
CLASS_UID = 6003
CATEGORY_UID = 6
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITY = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
_VERBS = {"create": _CREATE, "add": _CREATE, "delete": _DELETE, "remove": _DELETE}
_STATUS = {"success": (1, "Success"), "failure": (2, "Failure"), "denied": (2, "Failure"), "cancelled": (2, "Failure")}
_SEVERITY = {"failure": (2, "Low"), "denied": (3, "Medium"), "unknown": (3, "Medium")}
_HTTP = {"success": 200, "denied": 403, "failure": 500, "cancelled": 499, "unknown": 504}


def ocsf(recorded: Recorded, event: dict[str, Any]) -> dict[str, Any]:
    """The event as API Activity; what the class has no place for stands under ``unmapped``."""
    data = event["data"]
    outcome = outcome_of_data(data)
    activity = _activity(data)
    status_id, status = _STATUS.get(outcome, (0, "Unknown"))
    severity_id, severity = _SEVERITY.get(outcome, (1, "Informational"))
    made: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": _ACTIVITY.get(activity, str(data.get("stage", "other"))),
        "category_uid": CATEGORY_UID,
        "category_name": "Application Activity",
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"API Activity: {_ACTIVITY.get(activity, 'Other')}",
        "time": _millis(event.get("time"), recorded.stored_ns),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "metadata": _metadata(recorded, event, data),
        "actor": {"user": _user(data)},
        "api": _api(data, outcome),
        "src_endpoint": _source(data),
        "unmapped": _unmapped(data, outcome),
    }
    if data.get("error"):
        made["status_code"] = str(data["error"])
    if detail := data.get("message") or data.get("rule"):
        made["status_detail"] = str(detail)
    if isinstance(duration := data.get("duration_ms"), int | float):
        made["duration"] = round(duration)
    if target := data.get("target") or data.get("tool"):
        made["resources"] = [{"name": str(target), "type": "tool" if data.get("tool") else "platform"}]
    if data.get("service"):
        made["dst_endpoint"] = {"svc_name": str(data["service"])}
        if data.get("instance"):
            made["dst_endpoint"]["instance_uid"] = str(data["instance"])
    if data.get("reason"):
        made["message"] = str(data["reason"])
    return made


def _activity(data: dict[str, Any]) -> int:
    if data.get("method") == "platform":
        return _OTHER
    if not data.get("mutating"):
        return _READ
    words = str(data.get("tool", "")).lower().split("_")
    return next((_VERBS[word] for word in words if word in _VERBS), _UPDATE)


def _metadata(recorded: Recorded, event: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "product": {"name": "opsbus", "vendor_name": "opsbus"},
        "log_name": "AUDIT",
        "log_provider": str(event.get("source", "")),
        "uid": str(event.get("id", "")),
        "sequence": recorded.sequence,
        "logged_time": recorded.stored_ns // 1_000_000,
        "original_time": str(event.get("time", "")),
        "correlation_uid": str(data.get("call", "")),
    }


def _user(data: dict[str, Any]) -> dict[str, Any]:
    if not data.get("actor"):
        return {"name": "unknown", "type_id": 0}
    user: dict[str, Any] = {"uid": str(data["actor"]), "name": str(data["actor"])}
    if isinstance(roles := data.get("roles"), list) and roles:
        user["groups"] = [{"name": str(role)} for role in roles]
    return user


def _api(data: dict[str, Any], outcome: str) -> dict[str, Any]:
    operation = data.get("tool") or data.get("stage") or data.get("method") or "unknown"
    api: dict[str, Any] = {"operation": str(operation), "request": {"uid": str(data.get("call", "")) or "unknown"}}
    if data.get("service"):
        api["service"] = {"name": str(data["service"])}
        if data.get("version"):
            api["service"]["version"] = str(data["version"])
    if outcome in _HTTP:
        api["response"] = {"code": _HTTP[outcome]}
        if data.get("error"):
            api["response"]["error"] = str(data["error"])
        if data.get("message"):
            api["response"]["error_message"] = str(data["message"])
    return api


def _source(data: dict[str, Any]) -> dict[str, Any]:
    found = {}
    if data.get("address"):
        found["ip"] = str(data["address"])
    if data.get("client") or not found:
        found["name"] = str(data.get("client") or "unknown")
    return found


def _unmapped(data: dict[str, Any], outcome: str) -> dict[str, Any]:
    kept = ("stage", "auth", "method", "arguments", "change_id", "executed", "rule", "approver", "details", "trace_id")
    return {"outcome": outcome, **{name: data[name] for name in kept if data.get(name)}}


def _millis(time: Any, stored_ns: int) -> int:
    try:
        moment = datetime.fromisoformat(str(time))
        return round(moment.timestamp() * 1000) if moment.tzinfo else stored_ns // 1_000_000
    except (ValueError, OverflowError):
        return stored_ns // 1_000_000
