"""Controller revisions: the templates a stateful or daemon set had, numbered. Deployments have replica sets instead."""

from __future__ import annotations

import copy
from typing import Any

from opsbus_sandbox.kube.factory import REVISION_LABEL, copied_annotations, owned_by, owner_reference, revision_name
from opsbus_sandbox.kube.names import template_hash
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

RESOURCE = "controllerrevisions"
HISTORY_LIMIT = 10


def new_revision(owner: Obj, template: Obj, number: int) -> Obj:
    """The revision of a set for one pod template. The template may differ from the set's own."""
    meta, digest = owner["metadata"], template_hash(template)
    label = revision_name({**owner, "spec": {**owner["spec"], "template": template}})
    labels = {**(template.get("metadata", {}).get("labels") or {}), REVISION_LABEL: label}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": copied_annotations(owner),
            "ownerReferences": [owner_reference(owner)],
        },
        "data": {"spec": {"template": {**copy.deepcopy(template), "$patch": "replace"}}},
        "revision": number,
    }


def keep_revision(store: ObjectStore, owner: Obj) -> None:
    """The owner's template is its newest revision: made, or found again and renumbered after a rollback."""
    meta = owner["metadata"]
    owned = owned_by(store.list(RESOURCE, meta["namespace"]), owner)
    wanted = new_revision(owner, owner["spec"]["template"], 0)
    newest = next((item for item in owned if item["metadata"]["name"] == wanted["metadata"]["name"]), None)
    latest = max((item["revision"] for item in owned if item is not newest), default=0)
    if newest is None:
        store.create(RESOURCE, {**wanted, "revision": latest + 1})
    elif newest["revision"] <= latest:
        renumbered = copy.deepcopy(newest)
        renumbered["revision"] = latest + 1
        store.update(RESOURCE, renumbered)
    old = sorted((item for item in owned if item is not newest), key=lambda item: int(item["revision"]))
    limit = owner["spec"].get("revisionHistoryLimit", HISTORY_LIMIT)
    for item in old[: max(0, len(old) - limit)]:
        store.delete(RESOURCE, meta["namespace"], item["metadata"]["name"])
