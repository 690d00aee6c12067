"""The deployment controller: replica sets, rollouts, revisions."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.factory import (
    DESIRED,
    REVISION,
    controller_of,
    copied_annotations,
    new_replicaset,
    owned_by,
    owner_reference,
    sizing,
)
from opsbus_sandbox.kube.names import template_hash
from opsbus_sandbox.kube.podstatus import is_active
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.deployment_status import write_status
from opsbus_sandbox.kube.reconcile.pods_of import pods_owned_by
from opsbus_sandbox.kube.rollout import (
    Bounds,
    bounds_of,
    new_size,
    old_sizes,
    proportional_sizes,
    replicas_of,
)
from opsbus_sandbox.kube.selectors import match_selector

Obj = dict[str, Any]
COMPONENT = "deployment-controller"


def sync_deployment(ctx: Context, namespace: str, name: str) -> None:
    """One step of a deployment towards its spec."""
    deployment = ctx.store.get("deployments", namespace, name)
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return
    owned = _replicasets(ctx, deployment)
    newest = _matching(deployment, owned)
    bounds = bounds_of(deployment)
    if deployment["spec"].get("paused") or _is_scaling(deployment, owned):
        _scale(ctx, deployment, newest, owned, bounds)
    else:
        newest = _ensure_newest(ctx, deployment, newest, owned, bounds)
        if newest is not None:
            _roll(ctx, deployment, newest, owned, bounds)
    _clean_up(ctx, deployment, newest)
    deployment = ctx.store.get("deployments", namespace, name) or deployment
    newest_name = newest["metadata"]["name"] if newest else ""
    write_status(ctx, deployment, newest_name, _replicasets(ctx, deployment))


def _replicasets(ctx: Context, deployment: Obj) -> list[Obj]:
    """The replica sets of a deployment; those without an owner that match its selector are adopted."""
    there = ctx.store.list("replicasets", deployment["metadata"]["namespace"])
    for replicaset in there:
        labels = replicaset["metadata"].get("labels") or {}
        if controller_of(replicaset) is None and match_selector(deployment["spec"]["selector"], labels):
            adopted = ctx.changed(replicaset)
            adopted["metadata"].setdefault("ownerReferences", []).append(owner_reference(deployment))
            ctx.store.update("replicasets", adopted)
    return owned_by(ctx.store.list("replicasets", deployment["metadata"]["namespace"]), deployment)


def _matching(deployment: Obj, owned: list[Obj]) -> Obj | None:
    wanted = template_hash(deployment["spec"]["template"])
    return next((rs for rs in owned if template_hash(rs["spec"]["template"]) == wanted), None)


def revision_of(obj: Obj) -> int:
    """The revision number in an object's annotations, 0 when there is none."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _ensure_newest(ctx: Context, deployment: Obj, newest: Obj | None, owned: list[Obj], bounds: Bounds) -> Obj | None:
    """The replica set of the current template: created, or found again and renumbered after a rollback."""
    others = [rs for rs in owned if newest is None or rs["metadata"]["uid"] != newest["metadata"]["uid"]]
    latest = max(map(revision_of, others), default=0)
    if newest is None:
        newest = _create_newest(ctx, deployment, others, latest + 1, bounds)
    elif revision_of(newest) <= latest:
        renumbered = ctx.changed(newest)
        annotations = renumbered["metadata"].setdefault("annotations", {})
        annotations |= {**copied_annotations(deployment), REVISION: str(latest + 1)}
        newest = ctx.store.update("replicasets", renumbered)
    if newest is not None and revision_of(deployment) != revision_of(newest):
        told = ctx.changed(deployment)
        told["metadata"].setdefault("annotations", {})[REVISION] = str(revision_of(newest))
        ctx.store.update("deployments", told)
    return newest


