"""Strategic merge patch: a merge patch in which known lists are merged by key and directives are obeyed."""

from __future__ import annotations

import copy
from typing import Any

from opsbus_sandbox.kube.errors import bad_request

Obj = dict[str, Any]

# Field name -> merge key; "" marks lists of plain values that merge as sets. Every other list is replaced whole.
_MERGE_KEYS: dict[str, str] = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "finalizers": "",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podCIDRs": "",
    "podIPs": "ip",
    "ports": "containerPort",
    "resourceClaims": "name",
    "secrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_ORDER, _DELETE_PLAIN, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def strategic_merge(resource: str, original: Obj, patch: Obj) -> Obj:
    """The object with the patch applied. Raises ApiError 400 for a directive or element that makes no sense."""
    keys = {**_MERGE_KEYS, "ports": "port"} if resource == "services" else _MERGE_KEYS
    return _merge_map(copy.deepcopy(original), patch, keys)


def _merge_map(original: Obj, patch: Obj, keys: dict[str, str]) -> Obj:
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: _clean(value) for name, value in patch.items() if value is not None and name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type: {directive}")
    if _RETAIN in patch:
        kept = set(patch[_RETAIN])
        original = {name: value for name, value in original.items() if name in kept}
    for name, value in patch.items():
        if name in ("$patch", _RETAIN) or name.startswith((_ORDER, _DELETE_PLAIN)):
            continue
        if value is None:
            original.pop(name, None)
        elif isinstance(value, dict):
            before = original.get(name)
            original[name] = _merge_map(before if isinstance(before, dict) else {}, value, keys)
        elif isinstance(value, list) and name in keys:
            original[name] = _merge_list(name, original.get(name) or [], value, keys)
        else:
            original[name] = copy.deepcopy(value)
    _delete_plain(original, patch)
    _set_order(original, patch, keys)
    return original


def _merge_list(name: str, original: list[Any], patch: list[Any], keys: dict[str, str]) -> list[Any]:
    key = keys[name]
    if not key:
        return original + [value for value in patch if value not in original]
    entries = [_entry(item) for item in patch]
    if any(item.get("$patch") == "replace" and key not in item for item in entries):
        return [_clean(item) for item in entries if item.get("$patch") != "replace"]
    merged = list(original)
    for item in entries:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, old in enumerate(merged) if isinstance(old, dict) and old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del merged[index]
        elif index is None:
            merged.append(_merge_map({}, item, keys))
        else:
            merged[index] = _merge_map(merged[index], item, keys)
    return merged


def _entry(item: Any) -> Obj:
    if not isinstance(item, dict):
        raise bad_request(f"expected an object in a list that is merged by key, found {item!r}")
    return item


def _clean(value: Any) -> Any:
    """What is left of a patch that replaces: no directives, no nulls."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if v is not None and not k.startswith("$")}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _delete_plain(original: Obj, patch: Obj) -> None:
    for directive, values in patch.items():
        if directive.startswith(_DELETE_PLAIN):
            name = directive[len(_DELETE_PLAIN) :]
            original[name] = [value for value in original.get(name) or [] if value not in values]


def _set_order(original: Obj, patch: Obj, keys: dict[str, str]) -> None:
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        name = directive[len(_ORDER) :]
        items = original.get(name)
        key = keys.get(name, "")
        if not isinstance(items, list) or not isinstance(order, list):
            continue
        wanted = [entry.get(key) if isinstance(entry, dict) else entry for entry in order]
        found = {id(item): (item.get(key) if isinstance(item, dict) else item) for item in items}
        # Elements the order does not name keep their relative places after those it names.
        original[name] = sorted(
            items, key=lambda item: wanted.index(found[id(item)]) if found[id(item)] in wanted else len(wanted)
        )
