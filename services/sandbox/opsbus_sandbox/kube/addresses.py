"""The addresses of pods: each node has a range, pods on the host's network share the node's own."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def addresses(store: ObjectStore, pod: Obj) -> Obj:
    """The address fields of a placed pod's status; empty when its node is unknown or has no address left."""
    node = store.get("nodes", "", pod["spec"]["nodeName"])
    if node is None:
        return {}
    hosts = [a["address"] for a in node.get("status", {}).get("addresses") or [] if a["type"] == "InternalIP"]
    host = hosts[0] if hosts else ""
    if pod["spec"].get("hostNetwork"):
        address = host
    else:
        prefix = node["spec"].get("podCIDR", "10.244.0.0/24").rsplit(".", 1)[0]
        taken = {other.get("status", {}).get("podIP") for other in store.list("pods")}
        free = (f"{prefix}.{number}" for number in range(2, 255))
        address = next((ip for ip in free if ip not in taken), "")
    if not address:
        return {}
    return {"hostIP": host, "hostIPs": [{"ip": host}], "podIP": address, "podIPs": [{"ip": address}]}
