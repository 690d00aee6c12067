"""What the tools about silences return."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from opsbus import Page, Plan, Undo
from opsbus_monitoring.querymodels import optional
from opsbus_monitoring.times import in_words

LINES_MAX = 40


class SilenceRow(BaseModel):
    """One silence."""

    id: str
    state: Literal["active", "pending", "expired"] = Field(description="pending begins later; expired mutes no more.")
    matchers: list[str] = Field(description="An alert that all of them hold for is muted.")
    created_by: str
    comment: str
    starts_at: datetime
    ends_at: datetime
    ends_in_s: int | None = optional("Seconds from now.")
    mutes: int | None = optional("Alerts it mutes now.")
    alerts: list[str] | None = optional("Names of those, the gravest first.")
    version: str = Field(description="Changes with every change of it; for expected_version.")

    def to_text(self) -> str:
        """One line."""
        when = {
            "active": f"until {_short(self.ends_at)}",
            "pending": f"from {_short(self.starts_at)} until {_short(self.ends_at)}",
            "expired": f"since {_short(self.ends_at)}",
        }[self.state]
        muted = f", mutes {self.mutes} ({', '.join(self.alerts)})" if self.mutes and self.alerts else ""
        idle = ", mutes nothing now" if self.mutes == 0 else ""
        return (
            f"{self.state} {when}: {{{', '.join(self.matchers)}}}{muted}{idle}"
            f" - {self.created_by}: {self.comment} [{self.id}]"
        )


class SilenceList(Page[SilenceRow]):
    """Silences: active ones that end first, then pending, then expired ones that ended last."""

    counts: dict[str, int] = Field(default_factory=dict, description="State to how many, before the filter by state.")

    def to_text(self) -> str:
        """Counts, then a line per silence."""
        lines = [", ".join(f"{count} {state}" for state, count in self.counts.items()) or "No silences."]
        lines += [item.to_text() for item in self.items[:LINES_MAX]]
        if len(self.items) > LINES_MAX:
            lines.append(f"... and {len(self.items) - LINES_MAX} more in the structured answer")
        if self.page.next_cursor:
            lines.append(f"More with cursor={self.page.next_cursor}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


class SilenceOutcome(BaseModel):
    """What a write about a silence did, or would do."""

    outcome: Literal["planned", "unchanged", "created", "expired"] = Field(
        description="planned: a dry run, nothing was changed. unchanged: it is so already."
    )
    silence: SilenceRow | None = optional("As it is now.")
    plan: Plan | None = optional("What would be done.")
    verified: bool | None = optional("Alertmanager was seen to have carried it out.")
    undo: Undo | None = optional("The call that takes it back.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime

    def to_text(self) -> str:
        """A few lines."""
        known = self.silence
        lines = {
            "planned": ["Dry run, nothing was changed."],
            "unchanged": ["It is so already; nothing was done."],
            "created": [f"Silenced until {_short(known.ends_at)}, {known.id}: mutes {known.mutes or 0} now."]
            if known
            else ["Silenced."],
            "expired": [f"The silence {known.id if known else ''} has ended."],
        }[self.outcome]
        if self.outcome == "planned" and self.plan:
            return "\n".join([*lines, self.plan.to_text()])
        if known and self.outcome == "unchanged":
            lines.append(known.to_text())
        if self.undo:
            lines.append(f"Undo: {self.undo.tool} {self.undo.arguments}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def span_in_words(seconds: float) -> str:
    """``1h30m``, ``2d``; to the minute."""
    left, parts = round(seconds), []
    for size in (86_400, 3_600, 60):
        count, left = divmod(left, size)
        if count:
            parts.append(in_words(count * size))
    return "".join(parts) or f"{left}s"


def _short(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