def _create_newest(ctx: Context, deployment: Obj, others: list[Obj], revision: int, bounds: Bounds) -> Obj | None:
    made = new_replicaset(deployment, deployment["spec"]["template"], replicas=0, revision=revision)
    recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
    if not (recreate and _pods_left(ctx, others)):
        made["spec"]["replicas"] = new_size(deployment["spec"]["replicas"], bounds, made, others)
    existing = ctx.store.get("replicasets", made["metadata"]["namespace"], made["metadata"]["name"])
    if existing is not None:
        return None
    created = ctx.store.create("replicasets", made)
    if size := replicas_of(created):
        _tell_scaled(ctx, deployment, created, 0, size)
    return created


def _pods_left(ctx: Context, replicasets: list[Obj]) -> bool:
    return any(is_active(pod) for rs in replicasets for pod in pods_owned_by(ctx, rs))


def _is_scaling(deployment: Obj, owned: list[Obj]) -> bool:
    """Whether the replica count was changed since the replica sets were last sized."""
    wanted = str(deployment["spec"]["replicas"])
    sized = [(rs["metadata"].get("annotations") or {}).get(DESIRED, wanted) for rs in owned if replicas_of(rs)]
    return any(size != wanted for size in sized)


def _scale(ctx: Context, deployment: Obj, newest: Obj | None, owned: list[Obj], bounds: Bounds) -> None:
    wanted = deployment["spec"]["replicas"]
    active = [rs for rs in owned if replicas_of(rs)]
    if len(active) <= 1:
        only = active[0] if active else newest
        if only is not None:
            _resize(ctx, deployment, only, wanted)
        return
    sizes = proportional_sizes(wanted, bounds, active)
    for replicaset in active:
        _resize(ctx, deployment, replicaset, sizes[replicaset["metadata"]["name"]])


def _roll(ctx: Context, deployment: Obj, newest: Obj, owned: list[Obj], bounds: Bounds) -> None:
    others = [rs for rs in owned if rs["metadata"]["uid"] != newest["metadata"]["uid"] and replicas_of(rs)]
    wanted = deployment["spec"]["replicas"]
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        for replicaset in others:
            _resize(ctx, deployment, replicaset, 0)
        everything_older = [rs for rs in owned if rs["metadata"]["uid"] != newest["metadata"]["uid"]]
        if not _pods_left(ctx, everything_older):
            _resize(ctx, deployment, newest, wanted)
        return
    newest = _resize(ctx, deployment, newest, new_size(wanted, bounds, newest, others))
    sizes = old_sizes(wanted, bounds, newest, others)
    for replicaset in others:
        size = sizes.get(replicaset["metadata"]["name"], replicas_of(replicaset))
        _resize(ctx, deployment, replicaset, size)


def _resize(ctx: Context, deployment: Obj, replicaset: Obj, size: int) -> Obj:
    before = replicas_of(replicaset)
    resized = ctx.changed(replicaset)
    resized["spec"]["replicas"] = size
    resized["metadata"].setdefault("annotations", {}).update(sizing(deployment))
    stored = ctx.store.update("replicasets", resized)
    if size != before:
        _tell_scaled(ctx, deployment, replicaset, before, size)
    return stored


def _tell_scaled(ctx: Context, deployment: Obj, replicaset: Obj, before: int, after: int) -> None:
    direction = "up" if after > before else "down"
    message = f"Scaled {direction} replica set {replicaset['metadata']['name']} from {before} to {after}"
    ctx.recorder.record(deployment, "Normal", "ScalingReplicaSet", message, COMPONENT)


def _clean_up(ctx: Context, deployment: Obj, newest: Obj | None) -> None:
    """Forget the oldest replica sets beyond the history limit."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    newest_uid = newest["metadata"]["uid"] if newest else ""
    idle = [
        rs
        for rs in _replicasets(ctx, deployment)
        if rs["metadata"]["uid"] != newest_uid and not replicas_of(rs) and not (rs.get("status") or {}).get("replicas")
    ]
    for replicaset in sorted(idle, key=revision_of)[: max(0, len(idle) - limit)]:
        ctx.store.delete("replicasets", replicaset["metadata"]["namespace"], replicaset["metadata"]["name"])
