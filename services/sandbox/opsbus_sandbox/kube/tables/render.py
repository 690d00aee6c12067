"""Objects and lists in the forms a client may ask for: Table and PartialObjectMetadata."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.negotiate import Form
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.tables import others, pods, workloads
from opsbus_sandbox.kube.tables.cells import AGE, NAME, Column

Obj = dict[str, Any]

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": pods.COLUMNS,
    "deployments": workloads.DEPLOYMENTS,
    "replicasets": workloads.REPLICASETS,
    "controllerrevisions": workloads.REVISIONS,
    "statefulsets": workloads.STATEFULSETS,
    "daemonsets": workloads.DAEMONSETS,
    "jobs": workloads.JOBS,
    "cronjobs": workloads.CRONJOBS,
    "horizontalpodautoscalers": workloads.AUTOSCALERS,
    "poddisruptionbudgets": workloads.BUDGETS,
    "nodes": others.NODES,
    "events": others.EVENTS,
    "services": others.SERVICES,
    **others.OTHERS,
}
_GENERIC = (NAME, AGE)


def in_form(form: Form, kind: ResourceType, body: Obj, include: str = "Metadata") -> Obj:
    """An object or a list, as the client wants it. Statuses are never changed."""
    if not form.shape or body.get("kind") == "Status":
        return body
    is_list = "items" in body
    if form.shape == "Table":
        return _table(form, kind, body["items"] if is_list else [body], body["metadata"] if is_list else {}, include)
    if is_list:
        items = [_partial(form, item) for item in body["items"]]
        return _typed(form, "PartialObjectMetadataList") | {"metadata": body["metadata"], "items": items}
    return _partial(form, body)


def event_in_form(form: Form, kind: ResourceType, event: Obj, include: str = "Metadata") -> Obj:
    """A watch event whose object is in the form the client wants."""
    if not form.shape or event["type"] in ("ERROR",):
        return event
    if event["type"] == "BOOKMARK" and form.shape == "Table":
        meta = event["object"]["metadata"]
        return {**event, "object": _table(form, kind, [], {"resourceVersion": meta["resourceVersion"]}, include)}
    return {**event, "object": in_form(form, kind, event["object"], include)}


def _typed(form: Form, kind: str) -> Obj:
    return {"kind": kind, "apiVersion": f"meta.k8s.io/{form.version}"}


def _partial(form: Form, obj: Obj) -> Obj:
    return _typed(form, "PartialObjectMetadata") | {"metadata": obj["metadata"]}


def _table(form: Form, kind: ResourceType, items: list[Obj], meta: Obj, include: str) -> Obj:
    columns = _COLUMNS.get(kind.plural, _GENERIC)
    if not meta and len(items) == 1:
        meta = {"resourceVersion": items[0]["metadata"].get("resourceVersion", "")}
    return _typed(form, "Table") | {
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if column is NAME else "",
                "description": column.name,
                "priority": column.priority,
            }
            for column in columns
        ],
        "rows": [
            {"cells": [column.cell(item) for column in columns], "object": _row_object(form, kind, item, include)}
            for item in items
        ],
    }


def _row_object(form: Form, kind: ResourceType, item: Obj, include: str) -> Obj | None:
    if include == "None":
        return None
    if include == "Object":
        return {"kind": kind.kind, "apiVersion": kind.api_version, **item}
    return _partial(form, item)
