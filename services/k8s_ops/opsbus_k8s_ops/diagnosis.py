"""What k8s_diagnose_workload returns, and fitting it into its budget. What the parts mean together is findings.py's."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from opsbus_k8s_ops.beside import FiringAlert
from opsbus_k8s_ops.eventrows import EventRow
from opsbus_k8s_ops.models import Autoscaler, PodRow, optional
from opsbus_k8s_ops.rolloutmodels import ConditionRow, RevisionRow
from opsbus_k8s_ops.writes import Replicas

BUDGET_BYTES = 22_000
"""The structured answer; the kit's bound is 24 000 with its envelope."""

TEXT_LOG_LINES = 10


class Finding(BaseModel):
    """One thing that is wrong, or worth knowing."""

    level: Literal["problem", "warning", "note"]
    what: str = Field(description="One sentence.")
    evidence: list[str] | None = optional("What it rests on.")


class ProbeRow(BaseModel):
    """A health check as the template has it, and whether it fails."""

    container: str
    probe: Literal["readiness", "liveness", "startup"]
    check: str = Field(description="GET :8080/readyz, tcp :6379, exec redis-cli ping.")
    period_s: int
    timeout_s: int
    failures_allowed: int
    delay_s: int | None = optional("Before the first check.")
    failed: int | None = optional("Times it failed lately, as events tell.")
    message: str | None = optional("What was told last.")


class LogTail(BaseModel):
    """The end of one container's log. Secrets are masked."""

    pod: str
    container: str
    previous: bool = Field(description="Of the run before: the one that died.")
    lines: list[str] = Field(description="Time and text, the oldest first.")
    note: str | None = optional()


class Diagnosis(BaseModel):
    """What is wrong with a workload, and all that speaks for it."""

    cluster: str
    namespace: str
    workload: str = Field(description="Deployment/checkout.")
    healthy: bool
    state: str = Field(description="Of the rollout: complete, progressing, stuck, failing, degraded, paused, ...")
    verdict: str = Field(description="The gravest finding, in one sentence.")
    findings: list[Finding] = Field(description="The gravest first.")
    next_steps: list[str] = Field(description="Calls that would tell more, or change least.")
    replicas: Replicas
    owner: str | None = optional("Team or contact.")
    owner_from: Literal["object", "cmdb"] | None = optional()
    contact: str | None = optional("Of the owner, as the CMDB has it.")
    alerts: list[FiringAlert] | None = optional("That fire for it, the gravest first.")
    runbook: str | None = optional()
    hpa: Autoscaler | None = optional()
    conditions: list[ConditionRow] | None = optional()
    pod_states: dict[str, int] | None = optional("State to how many, of all pods.")
    pods: list[PodRow] | None = optional("Those that are not healthy, the worst first.")
    probes: list[ProbeRow] | None = optional()
    events: list[EventRow] | None = optional("Of the workload and what it made; the warnings first.")
    rollouts: list[RevisionRow] | None = optional("The latest, and what each changed.")
    logs: list[LogTail] | None = optional("Of the pods in trouble.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """The findings, what to do next, and the ends of the logs."""
        counts = self.replicas
        lines = [
            f"{self.cluster}: {self.workload} in {self.namespace} is {self.state},"
            f" {counts.ready} of {counts.desired} ready" + (f"; owner {self.owner}" if self.owner else ""),
        ]
        for finding in self.findings:
            lines.append(f"[{finding.level}] {finding.what}")
            lines += [f"    {evidence}" for evidence in finding.evidence or []]
        lines += [f"Alert {alert.name} ({alert.severity}) since {alert.since}" for alert in self.alerts or []]
        for tail in self.logs or []:
            lines.append(f"Log of {tail.pod}/{tail.container}{' (previous run)' if tail.previous else ''}:")
            lines += [f"    {line}" for line in tail.lines[-TEXT_LOG_LINES:]]
        lines += [f"Next: {step}" for step in self.next_steps]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def fit(diagnosis: Diagnosis, budget_bytes: int = BUDGET_BYTES) -> Diagnosis:
    """The diagnosis within the budget: of each part the least telling goes first, and what is gone is said."""
    cuts: list[tuple[str, str, Callable[[Diagnosis], int]]] = [
        ("log lines", "k8s_get_pod_logs", _half_the_logs),
        ("events", "k8s_get_events", lambda found: _half(found.events, 4)),
        ("changes of older rollouts", "k8s_rollout_history", _older_changes),
        ("pods", "k8s_get_pods problem_only=true", lambda found: _half(found.pods, 3)),
        ("changes of rollouts", "k8s_rollout_history", _all_changes),
        ("log lines", "k8s_get_pod_logs", _all_the_logs),
        ("events", "k8s_get_events", lambda found: _half(found.events, 0)),
        ("probes", "k8s_get_resource", lambda found: _half(found.probes, 2)),
        ("pods", "k8s_get_pods problem_only=true", lambda found: _half(found.pods, 0)),
    ]
    gone: dict[tuple[str, str], int] = {}
    for what, call, cut in cuts:
        while len(diagnosis.model_dump_json()) > budget_bytes:
            removed = cut(diagnosis)
            if not removed:
                break
            gone[what, call] = gone.get((what, call), 0) + removed
    diagnosis.warnings += [f"{count} {what} were left out: {call} has them" for (what, call), count in gone.items()]
    return diagnosis


def _half(items: list[BaseModel] | list[EventRow] | list[PodRow] | list[ProbeRow] | None, least: int) -> int:
    """Drops the second half, down to so many."""
    if not items or len(items) <= least:
        return 0
    keep = max(least, len(items) // 2)
    removed = len(items) - keep
    del items[keep:]
    return removed


def _half_the_logs(diagnosis: Diagnosis) -> int:
    removed = 0
    for tail in diagnosis.logs or []:
        cut = max(0, len(tail.lines) - max(5, len(tail.lines) // 2))
        del tail.lines[:cut]
        removed += cut
    return removed


def _all_the_logs(diagnosis: Diagnosis) -> int:
    removed = sum(len(tail.lines) for tail in diagnosis.logs or [])
    for tail in diagnosis.logs or []:
        tail.lines.clear()
    return removed


def _older_changes(diagnosis: Diagnosis) -> int:
    return _drop_changes((diagnosis.rollouts or [])[1:])


def _all_changes(diagnosis: Diagnosis) -> int:
    return _drop_changes(diagnosis.rollouts or [])


def _drop_changes(rows: list[RevisionRow]) -> int:
    removed = sum(len(row.changes or []) for row in rows)
    for row in rows:
        row.changes = None
    return removed
