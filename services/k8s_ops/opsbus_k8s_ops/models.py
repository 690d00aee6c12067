"""What the read tools return. Fields without a value are left out of an answer: every one costs a model tokens."""

from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from opsbus import Page

LINES_MAX = 40
"""Rows in the text form of a list; the structured form has them all."""

Value = TypeVar("Value")


def empty(value: Any) -> bool:
    return value is None or value == [] or value == {}


def optional(description: str = "") -> Any:
    """A field that is left out while it has no value."""
    return Field(default=None, exclude_if=empty, description=description)


class ClusterInfo(BaseModel):
    """One context of the configuration."""

    name: str = Field(description="Give it as `cluster` to any tool.")
    server: str = Field(description="Address of the API server.")
    default: bool
    reachable: bool
    version: str | None = optional("As the API server says: v1.34.2.")
    latency_ms: float | None = optional("Of one request.")
    reason: str | None = optional("Why it is not reachable.")

    def to_text(self) -> str:
        """One line."""
        mark = " (default)" if self.default else ""
        state = f"{self.version}, {self.latency_ms:g} ms" if self.reachable else f"not reachable: {self.reason}"
        return f"{self.name}{mark} {self.server}: {state}"


class ClusterList(BaseModel):
    """The resource enterprise://k8s/clusters."""

    clusters: list[ClusterInfo]
    as_of: datetime


class ClusterPage(Page[ClusterInfo]):
    """Clusters, those that do not answer first."""

    reachable: int = Field(default=0, description="Of all.")
    default: str = Field(default="", description="Used where no cluster is named.")

    def to_text(self) -> str:
        """A line per cluster."""
        return "\n".join([f"{self.reachable} of {self.page.total} clusters answer", *rows_text(self)])


class Group(BaseModel):
    """One group of a list, asked for by group_by."""

    key: str
    total: int
    unhealthy: int
    states: dict[str, int] = Field(description="State to how many.")


class Counts(BaseModel):
    """Of everything that matched, not of the rows alone."""

    total: int = 0
    unhealthy: int = 0
    states: dict[str, int] = Field(default_factory=dict, description="State to how many.")


class ContainerRow(BaseModel):
    """A container as its template says. Credential-like values are masked, their names kept."""

    name: str
    image: str
    requests: dict[str, str] | None = optional()
    limits: dict[str, str] | None = optional()
    env: dict[str, str] | None = optional("Values, or where they come from; credential-like ones masked.")


class PodRow(BaseModel):
    """One pod. ``state`` is what kubectl shows, ``cause`` and ``reason`` say why."""

    namespace: str
    name: str
    healthy: bool
    state: str | None = optional("Running, Pending, CrashLoopBackOff, ImagePullBackOff, NotReady, ...")
    cause: str | None = optional("One word: OOMKilled, Unschedulable, Error, ...")
    reason: str | None = optional("One sentence for a person.")
    ready: str | None = optional("Ready containers of all: 1/2.")
    restarts: int | None = optional("Of all containers together.")
    age_s: int | None = optional("Seconds since creation.")
    node: str | None = optional()
    workload: str | None = optional("What made the pod: Deployment/checkout.")
    ip: str | None = optional()
    images: list[str] | None = optional()
    labels: dict[str, str] | None = optional()
    containers: list[ContainerRow] | None = optional()

    def to_text(self) -> str:
        """One line."""
        parts = [f"{self.namespace}/{self.name}", self.state, f"ready {self.ready}" if self.ready else ""]
        parts.append(f"{self.restarts} restarts" if self.restarts else "")
        return " ".join(part for part in parts if part) + (
            f" - {self.reason}" if self.reason and not self.healthy else ""
        )


class Autoscaler(BaseModel):
    """The HorizontalPodAutoscaler that steers a workload."""

    name: str
    min_replicas: int
    max_replicas: int
    current_replicas: int
    desired_replicas: int
    note: str | None = optional("What holds it back, in its own words.")


class WorkloadRow(BaseModel):
    """A deployment, stateful set or daemon set."""

    namespace: str
    name: str
    kind: str
    healthy: bool
    state: str | None = optional("complete, progressing, stuck, failing, degraded, paused, scaled_to_zero.")
    reason: str | None = optional("One sentence for a person.")
    desired: int | None = optional("Replicas asked for.")
    ready: int | None = optional()
    updated: int | None = optional("Replicas of the newest template.")
    available: int | None = optional()
    images: list[str] | None = optional()
    owner: str | None = optional("Team or contact, from labels and annotations.")
    hpa: Autoscaler | None = optional()
    revision: str | None = optional()
    change_cause: str | None = optional("What the last rollout was for, as it was noted.")
    strategy: str | None = optional()
    age_s: int | None = optional("Seconds since creation.")
    version: str | None = optional("resourceVersion: give it as expected_version to a write.")
    labels: dict[str, str] | None = optional()
    containers: list[ContainerRow] | None = optional()

    def to_text(self) -> str:
        """One line."""
        counts = f"{self.ready}/{self.desired} ready" if self.desired is not None else ""
        parts = [f"{self.kind} {self.namespace}/{self.name}", self.state, counts, ", ".join(self.images or [])]
        return " ".join(part for part in parts if part) + (
            f" - {self.reason}" if self.reason and not self.healthy else ""
        )


class _Overview(BaseModel):
    cluster: str = ""
    counts: Counts = Field(default_factory=Counts, description="Of all that matched.")
    groups: list[Group] = Field(default_factory=list, exclude_if=empty, description="With group_by: instead of rows.")

    def overview(self, noun: str) -> list[str]:
        """The first lines of the text form."""
        states = ", ".join(f"{count} {state}" for state, count in self.counts.states.items())
        lines = [
            f"{self.cluster}: {self.counts.total} {noun}, {self.counts.unhealthy} unhealthy"
            + (f" ({states})" if states else "")
        ]
        lines += [f"  {group.key}: {group.total}, {group.unhealthy} unhealthy" for group in self.groups[:LINES_MAX]]
        return lines


class PodList(_Overview, Page[PodRow]):
    """Pods, the unhealthy first."""

    def to_text(self) -> str:
        """Counts, then a line per pod."""
        return "\n".join([*self.overview("pods"), *rows_text(self)])


class WorkloadList(_Overview, Page[WorkloadRow]):
    """Workloads, the unhealthy first."""

    def to_text(self) -> str:
        """Counts, then a line per workload."""
        return "\n".join([*self.overview("workloads"), *rows_text(self)])


def rows_text(page: Page[Any]) -> list[str]:
    """A line per row up to a bound, what was left out, and the warnings."""
    lines = [item.to_text() for item in page.items[:LINES_MAX]]
    if len(page.items) > LINES_MAX:
        lines.append(f"... and {len(page.items) - LINES_MAX} more rows in the structured answer")
    if page.page.next_cursor:
        lines.append(f"More with cursor={page.page.next_cursor}")
    return lines + [f"Warning: {warning}" for warning in page.warnings]
