"""Rules of the kinds that run nothing: services, config, secrets, autoscalers, budgets, roles, bindings, ..."""

from __future__ import annotations

import re
from typing import Any

from opsbus_sandbox.kube.errors import Cause, duplicate, forbidden_field, invalid_value, required, unsupported
from opsbus_sandbox.kube.objects.pod_rules import NOT_NEGATIVE
from opsbus_sandbox.kube.objects.workload_rules import check_selector

Obj = dict[str, Any]

_CONFIG_KEY = re.compile(r"^[-._a-zA-Z0-9]+\Z")
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_MAX_CONFIG = 1024 * 1024
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def check_service(obj: Obj) -> list[Cause]:
    """A service's spec."""
    spec = obj["spec"]
    causes: list[Cause] = []
    if spec.get("type") not in _SERVICE_TYPES:
        causes.append(unsupported("spec.type", spec.get("type"), _SERVICE_TYPES))
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        causes.append(required("spec.ports"))
    names: set[str] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        if not 1 <= (port.get("port") or 0) <= 65535:
            text = "must be between 1 and 65535, inclusive"
            causes.append(invalid_value(f"{field}.port", port.get("port", 0), text))
        name = port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(required(f"{field}.name"))
        elif name in names:
            causes.append(duplicate(f"{field}.name", name))
        names.add(name)
    return causes


def check_service_update(old: Obj, new: Obj) -> list[Cause]:
    """A cluster IP never changes."""
    before, after = old["spec"].get("clusterIP"), new["spec"].get("clusterIP")
    if before and before != after:
        return [invalid_value("spec.clusterIPs[0]", after, "may not change once set")]
    return []


def check_config(obj: Obj) -> list[Cause]:
    """The keys and the size of a config map or secret."""
    causes = []
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            size += len(str(value))
            if not _CONFIG_KEY.match(key):
                causes.append(invalid_value(f"{field}[{key}]", key, _CONFIG_KEY_TEXT))
    if size > _MAX_CONFIG:
        causes.append(Cause("", "FieldValueTooLong", f"Too long: may not be more than {_MAX_CONFIG} bytes"))
    return causes


def check_config_update(old: Obj, new: Obj) -> list[Cause]:
    """An immutable config map or secret stays as it is; a secret keeps its type."""
    causes = []
    if old.get("immutable"):
        causes += [
            forbidden_field(field, "field is immutable when `immutable` is set")
            for field in ("data", "binaryData", "immutable")
            if old.get(field) != new.get(field)
        ]
    if old.get("type") != new.get("type"):
        causes.append(invalid_value("type", new.get("type"), "field is immutable"))
    return causes


def check_autoscaler(obj: Obj) -> list[Cause]:
    """A horizontal pod autoscaler's spec."""
    spec = obj["spec"]
    causes = []
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
    if least < 1:
        causes.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid_value("spec.maxReplicas", most, "must be greater than 0"))
    elif most < least:
        causes.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target = spec.get("scaleTargetRef") or {}
    causes += [required(f"spec.scaleTargetRef.{field}") for field in ("kind", "name") if not target.get(field)]
    return causes


def check_budget(obj: Obj) -> list[Cause]:
    """A disruption budget's spec."""
    spec = obj["spec"]
    causes = []
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        text = "minAvailable and maxUnavailable cannot be both set"
        causes.append(invalid_value("spec", "", text))
    for field in ("minAvailable", "maxUnavailable"):
        value = spec.get(field)
        if isinstance(value, int) and value < 0:
            causes.append(invalid_value(f"spec.{field}", value, NOT_NEGATIVE))
        elif isinstance(value, str) and not re.match(r"^[0-9]+%\Z", value):
            causes.append(invalid_value(f"spec.{field}", value, "a valid percent string must be a number and '%'"))
    return causes + check_selector("spec.selector", spec.get("selector") or {})


def check_role(obj: Obj) -> list[Cause]:
    """The rules of a role."""
    causes = []
    for index, rule in enumerate(obj.get("rules") or []):
        field = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.append(required(f"{field}.verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            continue
        if not rule.get("apiGroups"):
            causes.append(required(f"{field}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            causes.append(required(f"{field}.resources", "resource rules must supply at least one resource"))
    return causes


def check_binding(obj: Obj) -> list[Cause]:
    """A role binding's subjects and role."""
    causes = []
    role = obj.get("roleRef") or {}
    kinds = ("ClusterRole",) if obj["kind"] == "ClusterRoleBinding" else ("ClusterRole", "Role")
    if role.get("kind") not in kinds:
        causes.append(unsupported("roleRef.kind", role.get("kind", ""), kinds))
    if not role.get("name"):
        causes.append(required("roleRef.name"))
    for index, subject in enumerate(obj.get("subjects") or []):
        field = f"subjects[{index}]"
        if not subject.get("name"):
            causes.append(required(f"{field}.name"))
        if subject.get("kind") not in ("Group", "ServiceAccount", "User"):
            supported = ("Group", "ServiceAccount", "User")
            causes.append(unsupported(f"{field}.kind", subject.get("kind", ""), supported))
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            causes.append(required(f"{field}.namespace"))
    return causes


def check_binding_update(old: Obj, new: Obj) -> list[Cause]:
    """A binding keeps its role."""
    if old.get("roleRef") == new.get("roleRef"):
        return []
    return [invalid_value("roleRef", (new.get("roleRef") or {}).get("name"), "cannot change roleRef")]


def check_event(obj: Obj) -> list[Cause]:
    """An event lives in the namespace of what it is about."""
    namespace = (obj.get("involvedObject") or {}).get("namespace", "")
    if namespace and namespace != obj["metadata"].get("namespace"):
        return [invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")]
    return []


def check_claim(obj: Obj) -> list[Cause]:
    """A volume claim's spec."""
    spec = obj["spec"]
    causes = []
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        causes.append(required("spec.resources[storage]"))
    return causes
