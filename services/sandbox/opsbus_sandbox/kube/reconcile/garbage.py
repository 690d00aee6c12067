"""What happens to the rest when something is deleted: dependents, namespaces with all they hold, claims."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import parse_timestamp
from opsbus_sandbox.kube.deletion import FOREGROUND, ORPHAN, DeleteOptions, delete, finish_if_released
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.resources import BY_PLURAL, STORED
from opsbus_sandbox.kube.store import MissingError

Obj = dict[str, Any]


def dependents(ctx: Context, owner: Obj) -> list[tuple[str, Obj]]:
    """(resource, object) of everything that names the owner in its owner references."""
    uid, namespace = owner["metadata"]["uid"], owner["metadata"].get("namespace", "")
    return [
        (kind.plural, obj)
        for kind in STORED
        for obj in ctx.store.list(kind.plural, namespace or None)
        if any(reference["uid"] == uid for reference in obj["metadata"].get("ownerReferences") or [])
    ]


def collect(ctx: Context, gone: Obj) -> None:
    """Delete what a deleted object owned, unless it has another owner."""
    for resource, obj in dependents(ctx, gone):
        references = obj["metadata"]["ownerReferences"]
        left = [r for r in references if r["uid"] != gone["metadata"]["uid"]]
        if left:
            ctx.store.update(resource, {**obj, "metadata": {**obj["metadata"], "ownerReferences": left}})
        else:
            _delete(ctx, resource, obj)


def sync_deleting(ctx: Context, resource: str, namespace: str, name: str) -> None:
    """Carry on a deletion that waits for its dependents (Foreground) or has to let them go (Orphan)."""
    obj = ctx.store.get(resource, namespace, name)
    if obj is None or not obj["metadata"].get("deletionTimestamp"):
        return
    finalizers = obj["metadata"].get("finalizers") or []
    if ORPHAN in finalizers:
        for kind, dependent in dependents(ctx, obj):
            left = [r for r in dependent["metadata"]["ownerReferences"] if r["uid"] != obj["metadata"]["uid"]]
            meta = {**dependent["metadata"], "ownerReferences": left}
            ctx.store.update(kind, {**dependent, "metadata": meta})
        _release(ctx, resource, obj, ORPHAN)
    elif FOREGROUND in finalizers:
        waiting = dependents(ctx, obj)
        if not waiting:
            _release(ctx, resource, obj, FOREGROUND)
        for kind, dependent in waiting:
            if not dependent["metadata"].get("deletionTimestamp"):
                _delete(ctx, kind, dependent)


def _release(ctx: Context, resource: str, obj: Obj, finalizer: str) -> None:
    left = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
    stored = ctx.store.update(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": left}})
    finish_if_released(ctx.store, BY_PLURAL[resource], stored)


def _delete(ctx: Context, resource: str, obj: Obj) -> None:
    meta = obj["metadata"]
    delete(ctx.store, BY_PLURAL[resource], meta.get("namespace", ""), meta["name"], DeleteOptions())


def sync_namespace(ctx: Context, name: str) -> None:
    """A new namespace gets its service account; one that is deleted takes everything in it along."""
    namespace = ctx.store.get("namespaces", "", name)
    if namespace is None:
        return
    if not namespace["metadata"].get("deletionTimestamp"):
        if ctx.store.get("serviceaccounts", name, "default") is None:
            meta = {"name": "default", "namespace": name}
            ctx.store.create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        return
    left = [(k.plural, obj) for k in STORED if k.namespaced for obj in ctx.store.list(k.plural, name)]
    for resource, obj in left:
        if not obj["metadata"].get("deletionTimestamp"):
            _delete(ctx, resource, obj)
    if not any(ctx.store.list(kind.plural, name) for kind in STORED if kind.namespaced):
        try:
            ctx.store.delete("namespaces", "", name)
        except MissingError:
            return
    else:
        ctx.after(0.5, ("namespaces", "", name))


def sync_claim(ctx: Context, namespace: str, name: str) -> None:
    """A volume claim is bound a second after it was made."""
    claim = ctx.store.get("persistentvolumeclaims", namespace, name)
    if claim is None or claim["status"].get("phase") == "Bound":
        return
    age = ctx.simulated_age(parse_timestamp(claim["metadata"]["creationTimestamp"]))
    if age < 1:
        ctx.after(1 - age, ("persistentvolumeclaims", namespace, name))
        return
    bound = ctx.changed(claim)
    bound["spec"].setdefault("volumeName", f"pvc-{claim['metadata']['uid']}")
    bound["status"] = {
        "phase": "Bound",
        "accessModes": claim["spec"].get("accessModes", []),
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
    }
    ctx.store.update("persistentvolumeclaims", bound)
