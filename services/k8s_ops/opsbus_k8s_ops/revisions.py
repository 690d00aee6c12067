"""What a workload was, revision by revision, and what each changed in its template.

A deployment's revisions are its replica sets, those of stateful and daemon sets are controller revisions.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_k8s_ops.logtargets import selector_of
from opsbus_k8s_ops.models import optional
from opsbus_k8s_ops.objectmask import clean
from opsbus_k8s_ops.objects import annotations, images_of, meta, parse_time

REVISION = "deployment.kubernetes.io/revision"
CHANGE_CAUSE = "kubernetes.io/change-cause"
CHANGES_MAX = 25
"""Changes of one revision."""
VALUE_CHARS_MAX = 300

_NOT_TOLD = ("metadata.labels.pod-template-hash", "metadata.creationTimestamp", "$patch")


class TemplateChange(BaseModel):
    """One difference of a pod template to that of the revision before. Secrets are masked."""

    path: str
    before: str | None = optional("Missing: it was not there.")
    after: str | None = optional("Missing: it is gone.")

    def to_text(self) -> str:
        """One line."""
        return f"{self.path}: {self.before or '(nothing)'} -> {self.after or '(nothing)'}"


@dataclass(frozen=True)
class Revision:
    """One of them. ``replicas`` and ``ready`` are known of deployments alone."""

    number: int
    name: str
    created: datetime | None
    template: Obj
    change_cause: str | None
    current: bool
    replicas: int | None = None
    ready: int | None = None

    @property
    def images(self) -> list[str]:
        """Each once."""
        return images_of(self.template.get("spec") or {})


async def revisions_of(api: ClusterApi, workload: Obj, bounds: Bounds) -> list[Revision]:
    """All that the cluster still knows, the newest first.

    Raises:
        ToolError: the cluster's refusal.
    """
    deployment = workload.get("kind") == "Deployment"
    resource = "replicasets" if deployment else "controllerrevisions"
    namespace, uid = str(meta(workload).get("namespace")), meta(workload).get("uid")
    listing = await list_objects(api, resource, namespace, lambda obj: obj, bounds, labels=selector_of(workload))
    owned = [
        obj for obj in listing.items if any(ref.get("uid") == uid for ref in meta(obj).get("ownerReferences") or [])
    ]
    made = [_replicaset(workload, obj) if deployment else _controller_revision(obj) for obj in owned]
    made.sort(key=lambda revision: -revision.number)
    if deployment:
        return made
    # Of a set the newest revision is the one it is, or is on its way to.
    return [_with_current(revision, index == 0) for index, revision in enumerate(made)]


def _replicaset(workload: Obj, obj: Obj) -> Revision:
    spec, status, notes = obj.get("spec") or {}, obj.get("status") or {}, annotations(obj)
    return Revision(
        _number(notes.get(REVISION)),
        str(meta(obj).get("name", "")),
        parse_time(meta(obj).get("creationTimestamp")),
        spec.get("template") or {},
        notes.get(CHANGE_CAUSE),
        notes.get(REVISION) is not None and notes.get(REVISION) == annotations(workload).get(REVISION),
        int(spec.get("replicas") or 0),
        int(status.get("readyReplicas") or 0),
    )


def _controller_revision(obj: Obj) -> Revision:
    data = obj.get("data") or {}
    return Revision(
        int(obj.get("revision") or 0),
        str(meta(obj).get("name", "")),
        parse_time(meta(obj).get("creationTimestamp")),
        (data.get("spec") or {}).get("template") or {},
        annotations(obj).get(CHANGE_CAUSE),
        False,
    )


def _with_current(revision: Revision, current: bool) -> Revision:
    parts = (revision.number, revision.name, revision.created, revision.template, revision.change_cause)
    return Revision(*parts, current)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def template_changes(before: Obj, after: Obj) -> list[TemplateChange]:
    """What differs, by path; list entries that have names go by them. A changed secret is told, and stays masked."""
    old, new = _flat(before), _flat(after)
    old_shown, new_shown = _flat(_masked(before)), _flat(_masked(after))
    changes = []
    for path in sorted({*old, *new}):
        if path in _NOT_TOLD or old.get(path) == new.get(path):
            continue
        was, now = _said(old_shown, path), _said(new_shown, path)
        if was is not None and was == now:
            now = f"{now} (changed)"
        changes.append(TemplateChange(path=path, before=was, after=now))
    return changes


def _masked(template: Obj) -> Obj:
    shown = clean({"kind": "PodTemplate", "template": template})["template"]
    return dict(shown)


def _said(flat: dict[str, Any], path: str) -> str | None:
    if path not in flat:
        return None
    text = flat[path] if isinstance(flat[path], str) else repr(flat[path])
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}..."


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = {key: part for key, part in value.items() if not (key == "name" and path.endswith("]"))}
        if set(parts) == {"value"} and path.endswith("]"):
            return {path: parts["value"]}
        return _joined({f"{path}.{key}" if path else str(key): part for key, part in parts.items()}, path)
    if isinstance(value, list) and value and all(isinstance(item, dict) and item.get("name") for item in value):
        return _joined({f"{path}[{item['name']}]": item for item in value}, path)
    return {path: value}


def _joined(parts: dict[str, Any], path: str) -> dict[str, Any]:
    if not parts:
        return {path: {}}
    flat: dict[str, Any] = {}
    for name, part in parts.items():
        flat |= _flat(part, name)
    return flat
