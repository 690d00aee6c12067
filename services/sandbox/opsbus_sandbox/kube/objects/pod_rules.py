"""Rules of pod specs, in pods and in templates."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.errors import Cause, duplicate, forbidden_field, invalid_value, required, unsupported
from opsbus_sandbox.kube.objects.meta_rules import check_label_name
from opsbus_sandbox.kube.quantity import parse_quantity

Obj = dict[str, Any]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PORT_TEXT = "must be between 1 and 65535, inclusive"
NOT_NEGATIVE = "must be greater than or equal to 0"


def check_pod_spec(path: str, spec: Obj) -> list[Cause]:
    """What is wrong with a pod spec at `path`."""
    causes: list[Cause] = []
    volumes = _volume_names(path, spec, causes)
    containers = spec.get("containers") or []
    if not containers:
        causes.append(required(f"{path}.containers"))
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or []):
            causes += _check_container(f"{path}.{field}[{index}]", container, volumes, seen)
    if spec.get("restartPolicy") not in _RESTART_POLICIES:
        causes.append(unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES))
    for field in ("terminationGracePeriodSeconds", "activeDeadlineSeconds"):
        if (spec.get(field) or 0) < 0:
            causes.append(invalid_value(f"{path}.{field}", spec[field], NOT_NEGATIVE))
    return causes


def _volume_names(path: str, spec: Obj, causes: list[Cause]) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or []):
        field, name = f"{path}.volumes[{index}].name", volume.get("name", "")
        if not name:
            causes.append(required(field))
        elif name in names:
            causes.append(duplicate(field, name))
        else:
            causes += check_label_name(field, name)
        names.add(name)
    return names


def _check_container(path: str, container: Obj, volumes: set[str], seen: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name = container.get("name", "")
    if not name:
        causes.append(required(f"{path}.name"))
    elif name in seen:
        causes.append(duplicate(f"{path}.name", name))
    else:
        causes += check_label_name(f"{path}.name", name)
    seen.add(name)
    image = container.get("image", "")
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip():
        causes.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("imagePullPolicy")
    if policy is not None and policy not in _PULL_POLICIES:
        causes.append(unsupported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES))
    causes += _check_ports(path, container.get("ports") or [])
    for index, variable in enumerate(container.get("env") or []):
        if not variable.get("name"):
            causes.append(required(f"{path}.env[{index}].name"))
        if variable.get("value") and variable.get("valueFrom"):
            text = "may not be specified when `value` is not empty"
            causes.append(invalid_value(f"{path}.env[{index}].valueFrom", "", text))
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name", "") not in volumes:
            text = f'Not found: "{mount.get("name", "")}"'
            causes.append(Cause(f"{path}.volumeMounts[{index}].name", "FieldValueNotFound", text))
        if not mount.get("mountPath"):
            causes.append(required(f"{path}.volumeMounts[{index}].mountPath"))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        causes += _check_probe(f"{path}.{probe}", container.get(probe))
    return causes + _check_resources(f"{path}.resources", container.get("resources") or {})


def _check_ports(path: str, ports: list[Obj]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        field = f"{path}.ports[{index}]"
        number = port.get("containerPort", 0)
        if not number:
            causes.append(required(f"{field}.containerPort"))
        elif not 1 <= number <= 65535:
            causes.append(invalid_value(f"{field}.containerPort", number, _PORT_TEXT))
        if port.get("protocol") not in _PROTOCOLS:
            causes.append(unsupported(f"{field}.protocol", port.get("protocol"), _PROTOCOLS))
        if name := port.get("name"):
            if name in names:
                causes.append(duplicate(f"{field}.name", name))
            names.add(name)
    return causes


def _check_probe(path: str, probe: Obj | None) -> list[Cause]:
    if not probe:
        return []
    causes = []
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(name) is not None]
    if not handlers:
        causes.append(required(path, "must specify a handler type"))
    elif len(handlers) > 1:
        causes.append(forbidden_field(f"{path}.{handlers[1]}", "may not specify more than 1 handler type"))
    counts = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    return causes + [
        invalid_value(f"{path}.{field}", probe[field], NOT_NEGATIVE) for field in counts if (probe.get(field) or 0) < 0
    ]


def _check_resources(path: str, resources: Obj) -> list[Cause]:
    causes = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if parse_quantity(amount) < 0:
                causes.append(invalid_value(f"{path}.{field}[{name}]", str(amount), NOT_NEGATIVE))
    for name, amount in requests.items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            causes.append(invalid_value(f"{path}.requests", str(amount), text))
    return causes


_POD_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check_pod_update(old: Obj, new: Obj) -> list[Cause]:
    """A pod's spec is fixed but for its images, its deadline and added tolerations."""
    if _fixed_part(old["spec"]) == _fixed_part(new["spec"]):
        before = old["spec"].get("tolerations") or []
        if all(toleration in (new["spec"].get("tolerations") or []) for toleration in before):
            return []
    return [forbidden_field("spec", _POD_UPDATE_TEXT)]


def _fixed_part(spec: Obj) -> Obj:
    fixed = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [{k: v for k, v in container.items() if k != "image"} for container in fixed[field] or []]
    return fixed
