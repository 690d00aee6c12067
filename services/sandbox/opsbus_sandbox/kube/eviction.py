"""Eviction: a deletion that asks the disruption budgets first."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.deletion import DeleteOptions, check_preconditions, delete, delete_options
from opsbus_sandbox.kube.errors import ApiError, bad_request, eviction_refused
from opsbus_sandbox.kube.podstatus import is_ready, set_condition
from opsbus_sandbox.kube.registry import Registry
from opsbus_sandbox.kube.resources import BY_PLURAL
from opsbus_sandbox.kube.selectors import match_selector
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def evict(registry: Registry, namespace: str, name: str, body: Any, *, dry_run: bool) -> Obj:
    """Evict one pod and answer with a Status. Raises ApiError 400, 404, 429 or 500."""
    store, kind = registry.store, BY_PLURAL["pods"]
    if not isinstance(body, dict) or body.get("kind", "Eviction") != "Eviction":
        raise bad_request("not an Eviction")
    if (body.get("metadata") or {}).get("name", name) != name:
        raise bad_request("name in URL does not match name in Eviction object")
    pod = registry.read(kind, namespace, name)
    options = delete_options({}, body.get("deleteOptions"))
    options = DeleteOptions(
        dry_run or options.dry_run, options.grace_seconds, options.policy, options.uid, options.version
    )
    check_preconditions(kind, pod, options)
    budgets = [
        budget
        for budget in store.list("poddisruptionbudgets", namespace)
        if match_selector(budget["spec"].get("selector"), pod["metadata"].get("labels") or {})
    ]
    if len(budgets) > 1:
        message = (
            "Internal error occurred: This pod has more than one PodDisruptionBudget, which the eviction subresource "
            "does not support."
        )
        raise ApiError(500, "InternalError", message)
    if budgets and not _needs_no_budget(pod, budgets[0]):
        _take_from_budget(store, budgets[0], name, dry_run=options.dry_run)
    if not options.dry_run:
        _mark(store, pod)
    delete(store, kind, namespace, name, replace(options, version=""))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _mark(store: ObjectStore, pod: Obj) -> None:
    """Why the pod goes, for whoever looks at it while it stops."""
    marked = copy.deepcopy(pod)
    message = "Eviction API: evicting"
    set_condition(
        marked.setdefault("status", {}), "DisruptionTarget", "True", store.clock.now(), "EvictionByEvictionAPI", message
    )
    store.update("pods", marked)


def _needs_no_budget(pod: Obj, budget: Obj) -> bool:
    phase = pod.get("status", {}).get("phase")
    if phase in ("Succeeded", "Failed", "Pending") or pod["metadata"].get("deletionTimestamp"):
        return True
    if is_ready(pod):
        return False
    status = budget.get("status") or {}
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    # An unhealthy pod may go as long as the healthy ones suffice without it.
    desired = int(status.get("desiredHealthy", 0))
    return desired > 0 and int(status.get("currentHealthy", 0)) >= desired


def _take_from_budget(store: ObjectStore, budget: Obj, pod: str, *, dry_run: bool) -> None:
    status, meta = budget.get("status") or {}, budget["metadata"]
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise eviction_refused(meta["name"], "is still being processed by the server.", still_processing=True)
    if status.get("disruptionsAllowed", 0) < 1:
        needed, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise eviction_refused(meta["name"], f"needs {needed} healthy pods and has {healthy} currently")
    if dry_run:
        return
    changed = copy.deepcopy(budget)
    changed["status"]["disruptionsAllowed"] -= 1
    changed["status"].setdefault("disruptedPods", {})[pod] = timestamp(store.clock.now())
    store.update("poddisruptionbudgets", changed)
