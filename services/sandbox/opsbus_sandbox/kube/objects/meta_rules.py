"""Rules of `metadata` and of the names and labels in it."""

from __future__ import annotations

import re
from typing import Any

from opsbus_sandbox.kube.errors import Cause, forbidden_field, invalid_value, required
from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]

_LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL = re.compile(rf"^{_LABEL_FORM}\Z")
_SUBDOMAIN = re.compile(rf"^{_LABEL_FORM}(\.{_LABEL_FORM})*\Z")
_DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_MAX_ANNOTATIONS = 256 * 1024

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_NAME_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def check_meta(kind: ResourceType, obj: Obj) -> list[Cause]:
    """What is wrong with an object's metadata."""
    meta = obj["metadata"]
    causes = _check_name(kind, str(meta.get("name") or ""))
    causes += check_labels("metadata.labels", meta.get("labels"))
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if text := _key_problem(key.lower()):
            causes.append(invalid_value("metadata.annotations", key, text))
    if sum(len(str(k)) + len(str(v)) for k, v in annotations.items()) > _MAX_ANNOTATIONS:
        text = f"Too long: may not be more than {_MAX_ANNOTATIONS} bytes"
        causes.append(Cause("metadata.annotations", "FieldValueTooLong", text))
    return causes


def _check_name(kind: ResourceType, name: str) -> list[Cause]:
    field = "metadata.name"
    if not name:
        return [required(field, "name or generateName is required")]
    if kind.group == "rbac.authorization.k8s.io":
        if name in (".", "..") or "/" in name or "%" in name:
            return [invalid_value(field, name, "may not contain '/' or '%', and may not be '.' or '..'")]
        return []
    if kind.plural == "services":
        return [] if _DNS_1035.match(name) and len(name) <= 63 else [invalid_value(field, name, _DNS_1035_TEXT)]
    if kind.plural == "namespaces":
        return check_label_name(field, name)
    if len(name) > 253:
        return [invalid_value(field, name, "must be no more than 253 characters")]
    return [] if _SUBDOMAIN.match(name) else [invalid_value(field, name, SUBDOMAIN_TEXT)]


def check_label_name(field: str, name: str) -> list[Cause]:
    """RFC 1123 label, at most 63 characters."""
    if len(name) > 63:
        return [invalid_value(field, name, "must be no more than 63 characters")]
    return [] if _LABEL.match(name) else [invalid_value(field, name, LABEL_TEXT)]


def check_labels(field: str, labels: Any) -> list[Cause]:
    """Label keys and values."""
    causes: list[Cause] = []
    for key, value in (labels or {}).items():
        if text := _key_problem(key):
            causes.append(invalid_value(field, key, text))
        if len(str(value)) > 63:
            causes.append(invalid_value(field, value, "must be no more than 63 characters"))
        elif not _VALUE.match(str(value)):
            causes.append(invalid_value(field, value, _VALUE_TEXT))
    return causes


def _key_problem(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or not _SUBDOMAIN.match(prefix)):
        return f"prefix part {SUBDOMAIN_TEXT}"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if _QUALIFIED.match(name) else _NAME_TEXT


def check_meta_update(old: Obj, new: Obj) -> list[Cause]:
    """What may not change in metadata."""
    before, after = old["metadata"], new["metadata"]
    causes = [
        invalid_value(f"metadata.{field}", after[field], "field is immutable")
        for field in ("name", "namespace", "uid", "creationTimestamp")
        if after.get(field) not in (None, before.get(field))
    ]
    if before.get("deletionTimestamp"):
        added = [f for f in after.get("finalizers") or [] if f not in (before.get("finalizers") or [])]
        if added:
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            causes.append(forbidden_field("metadata.finalizers", text))
    return causes
