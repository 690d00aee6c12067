"""What monitoring_query_metrics returns. Fields without a value are left out: every one costs a model tokens."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from opsbus import Page

LINES_MAX = 30


def empty(value: Any) -> bool:
    """Whether a field is left out."""
    return value is None or value == [] or value == {}


def optional(description: str = "") -> Any:
    """A field that is left out while it has no value."""
    return Field(default=None, exclude_if=empty, description=description)


class SeriesRow(BaseModel):
    """One series in a few numbers; NaN and infinities are null."""

    labels: dict[str, str] = Field(description="Without those that all series share.")
    last: float | None = Field(description="The newest value.")
    min: float | None = optional()
    max: float | None = optional()
    avg: float | None = optional()
    p95: float | None = optional("Nearest rank.")
    slope_per_hour: float | None = optional("Of the line through the points.")
    sparkline: str | None = optional("Its course; a space is a gap.")
    points: int | None = optional("Moments with a number.")
    missing: int | None = optional("Moments of the range without one.")
    values: list[float | None] | None = optional(
        "With reduce=points: one per step from start, null where there is none."
    )

    def to_text(self) -> str:
        """One line."""
        name = self.labels.get("__name__", "")
        inside = ", ".join(f'{key}="{value}"' for key, value in self.labels.items() if key != "__name__")
        shown = f"{name}{{{inside}}}" if inside or not name else name
        if self.sparkline is None:
            return f"{shown} {self.last}"
        return (
            f"{shown} {self.sparkline} last {self.last}, min {self.min}, avg {self.avg}, p95 {self.p95}, max {self.max}"
            + (f", {self.missing} missing" if self.missing else "")
        )


class Finding(BaseModel):
    """Why there is nothing, or what to look at."""

    reason: str
    hint: str = ""
    did_you_mean: list[str] = Field(default_factory=list, exclude_if=empty)


class Overload(BaseModel):
    """Too many series: where they come from, and expressions that give fewer."""

    series: int | None = optional("In all; null: not even countable.")
    cardinality: dict[str, int] = Field(description="Label to distinct values, the most first.")
    rewrites: list[str] = Field(description="Expressions to try in place.")


class ThresholdNote(BaseModel):
    """A line on the chart."""

    value: float
    op: str | None = optional("The side that is wrong: > above it, < below.")
    rule: str | None = optional("The alerting rule that has it.")


class ChartNote(BaseModel):
    """What the picture shows."""

    series: int
    unit: str
    thresholds: list[ThresholdNote] = Field(default_factory=list, exclude_if=empty)


class QueryAnswer(Page[SeriesRow]):
    """The series of an expression, the largest first."""

    expr: str = ""
    kind: str = Field(default="", description="matrix, vector, scalar or string.")
    start: datetime | None = optional()
    end: datetime | None = optional()
    step_s: float | None = optional("Seconds between two points.")
    common_labels: dict[str, str] = Field(default_factory=dict, exclude_if=empty, description="What all series share.")
    text: str | None = optional("Of a string expression.")
    empty: list[Finding] = Field(default_factory=list, exclude_if=empty, description="Why there is nothing.")
    overload: Overload | None = optional("When there are more series than max_series.")
    chart: ChartNote | None = optional("With chart: what the picture shows.")

    def to_text(self) -> str:
        """The findings, then a line per series."""
        lines = [f"{self.expr}" + (f"  (step {self.step_s:g} s)" if self.step_s else "")]
        if self.common_labels:
            lines.append("All: " + ", ".join(f'{key}="{value}"' for key, value in self.common_labels.items()))
        lines += [row.to_text() for row in self.items[:LINES_MAX]]
        if self.text is not None:
            lines.append(self.text)
        if not self.items and self.text is None:
            lines.append("No data.")
        for line in self.chart.thresholds if self.chart else ():
            lines.append(f"Threshold {line.op or ''} {line.value:g} {line.rule or ''}".replace("  ", " ").rstrip())
        for finding in self.empty:
            lines.append(f"{finding.reason} {finding.hint}".strip())
        if self.overload:
            lines.append(f"Fewer series with: {'  or  '.join(self.overload.rewrites)}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])
