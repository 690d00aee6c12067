"""What the tools that write to nodes return."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from opsbus import Plan, Undo
from opsbus_k8s_ops.models import optional

PodFate = Literal["goes", "stays", "waiting", "blocked", "stopping", "gone", "refused", "unknown"]


class NodeOutcome(BaseModel):
    """What a write to a node did, or would do."""

    outcome: Literal["planned", "unchanged", "done"] = Field(description="planned: a dry run, nothing was changed.")
    cluster: str
    node: str
    plan: Plan | None = optional("What would be done.")
    unschedulable: bool | None = optional("As last seen: no new pods are put on it.")
    verified: bool | None = optional("The cluster was seen to have carried it out.")
    undo: Undo | None = optional("The call that takes it back.")
    version: str | None = optional("resourceVersion after the write.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime

    def told(self, *sentences: str) -> str:
        """The text form: what was done, how it stands, what to know."""
        lines = list(sentences)
        if self.outcome == "planned" and self.plan:
            return "\n".join([*lines, self.plan.to_text()])
        if self.undo:
            lines.append(f"Undo: {self.undo.tool} {self.undo.arguments}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


class CordonOutcome(NodeOutcome):
    """What a cordon or its end did, or would do."""

    def to_text(self) -> str:
        """A few lines."""
        state = "cordoned: no new pods are put on it" if self.unschedulable else "open to new pods"
        sentences = {
            "planned": "Dry run, nothing was changed.",
            "unchanged": f"Node {self.node} in {self.cluster} is {state} already; nothing was done.",
            "done": f"Node {self.node} in {self.cluster} is {state}.",
        }
        return self.told(sentences[self.outcome])


class DrainedPod(BaseModel):
    """A pod of the node."""

    namespace: str
    name: str
    workload: str | None = optional("Deployment/checkout; missing: nothing starts it again.")
    part: Literal["managed", "unmanaged", "daemonset", "static", "finished"]
    local_storage: list[str] | None = optional("emptyDir volumes: their data is lost.")
    fate: PodFate = Field(
        description="goes, stays: in a plan. blocked: a disruption budget holds it. waiting: not asked to go yet."
    )
    reason: str | None = optional("What holds it, in the cluster's words.")

    def to_text(self) -> str:
        """One line."""
        said = f" ({self.reason})" if self.reason else ""
        return f"{self.namespace}/{self.name} [{self.workload or self.part}] {self.fate}{said}"


class DrainCounts(BaseModel):
    """The pods that are to go, by what became of them."""

    total: int = Field(description="Pods that are to go; those of daemon sets and static ones stay.")
    gone: int = 0
    stopping: int = Field(default=0, description="Evicted, not stopped yet.")
    blocked: int = Field(default=0, description="Held by a disruption budget.")
    waiting: int = Field(default=0, description="Not asked to go yet.")
    refused: int = Field(default=0, description="The cluster does not evict them.")
    unknown: int = Field(default=0, description="Asked, and no answer came.")

    def to_text(self) -> str:
        """``5 of 12 pods are gone, 3 are stopping, 4 are held by disruption budgets``."""
        parts = [f"{self.gone} of {self.total} pods are gone"]
        for count, words in (
            (self.stopping, "stopping"),
            (self.blocked, "held by disruption budgets"),
            (self.waiting, "not asked to go yet"),
            (self.refused, "refused by the cluster"),
            (self.unknown, "of unknown fate"),
        ):
            if count:
                parts.append(f"{count} {'is' if count == 1 else 'are'} {words}")
        return ", ".join(parts)


class DrainOutcome(NodeOutcome):
    """How far a drain came, or what it would do."""

    complete: bool | None = optional("Every pod that was to go is gone.")
    counts: DrainCounts | None = optional()
    pods: list[DrainedPod] | None = optional("In a plan all, what stands in the way first; else those not gone.")
    pods_left_out: int | None = optional("Beyond those shown.")
    waited_s: float | None = optional()
    next_call: Undo | None = optional("The call that goes on with it.")

    def to_text(self) -> str:
        """A few lines."""
        where = f"node {self.node} in {self.cluster}"
        if self.outcome == "planned":
            lines = ["Dry run, nothing was changed."]
        elif self.outcome == "unchanged":
            lines = [f"{where} is cordoned and has nothing to evict; nothing was done."]
        else:
            lines = [f"{where} is {'drained' if self.complete else 'not drained yet'}."]
        if self.counts and self.outcome == "done":
            lines.append(f"{self.counts.to_text()}.")
        shown = self.pods or []
        lines += [f"  {pod.to_text()}" for pod in shown[:20]]
        hidden = len(shown) - 20 + (self.pods_left_out or 0) if len(shown) > 20 else (self.pods_left_out or 0)
        if hidden > 0:
            lines.append(f"  ... and {hidden} more")
        return self.told(*lines)
