"""What is recorded, and how."""

from typing import Literal

from pydantic import Field, field_validator

from opsbus.settings import Settings


class RecordSettings(Settings):
    """Part of EdgeSettings."""

    audit_buffer_max: int = Field(default=10_000, ge=10, le=1_000_000, description="Events that wait to be stored.")
    audit_timeout_s: float = Field(default=3.0, gt=0, le=60, description="The record has taken an event by then.")
    audit_arguments: Literal["redacted", "none"] = Field(default="redacted", description="What of them is recorded.")
    audit_redact: list[str] = Field(default=[], description="Further parts of argument names whose values are hidden.")

    @field_validator("audit_redact")
    @classmethod
    def _words(cls, value: list[str]) -> list[str]:
        if any(not word.strip() for word in value):
            raise ValueError("an empty word would hide everything; remove it")
        return value
