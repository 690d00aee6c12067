"""From a row of `apps` to objects: the template, the workload, its service, config, secret and budget."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.estate.apps import App
from opsbus_sandbox.kube.objects.defaults import apply_defaults
from opsbus_sandbox.kube.resources import BY_PLURAL
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

PLURAL = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


def new_object(resource: str, namespace: str, name: str, **parts: Any) -> Obj:
    """An object's frame: its type, its name and whatever parts are given; `metadata` is merged."""
    kind = BY_PLURAL[resource]
    meta: Obj = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    meta |= parts.pop("metadata", {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **parts}


def put(store: ObjectStore, resource: str, obj: Obj) -> Obj:
    """Store an object with its defaults, as the API would."""
    store.stamp(resource, obj)
    apply_defaults(resource, obj)
    return store.create(resource, obj)


def labels_of(app: App) -> dict[str, str]:
    """The labels every object of an app carries."""
    return {
        "app": app.name,
        "app.kubernetes.io/name": app.name,
        "app.kubernetes.io/part-of": "shop" if app.namespace.startswith(("shop", "payments")) else "platform",
        "team": app.team,
        "tier": app.tier,
        "environment": app.environment,
    }


def owner_annotations(app: App) -> dict[str, str]:
    """Who to call, and where it is written what to do."""
    return {
        "owner": f"{app.team}@shop.example",
        "opsbus.dev/runbook": f"https://runbooks.shop.example/{app.name}",
        "opsbus.dev/repository": f"https://git.shop.example/{app.team}/{app.name}",
    }


def pod_template(app: App) -> Obj:
    """The pod template of an app, without its defaults."""
    limits = {"cpu": _millis(app.cpu_limit), "memory": f"{app.memory_limit}Mi"}
    container: Obj = {
        "name": app.name,
        "image": app.image,
        "ports": [{"name": "http" if app.health else "main", "containerPort": app.port}],
        "env": _environment(app),
        "resources": {"requests": {"cpu": _millis(app.cpu), "memory": f"{app.memory}Mi"}, "limits": limits},
        **_probes(app),
    }
    if app.command:
        container["command"] = list(app.command)
    if app.config:
        container["envFrom"] = [{"configMapRef": {"name": f"{app.name}-config"}}]
    spec: Obj = {"containers": [container], "serviceAccountName": "default"}
    if app.kind == "DaemonSet":
        spec["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
        spec["hostNetwork"] = True
    labels = {**labels_of(app), "app.kubernetes.io/version": app.version}
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(app.port)}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _environment(app: App) -> list[Obj]:
    env: list[Obj] = [{"name": "ENVIRONMENT", "value": app.environment}]
    env += [{"name": name, "value": value} for name, value in app.env]
    for need in app.needs:
        name = need.split(".")[0].upper().replace("-", "_")
        env.append({"name": f"{name}_URL", "value": f"http://{need}:8080"})
    if app.secret:
        reference = {"name": app.secret, "key": "password"}
        env.append({"name": f"{app.name.upper().replace('-', '_')}_PASSWORD", "valueFrom": {"secretKeyRef": reference}})
    if app.name == "checkout":
        # A credential in plain sight, as they are found in real clusters: masking has something to do.
        env.append({"name": "FRAUD_API_TOKEN", "value": "frd_live_4eC39HqLyjWDarjtT1zdp7dc"})
    return env


def _probes(app: App) -> Obj:
    if not app.health:
        return {"readinessProbe": {"tcpSocket": {"port": app.port}, "periodSeconds": 5}}
    check = {"path": app.health, "port": app.port}
    return {
        "readinessProbe": {"httpGet": {**check, "path": "/readyz" if app.health == "/healthz" else app.health}},
        "livenessProbe": {"httpGet": check, "initialDelaySeconds": 10, "periodSeconds": 15},
    }


def workload(app: App, now: datetime) -> Obj:
    """The Deployment, StatefulSet or DaemonSet of an app."""
    spec: Obj = {"selector": {"matchLabels": {"app": app.name}}, "template": pod_template(app)}
    if app.kind != "DaemonSet":
        spec["replicas"] = app.replicas
    if app.kind == "StatefulSet":
        spec["serviceName"] = app.name
    if app.kind == "Deployment":
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    meta = {
        "labels": {**labels_of(app), "app.kubernetes.io/version": app.version},
        "annotations": owner_annotations(app),
        "creationTimestamp": timestamp(now - timedelta(hours=app.age_hours)),
    }
    return new_object(PLURAL[app.kind], app.namespace, app.name, metadata=meta, spec=spec)


def create_companions(store: ObjectStore, app: App, now: datetime) -> None:
    """The objects around a workload: service, config map, secret, disruption budget."""
    meta = {"labels": labels_of(app), "creationTimestamp": timestamp(now - timedelta(hours=app.age_hours))}

    def add(resource: str, name: str, **parts: Any) -> None:
        put(store, resource, new_object(resource, app.namespace, name, metadata=dict(meta), **parts))

    ports = [{"name": "http" if app.health else "main", "port": app.port, "targetPort": app.port}]
    spec: Obj = {"selector": {"app": app.name}, "ports": ports, "clusterIP": _cluster_ip(app)}
    if app.kind != "Deployment":
        spec["clusterIP"] = "None"
    spec["clusterIPs"] = [spec["clusterIP"]]
    add("services", app.name, spec=spec)
    if app.config:
        add("configmaps", f"{app.name}-config", data={"LOG_LEVEL": "info", "REGION": "lab", "TIMEOUT_MS": "2500"})
    if app.secret and store.get("secrets", app.namespace, app.secret) is None:
        add("secrets", app.secret, type="Opaque", data=_secret_data(app))
    if app.budget_min is not None:
        budget = {"minAvailable": app.budget_min, "selector": {"matchLabels": {"app": app.name}}}
        add("poddisruptionbudgets", app.name, spec=budget)


def _secret_data(app: App) -> dict[str, str]:
    password = hashlib.sha256(f"{app.namespace}/{app.secret}".encode()).hexdigest()[:20]
    values = {"username": app.name.replace("-", "_"), "password": password}
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def _cluster_ip(app: App) -> str:
    number = int(hashlib.sha256(f"{app.namespace}/{app.name}".encode()).hexdigest()[:4], 16)
    return f"10.96.{number >> 8}.{number & 255 or 1}"


def _millis(amount: int) -> str:
    return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
