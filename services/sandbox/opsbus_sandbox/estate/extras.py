"""What else a lived-in cluster has: an ingress, a quota, a database volume, a nightly job."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.estate.apps import REGISTRY
from opsbus_sandbox.estate.workloads import new_object, put
from opsbus_sandbox.kube.factory import owner_reference, pod_from_template
from opsbus_sandbox.kube.podstatus import container_id, image_id, set_condition
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]


def create_extras(store: ObjectStore, now: datetime) -> None:
    """All of it."""
    _create_ingress(store)
    hard = {"pods": "60", "requests.cpu": "12", "requests.memory": "24Gi", "limits.memory": "40Gi"}
    put(store, "resourcequotas", new_object("resourcequotas", "shop", "shop-quota", spec={"hard": hard}))
    claim = {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "lab-ssd", "volumeName": "pvc-ledger-postgres-0",
        "resources": {"requests": {"storage": "20Gi"}},
    }  # fmt: skip
    bound = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "20Gi"}}
    resource = "persistentvolumeclaims"
    put(store, resource, new_object(resource, "payments", "data-ledger-postgres-0", spec=claim, status=bound))
    _create_nightly(store, now)


def _create_ingress(store: ObjectStore) -> None:
    backend = {"service": {"name": "frontend", "port": {"number": 8080}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec = {"ingressClassName": "nginx", "rules": [{"host": "www.shop.example", "http": {"paths": [path]}}]}
    put(store, "ingresses", new_object("ingresses", "shop", "frontend", spec=spec))


def _create_nightly(store: ObjectStore, now: datetime) -> None:
    """The search index is rebuilt every night; last night's run is still there to be looked at."""
    container = {
        "name": "reindex",
        "image": f"{REGISTRY}/tools/task:v1",
        "args": ["reindex", "--all"],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    labels = {"app": "nightly-reindex", "team": "catalog", "environment": "production"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "restartPolicy": "OnFailure"}}
    ran = now.replace(hour=2, minute=0, second=0, microsecond=0)
    ran = ran if ran < now - timedelta(minutes=5) else ran - timedelta(days=1)
    done = ran + timedelta(seconds=94)
    cron = put(
        store, "cronjobs",
        new_object(
            "cronjobs", "shop", "nightly-reindex", metadata={"labels": labels},
            spec={
                "schedule": "0 2 * * *", "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {"template": template}},
            },
            status={"lastScheduleTime": timestamp(ran), "lastSuccessfulTime": timestamp(done)},
        ),
    )  # fmt: skip
    meta = {"creationTimestamp": timestamp(ran), "labels": labels, "ownerReferences": [owner_reference(cron)]}
    complete = {
        "type": "Complete", "status": "True", "reason": "CompletionsReached",
        "message": "Reached expected number of succeeded pods", "lastProbeTime": timestamp(done),
        "lastTransitionTime": timestamp(done),
    }  # fmt: skip
    job = put(
        store, "jobs",
        new_object(
            "jobs", "shop", f"nightly-reindex-{int(ran.timestamp()) // 60}", metadata=meta, spec={"template": template},
            status={
                "startTime": timestamp(ran), "completionTime": timestamp(done), "succeeded": 1, "ready": 0,
                "conditions": [complete],
            },
        ),
    )  # fmt: skip
    _create_finished_pod(store, job, ran, done)


def _create_finished_pod(store: ObjectStore, job: Obj, ran: datetime, done: datetime) -> None:
    pod = pod_from_template(job, job["spec"]["template"], f"{job['metadata']['name']}-x7k2p")
    pod["metadata"]["creationTimestamp"] = timestamp(ran)
    store.stamp("pods", pod)
    pod["spec"]["nodeName"] = "lab-worker-2"
    container, status = pod["spec"]["containers"][0], pod["status"]
    run = container_id(pod, container["name"], 0)
    ended = {
        "exitCode": 0, "reason": "Completed", "startedAt": timestamp(ran + timedelta(seconds=3)),
        "finishedAt": timestamp(done), "containerID": run,
    }  # fmt: skip
    status |= {"phase": "Succeeded", "startTime": timestamp(ran), "hostIP": "10.0.0.13"}
    status["containerStatuses"] = [
        {
            "name": container["name"], "image": container["image"], "imageID": image_id(container["image"]),
            "containerID": run, "ready": False, "started": False, "restartCount": 0, "lastState": {},
            "state": {"terminated": ended},
        }
    ]  # fmt: skip
    set_condition(status, "PodScheduled", "True", ran)
    set_condition(status, "Initialized", "True", ran, "PodCompleted")
    for kind in ("Ready", "ContainersReady"):
        set_condition(status, kind, "False", done, "PodCompleted")
    store.create("pods", pod)
