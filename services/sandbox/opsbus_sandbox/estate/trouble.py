"""The trouble in the shop: checkout's rollout of v2.4.1, and a recommendations pod for which no node has room."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.estate.apps import REGISTRY
from opsbus_sandbox.estate.running import create_replica
from opsbus_sandbox.estate.workloads import new_object, put
from opsbus_sandbox.kube.factory import REVISION, new_replicaset, pod_from_template
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.podstatus import container_id, container_status, image_id, set_condition
from opsbus_sandbox.kube.scheduling import choose_node
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

NEW_IMAGE = f"{REGISTRY}/checkout:v2.4.1"
NEW_REVISION = 14
ROLLED_OUT = timedelta(minutes=20)
CHANGE_CAUSE = "release checkout v2.4.1: lower memory limit to 256Mi (SHOP-1482)"
CRASHING_PODS = 2
RESTARTS = 8


def roll_out_checkout(store: ObjectStore, now: datetime) -> None:
    """Turn the healthy checkout into one whose rollout to v2.4.1 has been stuck for twenty minutes.

    The limit went from 512Mi to 256Mi, the new code keeps whole carts in memory, so the two new pods are killed
    again and again. The rollout waits for them, and five pods of v2.4.0 carry the traffic of six.
    """
    since = now - ROLLED_OUT
    healthy = _get(store, "deployments", "checkout")
    old = next(rs for rs in _replicasets(store, healthy) if rs["spec"]["replicas"])
    deployment = copy.deepcopy(healthy)
    _release(deployment)
    deployment = store.update("deployments", deployment)
    retire = [pod for pod in store.list("pods", "shop") if _owner(pod) == old["metadata"]["uid"]][-1]
    store.delete("pods", "shop", retire["metadata"]["name"])
    shrunk = copy.deepcopy(old)
    shrunk["spec"]["replicas"] = 5
    store.update("replicasets", shrunk)
    template = deployment["spec"]["template"]
    newest = new_replicaset(deployment, template, replicas=CRASHING_PODS, revision=NEW_REVISION)
    newest["metadata"]["creationTimestamp"] = timestamp(since)
    newest = store.create("replicasets", newest)
    for index in range(CRASHING_PODS):
        pod = create_replica(store, newest, since + timedelta(seconds=3 + index))
        _crash(store, pod, now - timedelta(seconds=95 + 70 * index), now - timedelta(seconds=52 + 70 * index))
    _stall(store, deployment, newest, since)


def _release(deployment: Obj) -> None:
    meta, template = deployment["metadata"], deployment["spec"]["template"]
    meta["annotations"] |= {
        REVISION: str(NEW_REVISION),
        "kubernetes.io/change-cause": CHANGE_CAUSE,
        "opsbus.dev/deployed-by": "ci-release-bot",
    }
    for labels in (meta["labels"], template["metadata"]["labels"]):
        labels["app.kubernetes.io/version"] = "v2.4.1"
    container = template["spec"]["containers"][0]
    container["image"] = NEW_IMAGE
    container["resources"]["limits"]["memory"] = "256Mi"
    container["resources"]["requests"]["memory"] = "192Mi"
    for variable in container["env"]:
        if variable["name"] == "CART_SNAPSHOT":
            variable["value"] = "inline"


def _crash(store: ObjectStore, pod: Obj, started: datetime, killed: datetime) -> None:
    """The pod's container was killed for its memory, for the eighth time, and waits to be started again."""
    pod = copy.deepcopy(pod)
    container, status = pod["spec"]["containers"][0], pod["status"]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    message = (
        f"back-off 5m0s restarting failed container={container['name']} "
        f"pod={name}_{namespace}({pod['metadata']['uid']})"
    )
    entry = container_status(container, {"waiting": {"reason": "CrashLoopBackOff", "message": message}})
    run = container_id(pod, container["name"], RESTARTS - 1)
    entry |= {"restartCount": RESTARTS, "imageID": image_id(container["image"]), "containerID": run, "started": False}
    entry["lastState"] = {
        "terminated": {
            "exitCode": 137,
            "reason": "OOMKilled",
            "startedAt": timestamp(started),
            "finishedAt": timestamp(killed),
            "containerID": run,
        }
    }
    status["containerStatuses"] = [entry]
    unready = f"containers with unready status: [{container['name']}]"
    set_condition(status, "Ready", "False", killed, "ContainersNotReady", unready)
    set_condition(status, "ContainersReady", "False", killed, "ContainersNotReady", unready)
    store.update("pods", pod)


