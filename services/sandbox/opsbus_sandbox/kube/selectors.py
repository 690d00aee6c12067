"""Label and field selectors: parsing them as the API server does, and matching objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from opsbus_sandbox.kube.errors import bad_request
from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]
Matcher = Callable[[Obj], bool]
Requirement = tuple[str, str, frozenset[str]]  # (key, operator, values)

_NAME = re.compile(r"^(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_VALUE = re.compile(r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)\Z")
_EQUALS = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)\Z")
_ABSENT = re.compile(r"^!\s*(\S+)\Z")


def parse_labels(text: str) -> list[Requirement]:
    """The requirements of a label selector string. Raises ApiError 400 that names what is wrong."""
    return [_requirement(part) for part in _split(text)]


def label_matcher(text: str) -> Matcher:
    """A predicate over objects for a label selector string."""
    requirements = parse_labels(text)
    return lambda obj: match_requirements(requirements, obj["metadata"].get("labels") or {})


def match_requirements(requirements: list[Requirement], labels: dict[str, str]) -> bool:
    """Whether labels satisfy every requirement."""
    for key, operator, values in requirements:
        if operator == "exists" and key not in labels:
            return False
        if operator == "!" and key in labels:
            return False
        if operator == "in" and labels.get(key) not in values:
            return False
        if operator == "notin" and key in labels and labels[key] in values:
            return False
    return True


def match_selector(selector: Obj | None, labels: dict[str, str]) -> bool:
    """Whether labels satisfy a LabelSelector object. None matches nothing, the empty selector everything."""
    if selector is None:
        return False
    return match_requirements(selector_requirements(selector), labels)


def selector_requirements(selector: Obj) -> list[Requirement]:
    """A LabelSelector object's requirements."""
    found: list[Requirement] = [
        (key, "in", frozenset({value})) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    names = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
    found += [
        (entry["key"], names[entry["operator"]], frozenset(entry.get("values") or ()))
        for entry in selector.get("matchExpressions") or []
    ]
    return found


def selector_text(selector: Obj) -> str:
    """A LabelSelector object as a string, as the scale subresource carries it."""
    parts = []
    for key, operator, values in sorted(selector_requirements(selector), key=lambda r: r[0]):
        if operator == "in" and len(values) == 1:
            parts.append(f"{key}={next(iter(values))}")
        elif operator in ("in", "notin"):
            parts.append(f"{key} {operator} ({','.join(sorted(values))})")
        else:
            parts.append(key if operator == "exists" else f"!{key}")
    return ",".join(parts)


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    parts.append(current)
    stripped = [part.strip() for part in parts]
    if stripped == [""]:
        return []
    return stripped


def _requirement(part: str) -> Requirement:
    if match := _SET.match(part):
        values = frozenset(value.strip() for value in match.group(3).split(","))
        return _checked(match.group(1), match.group(2), values)
    if match := _EQUALS.match(part):
        return _checked(match.group(1), "notin" if match.group(2) == "!=" else "in", frozenset({match.group(3)}))
    if match := _ABSENT.match(part):
        return _checked(match.group(1), "!", frozenset())
    if part and not re.search(r"[\s=!()]", part):
        return _checked(part, "exists", frozenset())
    raise bad_request(f"unable to parse requirement: found '{part}', expected: a key with an operator and a value")


def _checked(key: str, operator: str, values: frozenset[str]) -> Requirement:
    if not _NAME.match(key):
        raise bad_request(
            f'unable to parse requirement: key: Invalid value: "{key}": name part must consist of alphanumeric '
            "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
            "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
    for value in values:
        if not _VALUE.match(value):
            raise bad_request(
                f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": a valid label must be an '
                "empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            )
    return key, operator, values


_META_FIELDS = ("metadata.name", "metadata.namespace")
_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets": ("status.replicas",),
    "jobs": ("status.successful",),
}  # fmt: skip
_EVENTS_V1_NAMES = {"regarding": "involvedObject", "reportingController": "reportingComponent"}


def parse_fields(resource: ResourceType, text: str) -> list[tuple[str, bool, str]]:
    """(path, equal or not, value) of each term. Raises ApiError 400 for a field the server does not index."""
    terms = []
    for part in _split(text):
        match = re.match(r"^([^=!]+)(==|=|!=)(.*)\Z", part)
        if match is None:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        path = match.group(1).strip()
        head, _, rest = path.partition(".")
        if resource.group == "events.k8s.io" and head in _EVENTS_V1_NAMES:
            path = f"{_EVENTS_V1_NAMES[head]}.{rest}" if rest else _EVENTS_V1_NAMES[head]
        if path not in _META_FIELDS and path not in _FIELDS.get(resource.plural, ()):
            raise bad_request(_unknown_field(resource, path))
        terms.append((path, match.group(2) != "!=", match.group(3).strip()))
    return terms


def _unknown_field(resource: ResourceType, path: str) -> str:
    if resource.plural in _FIELDS:
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def field_matcher(resource: ResourceType, text: str) -> Matcher:
    """A predicate over objects for a field selector string."""
    terms = parse_fields(resource, text)
    return lambda obj: all((_field(obj, path) == value) is equal for path, equal, value in terms)


def _field(obj: Obj, path: str) -> str:
    if path == "source":
        return str((obj.get("source") or {}).get("component", ""))
    if path == "status.successful":
        return str((obj.get("status") or {}).get("succeeded", 0))
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
