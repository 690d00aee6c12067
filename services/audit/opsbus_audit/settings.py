"""The worker's settings. DATABASE_URL, as everybody spells it, is understood too."""

import os
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from opsbus import Settings
from opsbus.database import database_url
from opsbus_audit.retention.rules import RetentionRule

DATABASE_URL = "sqlite:///.opsbus/state/audit.sqlite3"


def default_database_url() -> str:
    """DATABASE_URL of the environment, or a file in the lab's data folder."""
    return os.environ.get("DATABASE_URL", "").strip() or DATABASE_URL


class AuditSettings(Settings):
    """Environment ``OPSBUS_AUDIT_*``, section ``audit`` of the file."""

    database_url: SecretStr = Field(
        default_factory=lambda: SecretStr(default_database_url()),
        description="The store: sqlite:///file or postgresql://...; also DATABASE_URL.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=25, description="A statement, at most.")
    batch_max: int = Field(default=1_000, ge=1, le=2_000, description="Events in one transaction, at most.")

    close_after_s: float = Field(
        default=60.0, ge=0.1, le=86_400, description="After its deadline, a call without an end is closed as unknown."
    )
    gap_after_s: float = Field(
        default=60.0, ge=0.1, le=86_400, description="A number of a source that is missing so long is a gap."
    )
    require_log_read: bool = Field(
        default=False, description="`opsbus audit search` fails where no bus is there to record that the store is read."
    )
    record_workers: bool = Field(
        default=True, description="Workers that join and leave are recorded; false where another audit worker does it."
    )
    retention: list[RetentionRule] = Field(
        default=[], description="How long the store keeps what; the first rule that matches decides. Empty: for ever."
    )
    retention_every_s: float = Field(default=3_600.0, ge=1, le=86_400, description="Between two applications of it.")
    checkpoint_key_file: Path | None = Field(
        default=None, description="Ed25519 key, PEM, that signs checkpoints; none: nothing is signed or let go of."
    )
    checkpoint_origin: str = Field(
        default="opsbus/audit",
        pattern=r"^[^\s+]{1,200}$",
        description="Name of this log, in every checkpoint: best a URL without scheme that is yours.",
    )
    checkpoint_former_keys: list[str] = Field(
        default=[], max_length=20, description="Verifier keys that signed before this key did: name+hash+base64."
    )
    checkpoint_file: Path | None = Field(default=None, description="Every checkpoint is appended to it; none: no file.")
    checkpoint_events: int = Field(default=1_000, ge=1, le=100_000, description="A checkpoint after so many events.")
    checkpoint_every_s: float = Field(default=10.0, ge=0.1, le=3_600, description="And after so long, if any is new.")
    sink_url: SecretStr | None = Field(
        default=None, description="Elasticsearch or OpenSearch that gets a copy: https://user:password@host:9200."
    )
    sink_api_key: SecretStr = Field(default=SecretStr(""), description="Elastic's API key, where one is used.")
    sink_ca: Path | None = Field(default=None, description="Certificates to trust there, PEM; none: the system's.")
    sink_index: str = Field(
        default="opsbus-audit", pattern=r"^[a-z0-9][a-z0-9_.-]{0,100}$", description="Prefix of the indices."
    )

    @field_validator("sink_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("must begin with https:// (or http://)")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        database_url(value.get_secret_value())
        return value