def _stall(store: ObjectStore, deployment: Obj, newest: Obj, since: datetime) -> None:
    obj = copy.deepcopy(deployment)
    obj["status"] |= {
        "observedGeneration": obj["metadata"]["generation"],
        "replicas": 7,
        "updatedReplicas": CRASHING_PODS,
        "readyReplicas": 5,
        "availableReplicas": 5,
        "unavailableReplicas": CRASHING_PODS,
    }
    given_up = since + timedelta(seconds=obj["spec"]["progressDeadlineSeconds"])
    for entry in obj["status"]["conditions"]:
        if entry["type"] == "Progressing":
            entry |= {
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": f'ReplicaSet "{newest["metadata"]["name"]}" has timed out progressing.',
                "lastTransitionTime": timestamp(given_up),
                "lastUpdateTime": timestamp(given_up),
            }
    store.update("deployments", obj)


def starve_recommendations(store: ObjectStore, now: datetime) -> None:
    """A third recommendations pod was asked for an hour ago, and no worker has 1200m of CPU left."""
    deployment = copy.deepcopy(_get(store, "deployments", "recommendations"))
    replicaset = copy.deepcopy(next(rs for rs in _replicasets(store, deployment) if rs["spec"]["replicas"]))
    asked = now - timedelta(minutes=64)
    deployment["spec"]["replicas"] = replicaset["spec"]["replicas"] = 3
    store.update("deployments", deployment)
    replicaset = store.update("replicasets", replicaset)
    name = f"{replicaset['metadata']['name']}-{random_suffix(store.random)}"
    pod = pod_from_template(replicaset, replicaset["spec"]["template"], name)
    node, why = choose_node(pod, store.list("nodes"), store.list("pods"))
    if node is not None:
        raise RuntimeError(f"the story needs a full cluster, but {name} fits on {node}")
    pod["metadata"]["creationTimestamp"] = timestamp(asked)
    set_condition(pod["status"], "PodScheduled", "False", asked, "Unschedulable", why)
    store.create("pods", pod)


def create_autoscaler(store: ObjectStore, now: datetime) -> None:
    """The autoscaler of checkout, which wants more than it may have."""
    since = timestamp(now - timedelta(minutes=17))
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    scale_target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}
    spec = {
        "scaleTargetRef": scale_target, "minReplicas": 3, "maxReplicas": 6,
        "metrics": [{"type": "Resource", "resource": resource}],
    }  # fmt: skip
    told = (
        ("AbleToScale", "ReadyForNewScale", "recommended size matches current size"),
        (
            "ScalingActive", "ValidMetricFound",
            "the HPA was able to successfully calculate a replica count from cpu resource utilization "
            "(percentage of request)",
        ),
        (
            "ScalingLimited", "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
    )  # fmt: skip
    status = {
        "observedGeneration": 1, "currentReplicas": 6, "desiredReplicas": 6, "lastScaleTime": since,
        "currentMetrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": 93, "averageValue": "186m"}},
            }
        ],
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
            for kind, reason, message in told
        ],
    }  # fmt: skip
    meta: Obj = {"labels": {"app": "checkout", "team": "checkout", "environment": "production"}}
    meta |= {"creationTimestamp": timestamp(now - timedelta(days=40))}
    obj = new_object("horizontalpodautoscalers", "shop", "checkout", metadata=meta, spec=spec, status=status)
    put(store, "horizontalpodautoscalers", obj)


def _get(store: ObjectStore, resource: str, name: str) -> Obj:
    found = store.get(resource, "shop", name)
    if found is None:
        raise RuntimeError(f"the story needs {resource}/{name} in shop")
    return found


def _replicasets(store: ObjectStore, deployment: Obj) -> list[Obj]:
    uid = deployment["metadata"]["uid"]
    return [rs for rs in store.list("replicasets", "shop") if _owner(rs) == uid]


def _owner(obj: Obj) -> str:
    return str(obj["metadata"]["ownerReferences"][0]["uid"])
