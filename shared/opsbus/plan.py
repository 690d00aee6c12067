"""What a write would do, before it does it. Asking for the confirmation lives in confirm.py."""

from typing import Any

from pydantic import BaseModel, Field


class Change(BaseModel):
    """One value that would change."""

    path: str
    before: Any = None
    after: Any = None


class Undo(BaseModel):
    """The call that would take the change back."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Plan(BaseModel):
    """A write as planned: shown to whoever confirms it, and returned by a dry run."""

    summary: str = Field(min_length=1, description="One line: what would be done.")
    changes: list[Change] = Field(default_factory=list)
    blast_radius: str = Field(default="", description="Who else feels it.")
    undo: Undo | None = None
    warnings: list[str] = Field(default_factory=list)

    def to_text(self) -> str:
        """The plan as a person reads it."""
        lines = [self.summary]
        lines += [f"  {change.path}: {change.before!r} -> {change.after!r}" for change in self.changes[:20]]
        if len(self.changes) > 20:
            lines.append(f"  ... and {len(self.changes) - 20} more changes")
        if self.blast_radius:
            lines.append(f"Affects: {self.blast_radius}")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        if self.undo:
            lines.append(f"Undo: {self.undo.tool} {self.undo.arguments}")
        return "\n".join(lines)
