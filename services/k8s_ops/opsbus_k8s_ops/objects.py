"""Reading Kubernetes objects: ages, owners, templates, conditions.

Judging their health is in podhealth.py and rollout.py.
"""

from datetime import UTC, datetime
from typing import Any

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.masking import mask_env
from opsbus_k8s_ops.models import ContainerRow

OWNER_KEYS = ("owner", "team", "app.kubernetes.io/owner", "opsbus.dev/owner", "owner-team")
"""Annotations and labels that name who answers for a workload, the best first."""

GITOPS_KEYS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""Marks of tools that put back what a repository says."""


def meta(obj: Obj) -> Obj:
    """The metadata of an object."""
    return obj.get("metadata") or {}


def labels(obj: Obj) -> dict[str, str]:
    """Its labels."""
    return meta(obj).get("labels") or {}


def annotations(obj: Obj) -> dict[str, str]:
    """Its annotations."""
    return meta(obj).get("annotations") or {}


def parse_time(value: Any) -> datetime | None:
    """A Kubernetes timestamp, or None."""
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC) if value else None
    except ValueError:
        return None


def seconds_since(value: Any, now: datetime) -> int | None:
    """Whole seconds since a timestamp."""
    then = parse_time(value)
    return None if then is None else max(0, int((now - then).total_seconds()))


def condition(obj: Obj, kind: str) -> Obj:
    """A condition of the status; empty when there is none."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def owner_of(obj: Obj) -> str | None:
    """Who answers for it."""
    for source in (annotations(obj), labels(obj)):
        for key in OWNER_KEYS:
            if source.get(key):
                return source[key]
    return None


def gitops_of(obj: Obj) -> str | None:
    """The tool that owns its desired state, if one left its mark."""
    marks = {**labels(obj), **annotations(obj)}
    return next((tool for key, tool in GITOPS_KEYS.items() if key in marks), None)


def workload_of(pod: Obj) -> str | None:
    """``Deployment/checkout`` from a pod's owner; a replica set's name loses the template hash."""
    for owner in meta(pod).get("ownerReferences") or []:
        kind, name = str(owner.get("kind", "")), str(owner.get("name", ""))
        template_hash = labels(pod).get("pod-template-hash")
        if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
            return f"Deployment/{name.removesuffix(f'-{template_hash}')}"
        return f"{kind}/{name}"
    return None


def container_rows(spec: Obj) -> list[ContainerRow]:
    """The containers of a pod's spec, init containers first, credentials masked."""
    rows = []
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        rows.append(
            ContainerRow(
                name=str(container.get("name", "")),
                image=str(container.get("image", "")),
                requests={key: str(value) for key, value in (resources.get("requests") or {}).items()},
                limits={key: str(value) for key, value in (resources.get("limits") or {}).items()},
                env=mask_env(container.get("env") or []),
            )
        )
    return rows


def images_of(spec: Obj) -> list[str]:
    """The images of a pod's spec, each once."""
    return list(dict.fromkeys(str(container.get("image", "")) for container in spec.get("containers") or []))


def in_words(seconds: float) -> str:
    """52 s, 8 min, 3 h, 5 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size * 2:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
