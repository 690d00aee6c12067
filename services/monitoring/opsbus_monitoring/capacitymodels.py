"""What monitoring_capacity_report returns."""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_monitoring.foretold import Verdict
from opsbus_monitoring.querymodels import Finding, empty, optional


class CapacityRow(BaseModel):
    """One series. Values are in its own unit; what cannot be said is left out."""

    labels: dict[str, str]
    verdict: Verdict = Field(
        description="reaches: within the horizon; later: it grows, but not so fast; stable: no trend to tell from flat;"
        " unreliable, insufficient_data: no forecast, see why."
    )
    why: str | None = optional()
    days_to_threshold: float | None = optional("Only of exceeded (0) and reaches.")
    days_low: float | None = optional("90 % interval. Also of later and stable: so early it could be nevertheless.")
    days_high: float | None = optional("Left out: it may never come.")
    reached_on: date | None = optional("The day, UTC.")
    now: float | None = optional("The percentile of a day, as fitted for now.")
    last: float | None = optional("The newest value.")
    change_per_day: float | None = optional()
    change_per_day_interval: list[float] | None = optional("90 %.")
    daily_swing: float | None = optional("From the lowest to the highest moment of a day.")
    fit_error: float | None = optional("Mean absolute error on the values held back.")
    fit_error_unchanged: float | None = optional("The same of: it stays as it was.")
    inside_band: float | None = optional("Share of them within the band that should hold 0.9.")
    coverage: float = Field(description="Share of the moments since its first value that have one.")
    history_days: float = Field(description="Since its first value.")
    used_days: float | None = optional("Of them, when not all: what came before a change does not count.")
    looked_ahead_days: float | None = optional("When shorter than the horizon.")
    notes: list[str] = Field(default_factory=list, exclude_if=empty)


class CapacityReport(Page[CapacityRow]):
    """When series reach a threshold, the most urgent first."""

    summary: str = Field(default="", description="The report in a few sentences, for people.")
    expr: str = ""
    threshold: float = 0.0
    direction: Literal["above", "below"] = "above"
    horizon_days: float = 0.0
    percentile: float = 95.0
    start: datetime | None = optional()
    step_s: float | None = optional("Seconds between two values.")
    verdicts: dict[str, int] = Field(default_factory=dict, description="How many series of each.")
    assumptions: list[str] = Field(default_factory=list)
    empty: list[Finding] = Field(default_factory=list, exclude_if=empty, description="Why there is nothing.")
    report: str | None = optional("URI of the full report (Markdown), kept for a day.")

    def to_text(self) -> str:
        """The summary, then what it stands on."""
        lines = [self.summary]
        lines += [f"{finding.reason} {finding.hint}".strip() for finding in self.empty]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        if self.assumptions:
            lines += ["", "Assumptions:", *(f"- {text}" for text in self.assumptions)]
        if self.report:
            lines += ["", f"Full report: {self.report}"]
        return "\n".join(lines)
