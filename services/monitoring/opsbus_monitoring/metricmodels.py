"""What the tools about metrics, targets and rules return."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_monitoring.querymodels import empty, optional

LINES_MAX = 40

MetricType = Literal["counter", "gauge", "histogram", "summary", "unknown"]


class MetricRow(BaseModel):
    """One metric. Histograms and summaries are one, not their _bucket, _sum and _count."""

    name: str
    type: MetricType = Field(description="unknown: no target tells it.")
    help: str | None = optional()
    unit: str | None = optional()
    series: int | None = optional("How many there are now.")
    parts: list[str] | None = optional("What to query, of a histogram or summary.")

    def to_text(self) -> str:
        """One line."""
        count = f", {self.series} series" if self.series is not None else ""
        return f"{self.name} ({self.type}{count}): {self.help or 'no help'}"


class MetricList(Page[MetricRow]):
    """Metrics, the best match first."""

    families: dict[str, int] = Field(
        default_factory=dict, exclude_if=empty, description="First word of the name to how many: where to narrow."
    )

    def to_text(self) -> str:
        """A line per metric."""
        lines = [f"{self.page.total} metrics"]
        if self.families:
            lines.append("By first word: " + ", ".join(f"{name} {count}" for name, count in self.families.items()))
        return _told([*lines, *(item.to_text() for item in self.items[:LINES_MAX])], self)


class LabelRow(BaseModel):
    """One label of a metric."""

    name: str
    values: int = Field(description="Distinct values.")
    examples: list[str] = Field(description="Those with the most series first.")

    def to_text(self) -> str:
        """One line."""
        more = " ..." if self.values > len(self.examples) else ""
        return f"  {self.name}: {self.values} values ({', '.join(self.examples)}{more})"


class ExampleQuery(BaseModel):
    """An expression that fits the metric."""

    what: str
    expr: str
    series: int | None = optional("It gives now; null: it could not be tried.")


class MetricDescription(BaseModel):
    """One metric: what it is, how it is cut, how to ask for it."""

    name: str
    type: MetricType
    help: str | None = optional()
    unit: str | None = optional()
    parts: list[str] | None = optional("What to query, of a histogram or summary.")
    series: int = Field(description="Now; of a histogram with its buckets.")
    sample_every_s: float | None = optional("About; a range in brackets needs four times that.")
    labels: list[LabelRow] = Field(description="Those with few values first: what to aggregate by.")
    buckets: list[str] | None = optional("Upper bounds (le).")
    queries: list[ExampleQuery] = Field(description="For monitoring_query_metrics.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str = ""

    def to_text(self) -> str:
        """Head, labels, queries."""
        lines = [f"{self.name} ({self.type}, {self.series} series): {self.help or 'no help'}"]
        lines += [label.to_text() for label in self.labels]
        if self.buckets:
            lines.append(f"  le: {', '.join(self.buckets)}")
        lines += [f"{query.what}: {query.expr}" for query in self.queries]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


class TargetRow(BaseModel):
    """One address that is scraped."""

    job: str
    instance: str
    health: Literal["up", "down", "unknown"] = Field(description="unknown: not scraped yet.")
    url: str
    error: str | None = optional("Of the last scrape.")
    last_scrape: datetime | None = optional()
    scrape_s: float | None = optional("How long the last scrape took.")
    interval: str | None = optional("Between two scrapes.")
    labels: dict[str, str] = Field(default_factory=dict, exclude_if=empty, description="Without job and instance.")

    def to_text(self) -> str:
        """One line."""
        return f"{self.health}: {self.job} {self.instance}" + (f" - {self.error}" if self.error else "")


class TargetList(Page[TargetRow]):
    """Targets, those that are down first."""

    counts: dict[str, int] = Field(default_factory=dict, description="Health to how many.")
    jobs: list[dict[str, str | int]] = Field(
        default_factory=list, description="Per job: how many are up, down and unknown; the worst first."
    )

    def to_text(self) -> str:
        """Counts, jobs with trouble, then a line per target."""
        lines = [", ".join(f"{count} {health}" for health, count in self.counts.items()) or "No targets."]
        lines += [f"  {job['job']}: {job['up']} up, {job['down']} down" for job in self.jobs if job["down"]]
        return _told([*lines, *(item.to_text() for item in self.items[:LINES_MAX])], self)


class RuleRow(BaseModel):
    """One rule."""

    name: str = Field(description="Of the alert, or of the metric that is recorded.")
    kind: Literal["alert", "record"]
    group: str
    state: str | None = optional("Of an alert: firing, pending or inactive.")
    health: str = Field(description="ok, err or unknown: whether it can be evaluated.")
    error: str | None = optional()
    expr: str
    for_s: float | None = optional("How long it must hold before it fires.")
    severity: str | None = optional()
    labels: dict[str, str] = Field(default_factory=dict, exclude_if=empty, description="Without severity.")
    summary: str | None = optional()
    runbook: str | None = optional("Where it is written what to do.")
    alerts: int | None = optional("Pending and firing now; monitoring_get_alerts has them.")
    evaluation_s: float | None = optional("How long the last evaluation took.")

    def to_text(self) -> str:
        """One line."""
        state = self.error or (self.state if self.kind == "alert" else "recorded")
        return f"{self.group} / {self.name} ({self.kind}, {state}): {self.expr[:200]}"


class RuleList(Page[RuleRow]):
    """Rules: broken ones first, then firing, pending, quiet, recorded."""

    counts: dict[str, int] = Field(
        default_factory=dict, description="Broken, firing, pending, inactive, recorded: how many."
    )
    groups: dict[str, int] = Field(default_factory=dict, exclude_if=empty, description="Group to how many rules.")

    def to_text(self) -> str:
        """Counts, then a line per rule."""
        lines = [", ".join(f"{count} {state}" for state, count in self.counts.items()) or "No rules."]
        return _told([*lines, *(item.to_text() for item in self.items[:LINES_MAX])], self)


def _told(lines: list[str], page: Page[Any]) -> str:
    if len(page.items) > LINES_MAX:
        lines.append(f"... and {len(page.items) - LINES_MAX} more in the structured answer")
    if page.page.next_cursor:
        lines.append(f"More with cursor={page.page.next_cursor}")
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in page.warnings)])
