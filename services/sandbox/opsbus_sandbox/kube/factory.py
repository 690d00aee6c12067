"""Objects that controllers make from other objects: a replica set of a deployment, a pod of a template."""

from __future__ import annotations

import copy
from typing import Any

from opsbus_sandbox.kube.names import template_hash
from opsbus_sandbox.kube.objects.pod_defaults import default_pod
from opsbus_sandbox.kube.rollout import bounds_of

Obj = dict[str, Any]

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
REVISION_LABEL = "controller-revision-hash"
# Annotations of a deployment that describe it and not its revisions.
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MAX_REPLICAS}


def owner_reference(owner: Obj) -> Obj:
    """A controller reference to `owner`."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Obj) -> Obj | None:
    """The reference to the controller that owns the object, or None."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def owned_by(objects: list[Obj], owner: Obj) -> list[Obj]:
    """Those of `objects` whose controller is `owner`."""
    uid = owner["metadata"]["uid"]
    return [obj for obj in objects if (reference := controller_of(obj)) and reference["uid"] == uid]


def copied_annotations(deployment: Obj) -> dict[str, str]:
    """The annotations a deployment passes to its replica sets."""
    annotations = deployment["metadata"].get("annotations") or {}
    return {name: value for name, value in annotations.items() if name not in _NOT_COPIED}


def sizing(deployment: Obj) -> dict[str, str]:
    """The annotations by which a replica set remembers the deployment it was sized for."""
    replicas = deployment["spec"]["replicas"]
    return {DESIRED: str(replicas), MAX_REPLICAS: str(replicas + bounds_of(deployment).surge)}


def new_replicaset(deployment: Obj, template: Obj, *, replicas: int, revision: int) -> Obj:
    """A replica set of a deployment for one pod template. The template may differ from the deployment's own."""
    digest = template_hash(template)
    template = copy.deepcopy(template)
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = digest
    selector = copy.deepcopy(deployment["spec"]["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
    spec: Obj = {"replicas": replicas, "selector": selector, "template": template}
    if seconds := deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = seconds
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{digest}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {**copied_annotations(deployment), **sizing(deployment), REVISION: str(revision)},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": spec,
        "status": {"replicas": 0},
    }


def revision_name(owner: Obj) -> str:
    """What the revision label of an up-to-date pod of a stateful or daemon set says."""
    digest = template_hash(owner["spec"]["template"])
    return digest if owner["kind"] == "DaemonSet" else f"{owner['metadata']['name']}-{digest}"


def pod_from_template(owner: Obj, template: Obj, name: str) -> Obj:
    """A pod, with its defaults, that `owner` controls."""
    template = copy.deepcopy(template)
    meta: Obj = {"name": name, "namespace": owner["metadata"]["namespace"]}
    for field in ("labels", "annotations"):
        if value := template.get("metadata", {}).get(field):
            meta[field] = value
    meta["ownerReferences"] = [owner_reference(owner)]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"], "status": {}}
    default_pod(pod)
    return pod
