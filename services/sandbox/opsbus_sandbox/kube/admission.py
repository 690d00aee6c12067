"""What the cluster checks beyond an object's own rules: its namespace, its service account, the quota."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from opsbus_sandbox.kube.errors import ApiError, forbidden, not_found
from opsbus_sandbox.kube.podstatus import limited, requested
from opsbus_sandbox.kube.quantity import format_bytes, format_cpu, parse_quantity
from opsbus_sandbox.kube.resources import BY_PLURAL, ResourceType
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def admit_create(store: ObjectStore, kind: ResourceType, obj: Obj) -> None:
    """Raises ApiError 404 or 403 when the cluster does not take this new object."""
    meta = obj["metadata"]
    if kind.namespaced:
        namespace = store.get("namespaces", "", meta["namespace"])
        if namespace is None:
            raise not_found(BY_PLURAL["namespaces"], meta["namespace"])
        if namespace["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {meta['namespace']} because it is being terminated"
            raise forbidden(kind, meta["name"], why)
    if kind.plural == "pods":
        _require_service_account(store, kind, obj)
        if refusal := quota_refusal(store, obj):
            raise refusal


def _require_service_account(store: ObjectStore, kind: ResourceType, pod: Obj) -> None:
    namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName", "default")
    if store.get("serviceaccounts", namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden(kind, pod["metadata"]["name"], why)


def quota_refusal(store: ObjectStore, pod: Obj) -> ApiError | None:
    """403 naming the quota that one more such pod would exceed, or None."""
    namespace = pod["metadata"]["namespace"]
    for quota in store.list("resourcequotas", namespace):
        hard = quota.get("spec", {}).get("hard") or {}
        used = usage(store, namespace, hard)
        asked = pod_usage(pod, hard)
        over = [name for name, amount in asked.items() if used[name] + amount > parse_quantity(hard[name])]
        if over:
            parts = [
                f"{label}: " + ",".join(f"{name}={shown[name]}" for name in sorted(over))
                for label, shown in (
                    ("requested", _shown(asked)),
                    ("used", _shown(used)),
                    ("limited", {name: str(hard[name]) for name in over}),
                )
            ]
            why = f"exceeded quota: {quota['metadata']['name']}, {', '.join(parts)}"
            return forbidden(BY_PLURAL["pods"], pod["metadata"]["name"], why)
    return None


def pod_usage(pod: Obj, hard: Obj) -> dict[str, Decimal]:
    """What one pod takes of each resource a quota names."""
    amounts: dict[str, Decimal] = {}
    for name in hard:
        plain = name.removeprefix("requests.").removeprefix("limits.")
        if name in ("pods", "count/pods"):
            amounts[name] = Decimal(1)
        elif plain in ("cpu", "memory"):
            measure = limited if name.startswith("limits.") else requested
            amounts[name] = measure(pod["spec"], plain)
    return amounts


def usage(store: ObjectStore, namespace: str, hard: Obj) -> dict[str, Decimal]:
    """What the namespace uses of each resource a quota names."""
    totals = {name: Decimal(0) for name in hard}
    for pod in store.list("pods", namespace):
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for name, amount in pod_usage(pod, hard).items():
            totals[name] += amount
    for name in hard:
        plural = name.removeprefix("count/").partition(".")[0]
        if plural != "pods" and plural in BY_PLURAL and ("." not in name or name.startswith("count/")):
            totals[name] = Decimal(len(store.list(plural, namespace)))
    return totals


def _shown(amounts: dict[str, Decimal]) -> dict[str, str]:
    return {name: format_amount(name, amount) for name, amount in amounts.items()}


def format_amount(name: str, amount: Decimal) -> str:
    """An amount of a quota's resource in its canonical text."""
    if name.endswith("memory"):
        return format_bytes(amount)
    return format_cpu(amount)
