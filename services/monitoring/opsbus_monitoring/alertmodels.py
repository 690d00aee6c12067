"""What monitoring_get_alerts returns."""

from datetime import datetime

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_monitoring.querymodels import empty, optional

LINES_MAX = 40


class Silence(BaseModel):
    """Who muted it, why, until when."""

    id: str
    comment: str = ""
    created_by: str = ""
    ends_at: str = ""


class AlertRow(BaseModel):
    """One alert. ``state``: firing reaches people; silenced and inhibited do not; pending has not fired yet."""

    name: str
    severity: str
    state: str
    since: datetime | None = optional()
    age_s: int | None = optional("Seconds since it began.")
    summary: str | None = optional()
    runbook: str | None = optional("Where it is written what to do.")
    service: str | None = optional()
    owner: str | None = optional("Team.")
    from_cmdb: list[str] | None = optional("Which of service and owner the CMDB says; else the labels do.")
    labels: dict[str, str] = Field(description="Without alertname and severity.")
    silenced_by: list[Silence] | None = optional()
    inhibited_by: list[str] | None = optional("Names of the alerts that mute it.")
    fingerprint: str | None = optional("Alertmanager's id.")

    def all_labels(self) -> dict[str, str]:
        """As Alertmanager has them."""
        return {**self.labels, "alertname": self.name, "severity": self.severity}

    def group_labels(self) -> dict[str, str]:
        """What it can be counted by: also its service and its owner, whoever says so."""
        return {"service": self.service or "", "owner": self.owner or ""} | self.all_labels()

    def to_text(self) -> str:
        """One line."""
        where = ", ".join(f"{key}={value}" for key, value in self.labels.items())
        told = f"[{self.severity}] {self.name} {self.state}"
        if self.silenced_by:
            told += f" (until {self.silenced_by[0].ends_at}: {self.silenced_by[0].comment})"
        whose = f" ({self.owner})" if self.owner else ""
        return f"{told}{whose} {{{where}}}" + (f" - {self.summary}" if self.summary else "")


class AlertGroup(BaseModel):
    """Alerts that share the values of group_by."""

    labels: dict[str, str]
    total: int
    states: dict[str, int]
    worst: str = Field(description="The gravest severity in it.")
    oldest: datetime | None = optional()
    owners: dict[str, int] | None = optional("Owner to how many.")


class AlertList(Page[AlertRow]):
    """Alerts, the gravest first."""

    counts: dict[str, int] = Field(default_factory=dict, description="State to how many, before the filter by state.")
    groups: list[AlertGroup] = Field(default_factory=list, exclude_if=empty)

    def to_text(self) -> str:
        """Counts, groups, then a line per alert."""
        lines = [", ".join(f"{count} {state}" for state, count in self.counts.items()) or "No alerts."]
        for group in self.groups[:LINES_MAX]:
            key = ", ".join(f"{name}={value}" for name, value in group.labels.items())
            states = ", ".join(f"{count} {state}" for state, count in group.states.items())
            lines.append(f"  {key}: {states} (worst {group.worst})")
        lines += [item.to_text() for item in self.items[:LINES_MAX]]
        if len(self.items) > LINES_MAX:
            lines.append(f"... and {len(self.items) - LINES_MAX} more in the structured answer")
        if self.page.next_cursor:
            lines.append(f"More with cursor={self.page.next_cursor}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])
