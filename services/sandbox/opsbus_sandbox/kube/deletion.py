"""Deleting: graceful for pods, in two steps for what has finalizers, and what happens to what the object owned."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.errors import bad_request, conflict, invalid_options, not_found, unsupported
from opsbus_sandbox.kube.request import is_dry_run, number
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]
_POLICIES = ("Background", "Foreground", "Orphan")
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True)
class DeleteOptions:
    """How a deletion is asked for."""

    dry_run: bool = False
    grace_seconds: int | None = None
    policy: str = "Background"
    uid: str = ""
    version: str = ""


def delete_options(query: Mapping[str, str], body: Any) -> DeleteOptions:
    """From the query and the body, which wins. Raises ApiError 400 or 422."""
    if body is not None and not isinstance(body, dict):
        raise bad_request("json: cannot unmarshal the body into Go value of type v1.DeleteOptions")
    options: Obj = body or {}
    dry_run = is_dry_run(query, "DeleteOptions")
    if asked := options.get("dryRun"):
        dry_run = is_dry_run({"dryRun": asked[0] if asked == ["All"] else str(asked)}, "DeleteOptions")
    grace = options.get("gracePeriodSeconds", number(query, "gracePeriodSeconds"))
    if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int)):
        raise bad_request("json: cannot unmarshal gracePeriodSeconds into Go value of type int64")
    policy = options.get("propagationPolicy") or query.get("propagationPolicy") or "Background"
    if options.get("orphanDependents") or query.get("orphanDependents") == "true":
        policy = "Orphan"
    if policy not in _POLICIES:
        supported = ("Background", "Foreground", "Orphan", "nil")
        raise invalid_options("DeleteOptions", unsupported("propagationPolicy", policy, supported))
    conditions = options.get("preconditions") or {}
    return DeleteOptions(
        dry_run, grace, policy, str(conditions.get("uid") or ""), str(conditions.get("resourceVersion") or "")
    )


def delete(store: ObjectStore, kind: ResourceType, namespace: str, name: str, options: DeleteOptions) -> Obj:
    """Delete an object or begin to; its last or marked form is returned. Raises ApiError 404 or 409."""
    obj = store.get(kind.plural, namespace, name)
    if obj is None:
        raise not_found(kind, name)
    check_preconditions(kind, obj, options)
    marked = _marked(store, kind, obj, options)
    if options.dry_run:
        return marked or obj
    if marked is None:
        return store.delete(kind.plural, namespace, name)
    return store.update(kind.plural, marked)


def finish_if_released(store: ObjectStore, kind: ResourceType, obj: Obj) -> None:
    """Remove an object whose deletion only waited for its finalizers; pods have their nodes for that."""
    meta = obj["metadata"]
    if kind.plural == "pods" or not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return
    if kind.plural == "namespaces" and obj["spec"].get("finalizers"):
        return
    store.delete(kind.plural, meta.get("namespace", ""), meta["name"])


def check_preconditions(kind: ResourceType, obj: Obj, options: DeleteOptions) -> None:
    """Raises ApiError 409 when the object is not the one, or not the version, that is meant."""
    meta = obj["metadata"]
    for label, given, stored in (
        ("UID", options.uid, meta["uid"]),
        ("ResourceVersion", options.version, meta["resourceVersion"]),
    ):
        if given and given != stored:
            why = f"Precondition failed: {label} in precondition: {given}, {label} in object meta: {stored}"
            raise conflict(kind, meta["name"], why)


def _marked(store: ObjectStore, kind: ResourceType, obj: Obj, options: DeleteOptions) -> Obj | None:
    """The object marked for deletion, or None when it can go at once."""
    meta = copy.deepcopy(obj["metadata"])
    finalizers = list(meta.get("finalizers") or [])
    if options.policy == "Foreground" and FOREGROUND not in finalizers:
        finalizers.append(FOREGROUND)
    if options.policy == "Orphan" and ORPHAN not in finalizers:
        finalizers.append(ORPHAN)
    grace = _grace(kind, obj, options)
    if not finalizers and grace == 0 and kind.plural != "namespaces":
        return None
    if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = timestamp(store.clock.now() + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
    if finalizers:
        meta["finalizers"] = finalizers
    marked = {**obj, "metadata": meta}
    if kind.plural == "namespaces":
        marked["status"] = {**obj.get("status", {}), "phase": "Terminating"}
    return marked


def _grace(kind: ResourceType, obj: Obj, options: DeleteOptions) -> int:
    if kind.plural != "pods":
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_seconds is not None:
        return max(0, options.grace_seconds)
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30))
