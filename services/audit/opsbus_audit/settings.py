"""The worker's settings. DATABASE_URL, as everybody spells it, is understood too."""

import os

from pydantic import Field, SecretStr, field_validator

from opsbus import Settings
from opsbus.database import database_url

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

    @field_validator("database_url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        database_url(value.get_secret_value())
        return value
