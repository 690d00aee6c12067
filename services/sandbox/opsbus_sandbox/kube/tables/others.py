"""Tables of nodes, events, services and the rest."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.podstatus import condition
from opsbus_sandbox.kube.tables.cells import AGE, NAME, NONE, Column, age, dig, labels_text, listed

Obj = dict[str, Any]


def _node_status(node: Obj) -> str:
    entry = condition(node, "Ready")
    word = "Ready" if entry and entry["status"] == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if dig(node, "spec", "unschedulable", default=False) else word


def _node_roles(node: Obj) -> str:
    prefix = "node-role.kubernetes.io/"
    return listed(sorted(k[len(prefix) :] for k in node["metadata"].get("labels", {}) if k.startswith(prefix)))


def _node_ip(node: Obj) -> str:
    found = (a["address"] for a in dig(node, "status", "addresses", default=[]) if a["type"] == "InternalIP")
    return next(found, NONE)


def _info(name: str, key: str) -> Column:
    return Column(name, lambda node: dig(node, "status", "nodeInfo", key), priority=1)


NODES = (
    NAME,
    Column("Status", _node_status),
    Column("Roles", _node_roles),
    AGE,
    Column("Version", lambda node: dig(node, "status", "nodeInfo", "kubeletVersion")),
    Column("Internal-IP", _node_ip, priority=1),
    Column("External-IP", lambda _: NONE, priority=1),
    _info("OS-Image", "osImage"),
    _info("Kernel-Version", "kernelVersion"),
    _info("Container-Runtime", "containerRuntimeVersion"),
)


def _event_object(event: Obj) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _event_last(event: Obj) -> str:
    seen = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp") or event.get("eventTime")
    return age(seen or event["metadata"].get("creationTimestamp"))


def _event_source(event: Obj) -> str:
    source = event.get("source") or event.get("deprecatedSource") or {}
    return ", ".join(text for text in (source.get("component"), source.get("host")) if text)


EVENTS = (
    Column("Last Seen", _event_last),
    Column("Type", lambda event: event.get("type", "")),
    Column("Reason", lambda event: event.get("reason", "")),
    Column("Object", _event_object),
    Column("Subobject", lambda event: dig(event, "involvedObject", "fieldPath"), priority=1),
    Column("Source", _event_source, priority=1),
    Column("Message", lambda event: str(event.get("message") or event.get("note") or "").strip()),
    Column("First Seen", lambda event: age(event.get("firstTimestamp")), priority=1),
    Column("Count", lambda event: event.get("count") or event.get("deprecatedCount") or 1, "integer", 1),
    Column("Name", lambda event: event["metadata"]["name"], priority=1),
)


def _ports(service: Obj) -> str:
    ports = dig(service, "spec", "ports", default=[])
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or NONE


SERVICES = (
    NAME,
    Column("Type", lambda obj: dig(obj, "spec", "type")),
    Column("Cluster-IP", lambda obj: dig(obj, "spec", "clusterIP") or NONE),
    Column("External-IP", lambda _: NONE),
    Column("Port(s)", _ports),
    AGE,
    Column("Selector", lambda obj: labels_text(dig(obj, "spec", "selector", default={})), priority=1),
)


def _endpoints(obj: Obj) -> str:
    addresses = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for port in subset.get("ports") or []
        for address in subset.get("addresses") or []
    ]
    shown = ",".join(addresses[:3])
    return f"{shown} + {len(addresses) - 3} more..." if len(addresses) > 3 else shown or NONE


def _claim_size(obj: Obj) -> str:
    return str(dig(obj, "status", "capacity", "storage"))


def _hosts(obj: Obj) -> str:
    return ",".join(rule.get("host") or "*" for rule in dig(obj, "spec", "rules", default=[])) or "*"


def _quota(field: str) -> Column:
    def cell(obj: Obj) -> str:
        used, hard = dig(obj, "status", "used", default={}), dig(obj, "spec", "hard", default={})
        names = [name for name in sorted(hard) if name.startswith("limits.") is (field == "Limit")]
        return ", ".join(f"{name}: {used.get(name, 0)}/{hard[name]}" for name in names)

    return Column(field, cell)


def _count(name: str, *fields: str) -> Column:
    return Column(name, lambda obj: sum(len(obj.get(field) or {}) for field in fields), type="integer")


def _role(obj: Obj) -> str:
    return f"{dig(obj, 'roleRef', 'kind')}/{dig(obj, 'roleRef', 'name')}"


_CREATED = Column("Created At", lambda obj: obj["metadata"].get("creationTimestamp", ""))

OTHERS: dict[str, tuple[Column, ...]] = {
    "configmaps": (NAME, _count("Data", "data", "binaryData"), AGE),
    "endpoints": (NAME, Column("Endpoints", _endpoints), AGE),
    "ingresses": (
        NAME,
        Column("Class", lambda obj: dig(obj, "spec", "ingressClassName") or NONE),
        Column("Hosts", _hosts),
        Column("Address", lambda _: ""),
        Column("Ports", lambda obj: "80, 443" if dig(obj, "spec", "tls", default=[]) else "80"),
        AGE,
    ),
    "namespaces": (NAME, Column("Status", lambda obj: dig(obj, "status", "phase")), AGE),
    "persistentvolumeclaims": (
        NAME,
        Column("Status", lambda obj: dig(obj, "status", "phase")),
        Column("Volume", lambda obj: dig(obj, "spec", "volumeName")),
        Column("Capacity", _claim_size),
        Column("Access Modes", lambda obj: ",".join(dig(obj, "status", "accessModes", default=[]))),
        Column("StorageClass", lambda obj: dig(obj, "spec", "storageClassName")),
        AGE,
    ),
    "resourcequotas": (NAME, AGE, _quota("Request"), _quota("Limit")),
    "secrets": (NAME, Column("Type", lambda obj: obj.get("type", "")), _count("Data", "data"), AGE),
    "serviceaccounts": (NAME, _count("Secrets", "secrets"), AGE),
    "roles": (NAME, _CREATED),
    "clusterroles": (NAME, _CREATED),
    "rolebindings": (NAME, Column("Role", _role), AGE),
    "clusterrolebindings": (NAME, Column("Role", _role), AGE),
}
