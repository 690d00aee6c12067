"""What the rollout tools return."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.models import PodRow, optional, rows_text
from opsbus_k8s_ops.objects import in_words, seconds_since
from opsbus_k8s_ops.revisions import Revision, TemplateChange
from opsbus_k8s_ops.writes import Replicas

MESSAGE_CHARS_MAX = 400


class ConditionRow(BaseModel):
    """A condition, as the controller states it."""

    type: str
    status: str
    reason: str | None = optional()
    message: str | None = optional()
    age_s: int | None = optional("Seconds since it changed.")


class RevisionReplicas(BaseModel):
    """A replica set that has pods, or is the newest."""

    name: str
    revision: int
    current: bool = Field(description="It is the revision that is rolled out.")
    desired: int
    ready: int
    images: list[str] | None = optional()


class RolloutStatus(BaseModel):
    """How a rollout stands, and what holds it back."""

    cluster: str
    namespace: str
    workload: str = Field(description="Deployment/checkout.")
    state: str = Field(description="complete, progressing, stuck, failing, degraded, paused, scaled_to_zero.")
    healthy: bool
    reason: str | None = optional("One sentence for a person.")
    replicas: Replicas
    revision: str | None = optional()
    change_cause: str | None = optional("What it was for, as it was noted.")
    images: list[str] | None = optional()
    replica_sets: list[RevisionReplicas] | None = optional("Of deployments: how the pods are split.")
    conditions: list[ConditionRow] | None = optional()
    pods: list[PodRow] | None = optional("Those that are not healthy, the worst first, at most ten.")
    pods_unhealthy: int | None = optional("Of all.")
    waited_s: float | None = optional("With wait_s: how long it was watched.")
    timed_out: bool | None = optional("With wait_s: it was still under way at the end.")
    version: str | None = optional("resourceVersion: give it as expected_version to a write.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """A few lines."""
        counts = self.replicas
        lines = [
            f"{self.cluster}: {self.workload} in {self.namespace} is {self.state}"
            + (f" ({self.reason})" if self.reason else ""),
            f"{counts.updated} of {counts.desired} updated, {counts.ready} ready, {counts.available} available"
            + (f"; revision {self.revision}" if self.revision else "")
            + (f": {self.change_cause}" if self.change_cause else ""),
        ]
        lines += [
            f"  {entry.name} (revision {entry.revision}{', current' if entry.current else ''}):"
            f" {entry.ready} of {entry.desired} ready, {', '.join(entry.images or [])}"
            for entry in self.replica_sets or []
        ]
        lines += [f"  {pod.to_text()}" for pod in self.pods or []]
        if self.waited_s is not None:
            lines.append(f"Watched for {in_words(self.waited_s)}." + (" Still under way." if self.timed_out else ""))
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


class RevisionRow(BaseModel):
    """One revision."""

    revision: int
    current: bool = Field(description="It is the one that is rolled out, or on its way.")
    name: str | None = optional("Of its replica set or controller revision.")
    created: datetime | None = optional("RFC 3339. A rollback takes up an old one again.")
    age_s: int | None = optional("Seconds since.")
    images: list[str] | None = optional()
    change_cause: str | None = optional("What it was for, as it was noted.")
    replicas: int | None = optional("Pods it is to have now; deployments alone.")
    ready: int | None = optional()
    changes: list[TemplateChange] | None = optional("Of the pod template, against the revision before.")
    changes_left_out: int | None = optional("Beyond those shown.")

    def to_text(self) -> str:
        """One line, and one per change."""
        age = f" {in_words(self.age_s)} ago" if self.age_s is not None else ""
        head = f"revision {self.revision}{' (current)' if self.current else ''}{age}: {', '.join(self.images or [])}"
        cause = f" - {self.change_cause}" if self.change_cause else ""
        return "\n".join([head + cause, *(f"  {change.to_text()}" for change in (self.changes or [])[:10])])


class RolloutHistory(Page[RevisionRow]):
    """Revisions, the newest first."""

    cluster: str = ""
    namespace: str = ""
    workload: str = ""

    def to_text(self) -> str:
        """A few lines per revision."""
        return "\n".join(
            [f"{self.cluster}: {self.page.total} revisions of {self.workload} in {self.namespace}", *rows_text(self)]
        )


def condition_rows(obj: Obj, now: datetime) -> list[ConditionRow]:
    """The conditions of a status, secrets masked."""
    return [
        ConditionRow(
            type=str(entry.get("type", "")),
            status=str(entry.get("status", "")),
            reason=entry.get("reason"),
            message=mask_text(str(entry.get("message") or ""))[:MESSAGE_CHARS_MAX] or None,
            age_s=seconds_since(entry.get("lastTransitionTime"), now),
        )
        for entry in ((obj.get("status") or {}).get("conditions") or [])[:10]
    ]


def replica_sets(revisions: list[Revision]) -> list[RevisionReplicas]:
    """Those that matter now."""
    return [
        RevisionReplicas(
            name=revision.name,
            revision=revision.number,
            current=revision.current,
            desired=revision.replicas,
            ready=revision.ready or 0,
            images=revision.images,
        )
        for revision in revisions
        if revision.replicas is not None and (revision.replicas or revision.current)
    ]


def said(text: Any) -> str | None:
    """A note of a person, masked and bounded."""
    return mask_text(str(text))[:MESSAGE_CHARS_MAX] if text else None
