"""Numbers that follow from pods: disruption budgets, resource quotas, and the count an autoscaler shows."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.admission import format_amount, usage
from opsbus_sandbox.kube.factory import controller_of
from opsbus_sandbox.kube.podstatus import is_active, is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.resources import BY_KIND
from opsbus_sandbox.kube.rollout import resolve
from opsbus_sandbox.kube.selectors import match_selector

Obj = dict[str, Any]


def sync_budget(ctx: Context, namespace: str, name: str) -> None:
    """How many pods of a disruption budget may go right now."""
    budget = ctx.store.get("poddisruptionbudgets", namespace, name)
    if budget is None:
        return
    spec = budget["spec"]
    pods = [
        pod
        for pod in ctx.store.list("pods", namespace)
        if match_selector(spec.get("selector"), pod["metadata"].get("labels") or {}) and is_active(pod)
    ]
    healthy = sum(map(is_ready, pods))
    if spec.get("maxUnavailable") is not None:
        expected = _expected(ctx, namespace, pods)
        desired = max(0, expected - resolve(spec["maxUnavailable"], expected, up=True))
    elif isinstance(spec.get("minAvailable"), str):
        expected = _expected(ctx, namespace, pods)
        desired = resolve(spec["minAvailable"], expected, up=True)
    else:
        expected, desired = len(pods), int(spec.get("minAvailable") or 0)
    allowed = max(0, healthy - desired) if expected else 0
    status = {
        "observedGeneration": budget["metadata"]["generation"], "disruptionsAllowed": allowed,
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "conditions": [_allowed_condition(ctx, budget, allowed)],
    }  # fmt: skip
    ctx.set_status("poddisruptionbudgets", budget, status)


def _allowed_condition(ctx: Context, budget: Obj, allowed: int) -> Obj:
    value = "True" if allowed else "False"
    old: Obj = next(iter((budget.get("status") or {}).get("conditions") or []), {})
    same = old.get("status") == value
    return {
        "type": "DisruptionAllowed", "status": value, "message": "",
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "observedGeneration": budget["metadata"]["generation"],
        "lastTransitionTime": old["lastTransitionTime"] if same else timestamp(ctx.now()),
    }  # fmt: skip


def _expected(ctx: Context, namespace: str, pods: list[Obj]) -> int:
    """The pods there should be: the sizes of the controllers that own those that are."""
    sizes: dict[str, int] = {}
    loose = 0
    for pod in pods:
        reference = controller_of(pod)
        kind = BY_KIND.get(reference["kind"]) if reference else None
        owner = ctx.store.get(kind.plural, namespace, reference["name"]) if kind and reference else None
        if owner is None or "replicas" not in owner["spec"]:
            loose += 1
        else:
            sizes[owner["metadata"]["uid"]] = int(owner["spec"]["replicas"])
    return sum(sizes.values()) + loose


def sync_quota(ctx: Context, namespace: str, name: str) -> None:
    """What a namespace uses of its quota."""
    quota = ctx.store.get("resourcequotas", namespace, name)
    if quota is None:
        return
    hard = (quota.get("spec") or {}).get("hard") or {}
    used = {name: format_amount(name, amount) for name, amount in usage(ctx.store, namespace, hard).items()}
    ctx.set_status("resourcequotas", quota, {"hard": dict(hard), "used": used})


def sync_autoscaler(ctx: Context, namespace: str, name: str) -> None:
    """An autoscaler shows its target's size. It scales nothing here: the estate's load is a story, not a load."""
    scaler = ctx.store.get("horizontalpodautoscalers", namespace, name)
    if scaler is None:
        return
    target = scaler["spec"].get("scaleTargetRef") or {}
    kind = BY_KIND.get(target.get("kind", ""))
    found = ctx.store.get(kind.plural, namespace, target.get("name", "")) if kind else None
    status = dict(scaler.get("status") or {})
    if found is None:
        message = f"the HPA controller was unable to get the target's current scale: {target.get('name')} not found"
        status["conditions"] = [
            {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": message,
             "lastTransitionTime": _since(ctx, scaler)}
        ]  # fmt: skip
        status |= {"currentReplicas": 0, "desiredReplicas": 0}
    else:
        status["currentReplicas"] = int((found.get("status") or {}).get("replicas", 0))
        status.setdefault("desiredReplicas", int(found["spec"].get("replicas", 0)))
    ctx.set_status("horizontalpodautoscalers", scaler, status)


def _since(ctx: Context, scaler: Obj) -> str:
    for entry in (scaler.get("status") or {}).get("conditions") or []:
        if entry["reason"] == "FailedGetScale":
            return str(entry["lastTransitionTime"])
    return timestamp(ctx.now())
