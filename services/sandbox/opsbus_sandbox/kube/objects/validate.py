"""Which rules hold for which kind, on creation and on update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opsbus_sandbox.kube.errors import Cause, invalid, invalid_value
from opsbus_sandbox.kube.objects import other_rules as other
from opsbus_sandbox.kube.objects import workload_rules as workload
from opsbus_sandbox.kube.objects.meta_rules import check_meta, check_meta_update
from opsbus_sandbox.kube.objects.pod_rules import check_pod_spec, check_pod_update
from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]

_HAVE_SPEC = (
    "pods", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs", "services",
    "horizontalpodautoscalers", "poddisruptionbudgets", "persistentvolumeclaims",
)  # fmt: skip

_CREATE: dict[str, Callable[[Obj], list[Cause]]] = {
    "pods": lambda obj: check_pod_spec("spec", obj["spec"]),
    "deployments": workload.check_deployment,
    "replicasets": workload.check_replicaset,
    "statefulsets": workload.check_statefulset,
    "daemonsets": workload.check_daemonset,
    "jobs": workload.check_job,
    "cronjobs": workload.check_cronjob,
    "services": other.check_service,
    "configmaps": other.check_config,
    "secrets": other.check_config,
    "horizontalpodautoscalers": other.check_autoscaler,
    "poddisruptionbudgets": other.check_budget,
    "roles": other.check_role,
    "clusterroles": other.check_role,
    "rolebindings": other.check_binding,
    "clusterrolebindings": other.check_binding,
    "events": other.check_event,
    "persistentvolumeclaims": other.check_claim,
}

_UPDATE: dict[str, Callable[[Obj, Obj], list[Cause]]] = {
    "pods": check_pod_update,
    "deployments": workload.check_selector_update,
    "replicasets": workload.check_selector_update,
    "statefulsets": workload.check_statefulset_update,
    "daemonsets": workload.check_selector_update,
    "jobs": workload.check_job_update,
    "services": other.check_service_update,
    "configmaps": other.check_config_update,
    "secrets": other.check_config_update,
    "rolebindings": other.check_binding_update,
    "clusterrolebindings": other.check_binding_update,
}


def validate_create(kind: ResourceType, obj: Obj) -> None:
    """Raises ApiError 422 naming everything wrong with a new object."""
    _raise(kind, obj, _check(kind, obj))


def validate_update(kind: ResourceType, old: Obj, new: Obj) -> None:
    """Raises ApiError 422 naming everything wrong with a changed object."""
    causes = check_meta_update(old, new) + _check(kind, new)
    if kind.plural in _UPDATE and not causes:
        causes += _UPDATE[kind.plural](old, new)
    _raise(kind, old, causes)


def _check(kind: ResourceType, obj: Obj) -> list[Cause]:
    causes = check_meta(kind, obj)
    if kind.plural in _HAVE_SPEC and not isinstance(obj.get("spec"), dict):
        return [*causes, invalid_value("spec", "", "must be an object")]
    rules = _CREATE.get(kind.plural)
    if rules is None:
        return causes
    try:
        return causes + rules(obj)
    except (AttributeError, TypeError, ValueError) as error:
        # A part whose type decoding does not know was of another shape than the rules expect.
        return [*causes, invalid_value("", "", f"malformed object: {error}")]


def _raise(kind: ResourceType, obj: Obj, causes: list[Cause]) -> None:
    if causes:
        raise invalid(kind.qualified_kind, str(obj["metadata"].get("name", "")), causes)
