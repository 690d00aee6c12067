"""What controllers do with the pods they own: create, delete, count."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.admission import quota_refusal
from opsbus_sandbox.kube.deletion import DeleteOptions, delete
from opsbus_sandbox.kube.factory import owned_by, pod_from_template
from opsbus_sandbox.kube.podstatus import is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.resources import BY_PLURAL

Obj = dict[str, Any]


def pods_owned_by(ctx: Context, owner: Obj) -> list[Obj]:
    """All pods an object controls, also those on their way out."""
    return owned_by(ctx.store.list("pods", owner["metadata"]["namespace"]), owner)


def create_pod(ctx: Context, owner: Obj, template: Obj, name: str, component: str, **changes: Any) -> str:
    """Create one pod for its owner. Why it could not be created is returned, "" when it was."""
    pod = pod_from_template(owner, template, name)
    pod["metadata"].setdefault("labels", {}).update(changes.get("labels", {}))
    pod["spec"].update(changes.get("spec", {}))
    namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
    refusal = quota_refusal(ctx.store, pod)
    why = refusal.message if refusal else ""
    if ctx.store.get("serviceaccounts", namespace, account) is None:
        why = (
            f'pods "{name}" is forbidden: error looking up service account {namespace}/{account}: '
            f'serviceaccount "{account}" not found'
        )
    if why:
        ctx.recorder.record(owner, "Warning", "FailedCreate", f"Error creating: {why}", component)
        return why
    ctx.store.create("pods", pod)
    ctx.recorder.record(owner, "Normal", "SuccessfulCreate", f"Created pod: {name}", component)
    return ""


def delete_pod(ctx: Context, owner: Obj, pod: Obj, component: str) -> None:
    """Delete one pod gracefully on its owner's behalf."""
    meta = pod["metadata"]
    delete(ctx.store, BY_PLURAL["pods"], meta["namespace"], meta["name"], DeleteOptions())
    ctx.recorder.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}", component)


def deletion_order(pod: Obj) -> tuple[bool, bool, bool, str]:
    """Sorts pods so that those best given up come first: unplaced, not running, unready, youngest."""
    return (
        bool(pod["spec"].get("nodeName")),
        pod.get("status", {}).get("phase") == "Running",
        is_ready(pod),
        # Older pods are kept: a later creation time must sort first.
        "".join(chr(0x7E - ord(char) + 0x20) for char in pod["metadata"]["creationTimestamp"]),
    )


def recheck_when_available(ctx: Context, pods: list[Obj], min_ready_s: int, key: tuple[str, str, str]) -> None:
    """Come back when the next ready pod will count as available."""
    waits = [min_ready_s - ready for pod in pods if (ready := ctx.ready_for(pod)) is not None and ready < min_ready_s]
    if waits:
        ctx.after(min(waits) + 0.05, key)
