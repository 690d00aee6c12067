"""Workloads that have been up for a while: replica sets and pods with the past they should have."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.estate.apps import App
from opsbus_sandbox.estate.workloads import PLURAL, create_companions, put, workload
from opsbus_sandbox.kube.addresses import addresses
from opsbus_sandbox.kube.factory import REVISION, REVISION_LABEL, new_replicaset, pod_from_template, revision_name
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.podstatus import running_status, set_condition
from opsbus_sandbox.kube.revisions import new_revision
from opsbus_sandbox.kube.scheduling import choose_node
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def create_app(store: ObjectStore, app: App, now: datetime) -> None:
    """An app that has been healthy since its last release, with everything that belongs to it."""
    create_companions(store, app, now)
    obj = workload(app, now)
    released = now - timedelta(hours=min(app.release_hours, app.age_hours))
    if app.kind == "Deployment":
        _create_deployment(store, app, obj, released)
        return
    obj.setdefault("metadata", {})["generation"] = 1
    owner = put(store, PLURAL[app.kind], obj)
    _create_revisions(store, app, owner, released)
    if app.kind == "StatefulSet":
        for index in range(app.replicas):
            pod = pod_from_template(owner, owner["spec"]["template"], f"{app.name}-{index}")
            pod["metadata"]["labels"][REVISION_LABEL] = revision_name(owner)
            pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = str(index)
            pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = f"{app.name}-{index}"
            pod["spec"]["hostname"] = f"{app.name}-{index}"
            place_running(store, pod, released + timedelta(seconds=7 * index))
        return
    for node in store.list("nodes"):
        pod = pod_from_template(owner, owner["spec"]["template"], f"{app.name}-{random_suffix(store.random)}")
        pod["metadata"]["labels"] |= {REVISION_LABEL: revision_name(owner), "pod-template-generation": "1"}
        place_running(store, pod, released, node=node["metadata"]["name"])


def _create_revisions(store: ObjectStore, app: App, owner: Obj, released: datetime) -> None:
    """What a set is now, and what it was before, if it was anything else."""
    template = owner["spec"]["template"]
    if app.previous_image:
        old = copy.deepcopy(template)
        old["spec"]["containers"][0]["image"] = app.previous_image
        previous = new_revision(owner, old, 1)
        previous["metadata"]["creationTimestamp"] = timestamp(released - timedelta(days=30))
        store.create("controllerrevisions", previous)
    newest = new_revision(owner, template, 2 if app.previous_image else 1)
    newest["metadata"]["creationTimestamp"] = timestamp(released)
    store.create("controllerrevisions", newest)


def _create_deployment(store: ObjectStore, app: App, obj: Obj, released: datetime) -> None:
    obj["metadata"]["annotations"][REVISION] = str(app.revision)
    obj["metadata"]["generation"] = app.revision
    obj["metadata"]["annotations"]["kubernetes.io/change-cause"] = f"release {app.name} {app.version}"
    deployment = put(store, "deployments", obj)
    if app.previous_image:
        old = copy.deepcopy(deployment["spec"]["template"])
        container = old["spec"]["containers"][0]
        container["image"] = app.previous_image
        old_version = app.previous_image.rsplit(":", 1)[-1]
        old["metadata"]["labels"]["app.kubernetes.io/version"] = old_version
        previous = new_replicaset(deployment, old, replicas=0, revision=max(app.revision - 1, 1))
        previous["metadata"]["annotations"]["kubernetes.io/change-cause"] = f"release {app.name} {old_version}"
        previous["metadata"]["creationTimestamp"] = timestamp(released - timedelta(days=9))
        store.create("replicasets", previous)
    replicaset = new_replicaset(
        deployment, deployment["spec"]["template"], replicas=app.replicas, revision=app.revision
    )
    replicaset["metadata"]["creationTimestamp"] = timestamp(released)
    replicaset = store.create("replicasets", replicaset)
    for index in range(app.replicas):
        create_replica(store, replicaset, released + timedelta(seconds=4 + 11 * index))
    seed_deployment_status(store, deployment, replicaset, app.replicas, released + timedelta(seconds=60))


def create_replica(store: ObjectStore, replicaset: Obj, started: datetime) -> Obj:
    """A running pod of a replica set."""
    name = f"{replicaset['metadata']['name']}-{random_suffix(store.random)}"
    return place_running(store, pod_from_template(replicaset, replicaset["spec"]["template"], name), started)


def place_running(store: ObjectStore, pod: Obj, started: datetime, *, node: str = "") -> Obj:
    """Store a pod that the scheduler placed and that has been running and ready since `started`."""
    chosen: str | None = node
    if not node:
        chosen, why = choose_node(pod, store.list("nodes"), store.list("pods"))
        if chosen is None:
            raise RuntimeError(f"the estate does not fit its nodes: {pod['metadata']['name']}: {why}")
    pod["spec"]["nodeName"] = chosen
    pod["metadata"]["creationTimestamp"] = timestamp(started - timedelta(seconds=3))
    store.stamp("pods", pod)
    status = pod["status"]
    begun, ready = started - timedelta(seconds=2), started + timedelta(seconds=6)
    set_condition(status, "PodReadyToStartContainers", "True", started)
    set_condition(status, "Initialized", "True", begun)
    set_condition(status, "Ready", "True", ready)
    set_condition(status, "ContainersReady", "True", ready)
    set_condition(status, "PodScheduled", "True", begun)
    status |= {"phase": "Running", "startTime": timestamp(begun), **addresses(store, pod)}
    status["containerStatuses"] = [
        running_status(pod, container, started, ready=True) for container in pod["spec"]["containers"]
    ]
    return store.create("pods", pod)


def seed_deployment_status(store: ObjectStore, deployment: Obj, newest: Obj, ready: int, since: datetime) -> None:
    """Conditions with their true age; the counts are the deployment controller's, which runs from the start."""
    obj = copy.deepcopy(deployment)
    progress = f'ReplicaSet "{newest["metadata"]["name"]}" has successfully progressed.'
    obj["status"] = {
        "observedGeneration": obj["metadata"]["generation"],
        "replicas": ready,
        "updatedReplicas": ready,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            _condition("Available", "MinimumReplicasAvailable", "Deployment has minimum availability.", since),
            _condition("Progressing", "NewReplicaSetAvailable", progress, since),
        ],
    }
    store.update("deployments", obj)


def _condition(kind: str, reason: str, message: str, since: datetime) -> Obj:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(since),
        "lastUpdateTime": timestamp(since),
    }
