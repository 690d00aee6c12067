"""The objects of the tests: small, fit for the strictest pod security standard, and put nowhere without need."""

import os
from typing import Any

from .lab import NODE_LABEL

Obj = dict[str, Any]

IMAGE = os.environ.get("OPSBUS_TEST_IMAGE") or "registry.k8s.io/pause:3.10"
"""Runs for ever, as any user. Where it cannot be pulled, the tests see that pods do not become ready."""
NO_SCHEDULER = "opsbus-test-nobody"
"""No scheduler has this name, so its pods stay pending in every cluster."""


def meta(name: str, **more: Any) -> Obj:
    """Name and labels."""
    labels = {"app": name, **more.pop("labels", {})}
    return {"name": name, "labels": labels, **more}


def pod_spec(release: str = "one", **more: Any) -> Obj:
    """One container that does nothing."""
    container = {
        "name": "main",
        "image": IMAGE,
        "env": [{"name": "RELEASE", "value": release}],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": security,
        "containers": [container],
        **more,
    }


def pod(name: str, **more: Any) -> Obj:
    """A pod that no scheduler takes."""
    labels = more.pop("labels", {})
    return {"metadata": meta(name, labels=labels), "spec": pod_spec(**{"schedulerName": NO_SCHEDULER} | more)}


def pod_on(node: str, name: str, **more: Any) -> Obj:
    """A pod on a node that no kubelet serves."""
    labels = {NODE_LABEL: "true", **more.pop("labels", {})}
    return pod(name, nodeName=node, labels=labels, **more)


def deployment(name: str, replicas: int, **more: Any) -> Obj:
    """A deployment; its pods are for whatever scheduler there is."""
    labels, selector = more.pop("labels", {}), {"app": name}
    template = {"metadata": {"labels": selector}, "spec": pod_spec()}
    spec = {"replicas": replicas, "selector": {"matchLabels": selector}, "template": template, **more}
    return {"metadata": meta(name, labels=labels), "spec": spec}


def node(name: str, **labels: str) -> Obj:
    """A node without a machine. The taint keeps others' pods away, should a scheduler look at it."""
    taint = {"key": "opsbus.dev/test-cluster", "effect": "NoSchedule"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": [taint]}}


def event(namespace: str, about: Obj, reason: str, message: str, **more: Any) -> Obj:
    """Something told of an object, just now."""
    told = {
        "metadata": {"name": f"{about['metadata']['name']}.{reason.lower()}"},
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": about["metadata"]["name"],
            "uid": about["metadata"]["uid"],
        },
        "reason": reason, "message": message, "type": "Warning", "count": 1, "source": {"component": "opsbus-test"},
    }  # fmt: skip
    return told | more
