"""Discovery: which groups, versions and resources are served; group by group, or all in one answer."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.versions import AGGREGATED_V2_SINCE, Served

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


def api_groups(served: Served) -> Obj:
    """The body of /apis."""
    groups = [_group(name, versions) for name, versions in served.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(served: Served, name: str) -> Obj | None:
    """The body of /apis/<group>, or None."""
    versions = served.groups().get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> Obj:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def api_resources(served: Served, group: str, version: str) -> Obj | None:
    """The body of /api/v1 or /apis/<group>/<version>, or None."""
    kinds = served.of(group, version)
    if not kinds:
        return None
    resources = [entry for kind in kinds for entry in _entries(kind)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def aggregated(served: Served, accept: str, *, core: bool) -> tuple[Obj, str] | None:
    """All of /api or /apis in one answer, and its content type; None: the client does not ask for it."""
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        asked = dict(part.partition("=")[::2] for part in parameters)
        if name != "application/json":
            continue
        if asked.get("as") != "APIGroupDiscoveryList" or asked.get("g") != "apidiscovery.k8s.io":
            return None  # plain JSON is what the client likes better than what may follow
        version = str(asked.get("v"))
        if version == "v2beta1" or (version == "v2" and served.minor >= AGGREGATED_V2_SINCE):
            items = [
                _discovered_group(served, group, versions)
                for group, versions in served.groups().items()
                if (group == "") is core
            ]
            body = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {}}
            kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return body | {"items": items}, kind
    return None


def _discovered_group(served: Served, group: str, versions: list[str]) -> Obj:
    meta = {"creationTimestamp": None} | ({"name": group} if group else {})
    listed: list[Obj] = []
    for version in versions:
        resources = [_discovered(kind) for kind in served.of(group, version)]
        down = served.is_down(group, version)
        entry: Obj = {"version": version, "freshness": "Stale" if down else "Current"}
        listed.append(entry if down else entry | {"resources": resources})
    return {"metadata": meta, "versions": listed}


def _discovered(kind: ResourceType) -> Obj:
    plain, *below = _entries(kind)
    found: Obj = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": plain["verbs"],
    }
    for name in ("shortNames", "categories"):
        if name in plain:
            found[name] = plain[name]
    if below:
        found["subresources"] = [
            {
                "subresource": entry["name"].partition("/")[2],
                "responseKind": {
                    "group": entry.get("group", kind.group),
                    "version": entry.get("version", kind.version),
                    "kind": entry["kind"],
                },
                "verbs": entry["verbs"],
            }
            for entry in below
        ]
    return found


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
    if name == "finalize":
        return {**entry, "kind": kind.kind, "verbs": ["update"]}
    if name == "token":
        served = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        return {**entry, **served, "verbs": ["create"]}
    if name == "log":
        return {**entry, "kind": kind.kind, "verbs": ["get"]}
    return {**entry, "kind": kind.kind, "verbs": _STATUS_VERBS}
