"""Discovery: which groups, versions and resources are served."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.resources import SERVED, ResourceType, served_groups

Obj = dict[str, Any]

_STATUS_VERBS = ["get", "patch", "update"]


def version_info(git_version: str) -> Obj:
    """The body of /version."""
    major, minor = git_version.lstrip("v").split(".")[:2]
    return {
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "0" * 40, "gitTreeState": "clean",
        "buildDate": "2026-10-14T12:00:00Z", "goVersion": "go1.24.9", "compiler": "gc", "platform": "linux/amd64",
    }  # fmt: skip


def api_versions(address: str) -> Obj:
    """The body of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_groups() -> Obj:
    """The body of /apis."""
    groups = [_group(name) for name in served_groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(name: str) -> Obj | None:
    """The body of /apis/<group>, or None."""
    if not name or name not in served_groups():
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}


def _group(name: str) -> Obj:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in served_groups()[name]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def api_resources(group: str, version: str) -> Obj | None:
    """The body of /api/v1 or /apis/<group>/<version>, or None."""
    kinds = [kind for kind in SERVED.values() if (kind.group, kind.version) == (group, version)]
    if not kinds:
        return None
    resources = [entry for kind in sorted(kinds, key=lambda k: k.plural) for entry in _entries(kind)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _entries(kind: ResourceType) -> list[Obj]:
    entry: Obj = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": sorted(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.in_all:
        entry["categories"] = ["all"]
    return [entry, *(_subresource(kind, name) for name in kind.subresources)]


def _subresource(kind: ResourceType, name: str) -> Obj:
    entry: Obj = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
    if name == "scale":
        return {**entry, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": _STATUS_VERBS}
    if name == "eviction":
        return {**entry, "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
    if name == "log":
        return {**entry, "kind": kind.kind, "verbs": ["get"]}
    return {**entry, "kind": kind.kind, "verbs": _STATUS_VERBS}
