"""The events of the last hour: what `kubectl get events` shows of the trouble when one arrives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.estate.trouble import NEW_IMAGE, RESTARTS, ROLLED_OUT
from opsbus_sandbox.kube.podstatus import condition
from opsbus_sandbox.kube.recorder import Recorder
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def tell_history(store: ObjectStore, now: datetime) -> None:
    """Record the events that led to the present."""
    recorder = Recorder(store)
    pods = store.list("pods", "shop")
    checkout = [pod for pod in pods if pod["metadata"]["labels"].get("app") == "checkout"]
    crashing = [pod for pod in checkout if pod["spec"]["containers"][0]["image"] == NEW_IMAGE]
    _tell_rollout(store, recorder, crashing, now)
    for pod in crashing:
        _tell_crashes(recorder, pod, now)
        _tell_oom(store, recorder, pod, now)
    for index, pod in enumerate(pod for pod in checkout if pod not in crashing):
        _tell_slow_probes(recorder, pod, index, now)
    for pod in pods:
        if not pod["spec"].get("nodeName"):
            why = (condition(pod, "PodScheduled") or {})["message"]
            recorder.record(
                pod, "Warning", "FailedScheduling", why, "default-scheduler", first=now - timedelta(minutes=64),
                last=now - timedelta(seconds=40), count=65,
            )  # fmt: skip
    scaler = store.get("horizontalpodautoscalers", "shop", "checkout")
    if scaler is not None:
        told = "New size: 6; reason: cpu resource utilization (percentage of request) above target"
        _once(recorder, scaler, "SuccessfulRescale", told, "horizontal-pod-autoscaler", now - timedelta(minutes=17))


def _once(recorder: Recorder, about: Obj, reason: str, message: str, component: str, when: datetime) -> None:
    recorder.record(about, "Normal", reason, message, component, first=when, last=when)


def _tell_rollout(store: ObjectStore, recorder: Recorder, crashing: list[Obj], now: datetime) -> None:
    deployment = store.get("deployments", "shop", "checkout")
    if deployment is None or not crashing:
        return
    since = now - ROLLED_OUT
    newest = crashing[0]["metadata"]["ownerReferences"][0]["name"]
    old = next(
        rs["metadata"]["name"]
        for rs in store.list("replicasets", "shop")
        if rs["metadata"]["labels"].get("app") == "checkout"
        and rs["spec"]["replicas"]
        and rs["metadata"]["name"] != newest
    )
    steps = (("up", newest, 0, 1), ("down", old, 6, 5), ("up", newest, 1, 2))
    for index, (direction, name, before, after) in enumerate(steps):
        message = f"Scaled {direction} replica set {name} from {before} to {after}"
        moment = since + timedelta(seconds=index)
        _once(recorder, deployment, "ScalingReplicaSet", message, "deployment-controller", moment)


def _tell_crashes(recorder: Recorder, pod: Obj, now: datetime) -> None:
    meta, node = pod["metadata"], pod["spec"]["nodeName"]
    since = now - ROLLED_OUT + timedelta(seconds=2)
    _once(
        recorder, pod, "Scheduled", f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}",
        "default-scheduler", since,
    )  # fmt: skip
    where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
    repeated = (
        ("Normal", "Pulled", f'Container image "{NEW_IMAGE}" already present on machine', RESTARTS - 1, 250),
        ("Normal", "Created", "Created container: checkout", RESTARTS, 250),
        ("Normal", "Started", "Started container checkout", RESTARTS, 250),
        ("Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", 31, 60),
        ("Warning", "BackOff", f"Back-off restarting failed container checkout in pod {where}", 74, 12),
    )
    for kind, reason, message, count, ago in repeated:
        recorder.record(
            pod, kind, reason, message, "kubelet", host=node, container="checkout", first=since,
            last=now - timedelta(seconds=ago), count=count,
        )  # fmt: skip


def _tell_oom(store: ObjectStore, recorder: Recorder, pod: Obj, now: datetime) -> None:
    node = store.get("nodes", "", pod["spec"]["nodeName"])
    if node is None:
        return
    process = 20_000 + store.random.randint(0, 9_999)
    message = f"System OOM encountered, victim process: checkout, pid: {process}"
    recorder.record(
        node, "Warning", "SystemOOM", message, "kubelet", host=node["metadata"]["name"],
        first=now - timedelta(minutes=19), last=now - timedelta(seconds=52), count=RESTARTS,
    )  # fmt: skip


def _tell_slow_probes(recorder: Recorder, pod: Obj, index: int, now: datetime) -> None:
    """Five pods carry the load of six, and now and then one is too slow to say that it is well."""
    address = f"http://{pod['status']['podIP']}:8080/readyz"
    message = (
        f'Readiness probe failed: Get "{address}": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)"
    )
    recorder.record(
        pod, "Warning", "Unhealthy", message, "kubelet", host=pod["spec"]["nodeName"], container="checkout",
        first=now - timedelta(minutes=16 - index), last=now - timedelta(minutes=1, seconds=20 * index),
        count=4 + 3 * index,
    )  # fmt: skip
