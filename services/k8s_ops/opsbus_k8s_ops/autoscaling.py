"""What else steers or guards a workload's replicas: autoscalers and disruption budgets."""

import json
from collections.abc import Sequence

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_k8s_ops.models import Autoscaler
from opsbus_k8s_ops.objects import annotations, condition, labels, meta

GUARDS = Bounds(page_size=500, items_max=2_000)


async def autoscalers(
    api: ClusterApi, namespace: str | None
) -> tuple[dict[tuple[str, str, str], Autoscaler], list[str]]:
    """Autoscalers by (namespace, kind, name) of what they steer, and a warning when they cannot be read."""
    try:
        listing = await list_objects(api, "horizontalpodautoscalers", namespace, _autoscaler, GUARDS)
    except ToolError as error:
        if error.code not in (ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND):
            raise
        return {}, [f"autoscalers are not shown: {error.message}"]
    return dict(listing.items), listing.warnings


CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
"""Annotation in which autoscaling/v1 keeps the conditions that it has no field for."""


def _with_conditions(obj: Obj) -> Obj:
    """The autoscaler of either version with its conditions where v2 has them."""
    text, status = annotations(obj).get(CONDITIONS), obj.get("status") or {}
    if not text or status.get("conditions"):
        return obj
    try:
        found = [entry for entry in json.loads(text) if isinstance(entry, dict)]
    except (ValueError, TypeError):
        return obj
    return {**obj, "status": {**status, "conditions": found}}


def _autoscaler(obj: Obj) -> tuple[tuple[str, str, str], Autoscaler]:
    obj = _with_conditions(obj)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    limited = condition(obj, "ScalingLimited")
    broken = next(
        (c for kind in ("ScalingActive", "AbleToScale") if (c := condition(obj, kind)).get("status") == "False"), None
    )
    note = (broken or {}).get("message") or (limited.get("message") if limited.get("status") == "True" else None)
    key = (str(meta(obj).get("namespace", "")), str(target.get("kind", "")), str(target.get("name", "")))
    return key, Autoscaler(
        name=str(meta(obj).get("name", "")),
        min_replicas=int(spec.get("minReplicas") or 1),
        max_replicas=int(spec.get("maxReplicas") or 0),
        current_replicas=int(status.get("currentReplicas") or 0),
        desired_replicas=int(status.get("desiredReplicas") or 0),
        note=note,
    )


async def budgets_of(api: ClusterApi, workload: Obj) -> tuple[list[Obj], list[str]]:
    """The disruption budgets whose selector fits the workload's pods, and a warning when they cannot be read."""
    namespace = str(meta(workload).get("namespace", ""))
    template = (workload.get("spec") or {}).get("template") or {}
    try:
        listing = await list_objects(api, "poddisruptionbudgets", namespace, lambda obj: obj, GUARDS)
    except ToolError as error:
        if error.code not in (ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND):
            raise
        return [], [f"disruption budgets were not checked: {error.message}"]
    return [
        budget for budget in listing.items if selects((budget.get("spec") or {}).get("selector"), labels(template))
    ], []


def selects(selector: Obj | None, pod_labels: dict[str, str]) -> bool:
    """Whether a label selector picks these labels; an empty one picks all, none picks none."""
    if selector is None:
        return False
    if any(pod_labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, pod_labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Obj, pod_labels: dict[str, str]) -> bool:
    key, values = str(expression.get("key", "")), expression.get("values") or []
    present = key in pod_labels
    return {
        "In": present and pod_labels.get(key) in values,
        "NotIn": pod_labels.get(key) not in values,
        "Exists": present,
        "DoesNotExist": not present,
    }.get(str(expression.get("operator")), False)


def pods_needed(budget: Obj, replicas: int) -> int:
    """How many of so many replicas a budget wants available."""
    spec = budget.get("spec") or {}
    if spec.get("minAvailable") is not None:
        return _amount(spec["minAvailable"], replicas)
    if spec.get("maxUnavailable") is not None:
        return max(0, replicas - _amount(spec["maxUnavailable"], replicas))
    return 0


def _amount(value: int | str, of: int) -> int:
    text = str(value)
    return -(-int(text[:-1]) * of // 100) if text.endswith("%") else int(text)


def names(objects: Sequence[Obj]) -> str:
    """Their names, for a sentence."""
    return ", ".join(str(meta(obj).get("name", "")) for obj in objects)
