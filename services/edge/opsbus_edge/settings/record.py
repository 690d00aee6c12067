"""What is recorded, and how."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from opsbus.settings import Settings
from opsbus_edge.redact import path_rule, pattern


class RecordSettings(Settings):
    """Part of EdgeSettings."""

    audit_buffer_max: int = Field(
        default=10_000, ge=10, le=1_000_000, description="Events that wait in memory; without a spool the bound."
    )
    audit_spool_folder: Path | None = Field(
        default=None, description="Where events wait on disk, and outlive a process that is killed. None: in memory."
    )
    audit_spool_bytes_max: int = Field(
        default=256 * 1024 * 1024, ge=1024 * 1024, le=1 << 40, description="Size at which new calls are refused."
    )
    audit_timeout_s: float = Field(default=3.0, gt=0, le=60, description="The record has taken an event by then.")
    audit_arguments: Literal["redacted", "none"] = Field(default="redacted", description="What of them is recorded.")
    audit_redact: list[str] = Field(default=[], description="Further parts of argument names whose values are hidden.")
    audit_redact_paths: list[str] = Field(
        default=[], max_length=1_000, description="Places whose values are hidden: [tool glob:]spec.env.*.value"
    )
    audit_redact_patterns: list[str] = Field(
        default=[], max_length=100, description="Regular expressions; what matches in a text is hidden."
    )
    audit_digest_key_file: Path | None = Field(
        default=None,
        description="At least 32 bytes, the same on every edge: equal hidden values can be recognised by their mark.",
    )

    audit_personal: Literal["clear", "encrypted"] = Field(
        default="clear", description="Caller, client and address: encrypted under a key of the person's own, or not."
    )

    @field_validator("audit_redact")
    @classmethod
    def _words(cls, value: list[str]) -> list[str]:
        if any(not word.strip() for word in value):
            raise ValueError("an empty word would hide everything; remove it")
        return value

    @field_validator("audit_redact_paths")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        for one in value:
            path_rule(one)
        return value

    @field_validator("audit_redact_patterns")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        return [pattern(one) for one in value]
