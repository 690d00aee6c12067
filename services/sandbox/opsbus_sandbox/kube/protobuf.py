"""Bodies in Kubernetes' protobuf form, as recent kubectl sends what it makes itself (reviews, evictions, `create`).

Read only, and only the messages of `_MESSAGES`; a field that is not listed is refused and never dropped in silence.
Answers are always JSON, which every such client accepts too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.kube.errors import bad_request

Obj = dict[str, Any]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_MAX_DEPTH = 32


@dataclass(frozen=True)
class _Field:
    """One field: its JSON name and how to read it; `type` names a message, or is a plain type, or skip."""

    name: str
    type: str = "str"
    repeated: bool = False
    map: bool = False


def _message(text: str) -> dict[int, _Field]:
    """`1 name`, `7 generation int`, `11 labels map str`, `13 containers list Container`."""
    fields = {}
    for line in text.split(","):
        number, name, *rest = line.split()
        shape = rest[0] if rest and rest[0] in ("list", "map") else ""
        kind = rest[-1] if rest and rest[-1] not in ("list", "map") else "str"
        fields[int(number)] = _Field(name, kind, shape == "list", shape == "map")
    return fields


def _kind(spec: str) -> dict[int, _Field]:
    return _message(f"1 metadata ObjectMeta, 2 spec {spec}, 3 status skip")


_MESSAGES: dict[str, dict[int, _Field]] = {
    "ObjectMeta": _message(
        "1 name, 2 generateName, 3 namespace, 4 selfLink, 5 uid, 6 resourceVersion, 7 generation int, "
        "8 creationTimestamp skip, 9 deletionTimestamp skip, 10 deletionGracePeriodSeconds int, 11 labels map, "
        "12 annotations map, 14 finalizers list"
    ),
    "LabelSelector": _message("1 matchLabels map, 2 matchExpressions list Requirement"),
    "Requirement": _message("1 key, 2 operator, 3 values list"),
    "IntOrString": _message("1 type int, 2 intVal int, 3 strVal"),
    "Quantity": _message("1 string"),
    # Reviews
    "SelfSubjectAccessReview": _kind("AccessSpec"),
    "SubjectAccessReview": _kind("AccessSpec"),
    "LocalSubjectAccessReview": _kind("AccessSpec"),
    "AccessSpec": _message(
        "1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes PathAttributes, 3 user, 4 groups list, 6 uid"
    ),
    "ResourceAttributes": _message("1 namespace, 2 verb, 3 group, 4 version, 5 resource, 6 subresource, 7 name"),
    "PathAttributes": _message("1 path, 2 verb"),
    "SelfSubjectRulesReview": _kind("RulesSpec"),
    "RulesSpec": _message("1 namespace"),
    "SelfSubjectReview": _message("1 metadata ObjectMeta, 2 status skip"),
    # Deleting
    "Eviction": _message("1 metadata ObjectMeta, 2 deleteOptions DeleteOptions"),
    "DeleteOptions": _message(
        "1 gracePeriodSeconds int, 2 preconditions Preconditions, 3 orphanDependents bool, 4 propagationPolicy, "
        "5 dryRun list"
    ),
    "Preconditions": _message("1 uid, 2 resourceVersion"),
    # What `kubectl create` makes
    "Namespace": _message("1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status skip"),
    "NamespaceSpec": _message("1 finalizers list"),
    "ConfigMap": _message("1 metadata ObjectMeta, 2 data map, 3 binaryData map bytes, 4 immutable bool"),
    "Secret": _message("1 metadata ObjectMeta, 2 data map bytes, 3 type, 4 stringData map, 5 immutable bool"),
    "ServiceAccount": _message("1 metadata ObjectMeta"),
    "Deployment": _kind("DeploymentSpec"),
    "DeploymentSpec": _message(
        "1 replicas int, 2 selector LabelSelector, 3 template PodTemplate, 4 strategy Strategy, 5 minReadySeconds int, "
        "6 revisionHistoryLimit int, 7 paused bool, 9 progressDeadlineSeconds int"
    ),
    "Strategy": _message("1 type, 2 rollingUpdate RollingUpdate"),
    "RollingUpdate": _message("1 maxUnavailable IntOrString, 2 maxSurge IntOrString"),
    "Job": _kind("JobSpec"),
    "JobSpec": _message(
        "1 parallelism int, 2 completions int, 3 activeDeadlineSeconds int, 4 selector LabelSelector, "
        "5 manualSelector bool, 6 template PodTemplate, 7 backoffLimit int, 8 ttlSecondsAfterFinished int, "
        "9 completionMode, 10 suspend bool"
    ),
    "HorizontalPodAutoscaler": _kind("AutoscalerSpec"),
    "AutoscalerSpec": _message(
        "1 scaleTargetRef ScaleTarget, 2 minReplicas int, 3 maxReplicas int, 4 targetCPUUtilizationPercentage int"
    ),
    "ScaleTarget": _message("1 kind, 2 name, 3 apiVersion"),
    "PodTemplate": _message("1 metadata ObjectMeta, 2 spec PodSpec"),
    "PodSpec": _message(
        "2 containers list Container, 3 restartPolicy, 4 terminationGracePeriodSeconds int, "
        "5 activeDeadlineSeconds int, 6 dnsPolicy, 7 nodeSelector map, 8 serviceAccountName, 9 serviceAccount, "
        "10 nodeName, 11 hostNetwork bool, 12 hostPID bool, 13 hostIPC bool, 16 hostname, 17 subdomain, "
        "19 schedulerName, 20 initContainers list Container, 24 priorityClassName"
    ),
    "Container": _message(
        "1 name, 2 image, 3 command list, 4 args list, 5 workingDir, 6 ports list Port, 7 env list Variable, "
        "8 resources Resources, 13 terminationMessagePath, 14 imagePullPolicy, 16 stdin bool, 17 stdinOnce bool, "
        "18 tty bool, 20 terminationMessagePolicy"
    ),
    "Port": _message("1 name, 2 hostPort int, 3 containerPort int, 4 protocol, 5 hostIP"),
    "Variable": _message("1 name, 2 value"),
    "Resources": _message("1 limits map quantity, 2 requests map quantity"),
}


def decode(raw: bytes) -> Obj:
    """The object in a body, as JSON would have it. Raises ApiError 400."""
    if not raw.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        kind = version = ""
        content = b""
        for number, value in _fields(raw[len(_MAGIC) :]):
            if number == 1:
                type_meta = {n: bytes(v).decode() for n, v in _fields(_raw(value)) if not isinstance(v, int)}
                version, kind = type_meta.get(1, ""), type_meta.get(2, "")
            elif number == 2:
                content = _raw(value)
        if kind not in _MESSAGES:
            raise bad_request(f"{kind or 'an object without a kind'} is not read as protobuf here: send it as JSON")
        return {"apiVersion": version, "kind": kind, **_decode(content, kind, 0)}
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise bad_request(f"proto: illegal wireType or truncated message: {error}") from error


def _raw(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected and a number found")
    return value


def _decode(raw: bytes, message: str, depth: int) -> Obj:
    if depth > _MAX_DEPTH:
        raise bad_request("proto: the message is nested too deeply")
    fields = _MESSAGES[message]
    obj: Obj = {}
    for number, value in _fields(raw):
        field = fields.get(number)
        if field is None:
            raise bad_request(f"field {number} of {message} is not read as protobuf here: send the object as JSON")
        if field.type == "skip":
            continue
        if field.map:
            key, item = _entry(_raw(value), field, depth)
            obj.setdefault(field.name, {})[key] = item
        elif field.repeated:
            obj.setdefault(field.name, []).append(_value(value, field, depth))
        else:
            decoded = _value(value, field, depth)
            # Plain fields are always on the wire, empty or not; empty means absent, as in JSON's omitempty.
            if decoded not in ("", False, 0, {}) or field.name in ("replicas", "gracePeriodSeconds", "backoffLimit"):
                obj[field.name] = decoded
    return obj


def _entry(raw: bytes, field: _Field, depth: int) -> tuple[str, Any]:
    parts = dict(_fields(raw))
    return _raw(parts.get(1, b"")).decode(), _value(parts.get(2, b""), field, depth)


def _value(value: int | bytes, field: _Field, depth: int) -> Any:
    if field.type == "int":
        number = int(value) if isinstance(value, int) else 0
        return number - 2**64 if number >= 2**63 else number
    if field.type == "bool":
        return bool(value)
    raw = _raw(value)
    if field.type == "str":
        return raw.decode()
    if field.type == "bytes":
        return base64.b64encode(raw).decode()
    if field.type == "quantity":
        return _decode(raw, "Quantity", depth + 1).get("string", "0")
    decoded = _decode(raw, field.type, depth + 1)
    if field.type == "IntOrString":
        return decoded.get("strVal", "") if decoded.get("type") else decoded.get("intVal", 0)
    return decoded


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field on the wire."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(raw, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(raw, position)
            if position + length > len(raw):
                raise ValueError("truncated")
            yield number, raw[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint overflow")
