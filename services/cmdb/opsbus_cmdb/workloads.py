"""What Kubernetes was last seen to run: read from events of the Kubernetes worker, kept by namespace and name. Judging
it is drift.py's."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus_cmdb import tables
from opsbus_contracts.events import Event

_PREFIX = "event.k8s."
_IMAGES_MAX = 50
_LISTED_MAX = 2_000
_table = tables.workload


class Workload(BaseModel):
    """A workload as events told of it. What no event said is null."""

    cluster: str = Field(max_length=128)
    namespace: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=200)
    kind: str = Field(default="", max_length=64)
    images: list[str] | None = Field(default=None, max_length=_IMAGES_MAX)
    replicas: int | None = Field(default=None, ge=0, description="Wanted.")
    ready: int | None = Field(default=None, ge=0)
    gone: bool = Field(default=False, description="It was deleted.")
    seen_at: datetime = Field(description="Of the event that told of it last.")


def workload_of(subject: str, body: bytes) -> Workload | None:
    """What an event tells of a workload; None: nothing, or it is no event.

    Understood is every ``event.k8s.*``, but of pods and nodes, whose data has namespace and name: ``images`` (or
    ``images_after``), ``replicas`` (or, of ``deployment_scaled``, ``after``), ``ready``; a kind that ends in
    ``_deleted`` or ``_gone`` says that it is gone.
    """
    if not subject.startswith(_PREFIX):
        return None
    kind = subject.removeprefix(_PREFIX)
    if kind.startswith(("pod_", "node_")):
        return None  # they have a name too, which is no workload's
    try:
        event = Event.model_validate_json(body)
        data = event.data
        replicas = data.get("replicas", data.get("after") if kind == "deployment_scaled" else None)
        images = data.get("images", data.get("images_after"))
        return Workload(
            cluster=data.get("cluster") or "",
            namespace=data.get("namespace"),
            name=data.get("name"),
            kind=data.get("kind") or ("deployment" if kind.startswith("deployment_") else ""),
            images=sorted(_images(images)) if images is not None else None,
            replicas=replicas,
            ready=data.get("ready"),
            gone=kind.endswith(("_deleted", "_gone")),
            seen_at=event.time.astimezone(UTC),
        )
    except (ValidationError, AttributeError, TypeError):
        return None


def _images(images: Any) -> list[str]:
    found = images.values() if isinstance(images, dict) else images
    return [str(image) for image in found][:_IMAGES_MAX]


async def learn(connection: AsyncConnection, seen: list[Workload]) -> list[Workload]:
    """Keep the newest of each fact; those of which something changed. An event that comes late or twice changes
    nothing newer."""
    await serialize(connection, "cmdb", "workloads")
    changed = []
    for workload in seen:
        key = (
            (_table.c.cluster == workload.cluster)
            & (_table.c.namespace == workload.namespace)
            & (_table.c.name == workload.name)
        )
        known = (await connection.execute(select(_table).where(key))).first()
        if known is None:
            await connection.execute(insert(_table).values(workload.model_dump()))
            changed.append(workload)
        elif known.seen_at <= workload.seen_at:
            told = {name: value for name, value in workload.model_dump().items() if value not in (None, "")}
            if workload.ready is None and told.get("replicas", known.replicas) != known.replicas:
                told["ready"] = None  # how many were ready was of another number
            await connection.execute(update(_table).where(key).values(told))
            if any(known._mapping[name] != value for name, value in told.items() if name != "seen_at"):
                changed.append(workload)
    return changed


async def in_namespaces(connection: AsyncConnection, namespaces: list[str]) -> list[Workload]:
    """Everything known of namespaces."""
    chosen = select(_table).where(_table.c.namespace.in_(namespaces)).order_by(_table.c.name).limit(_LISTED_MAX)
    return [Workload.model_validate(row._mapping) for row in await connection.execute(chosen)]
