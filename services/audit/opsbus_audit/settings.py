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
    batch_max: int = Field(default=500, ge=1, le=2_000, description="Events in one transaction, at most.")

    retention: list[RetentionRule] = Field(
        default=[], description="How long the store keeps what; the first rule that matches decides. Empty: for ever."
    )
    retention_every_s: float = Field(default=3_600.0, ge=1, le=86_400, description="Between two applications of it.")
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
