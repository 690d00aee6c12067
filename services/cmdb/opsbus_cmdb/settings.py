"""The worker's settings. The names everybody uses for a database and a CMDB (DATABASE_URL, CMDB_URL, CMDB_API_KEY)
are understood too."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from opsbus import Settings
from opsbus.database import database_url
from opsbus_cmdb.netbox.token import CA_FILE, TOKEN, TOKEN_FILE
from opsbus_cmdb.seed import ESTATES

DATABASE_URL = "sqlite:///.opsbus/state/cmdb.sqlite3"


def _environment(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def _path(name: str) -> Path | None:
    given = _environment(name)
    return Path(given) if given else None


class CmdbSettings(Settings):
    """Environment ``OPSBUS_CMDB_*``, section ``cmdb`` of the file."""

    url: str = Field(
        default_factory=lambda: _environment("CMDB_URL"),
        description="A CMDB over HTTP; also CMDB_URL. Empty: the embedded store.",
    )
    api_key: SecretStr = Field(
        default_factory=lambda: SecretStr(_environment("CMDB_API_KEY")),
        description="Its bearer key; also CMDB_API_KEY.",
    )
    netbox_url: str = Field(
        default="", description="A NetBox 4.x that is asked live and only read, in place of the embedded store."
    )
    netbox_token: SecretStr = Field(
        default_factory=lambda: SecretStr(_environment(TOKEN)), description="Its token, v1 or v2; also NETBOX_TOKEN."
    )
    netbox_token_file: Path | None = Field(
        default_factory=lambda: _path(TOKEN_FILE), description="A file with the token; also NETBOX_TOKEN_FILE."
    )
    netbox_ca_file: Path | None = Field(
        default_factory=lambda: _path(CA_FILE),
        description="Certificates to trust for it in place of the system's; also NETBOX_CA_FILE.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=120, description="A request to the CMDB or a statement, at most.")
    body_bytes_max: int = Field(
        default=8_000_000, ge=10_000, le=100_000_000, description="An answer of the CMDB, at most."
    )
    database_url: SecretStr = Field(
        default_factory=lambda: SecretStr(_environment("DATABASE_URL", DATABASE_URL)),
        description="The embedded store: sqlite:///file or postgresql://...; also DATABASE_URL.",
    )
    learn: bool = Field(
        default=True, description="Learn from the Kubernetes worker's events what runs (the embedded store only)."
    )
    tell_owners: bool = Field(default=True, description="Tell the other workers who owns what.")
    owners_check_s: float = Field(
        default=15.0, ge=0.05, le=3600, description="How often it is looked whether an owner changed."
    )
    seed: str = Field(default="", description="Fill an empty embedded store with this practice estate: shop.")

    @field_validator("url", "netbox_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("it must look like https://cmdb.example")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        database_url(value.get_secret_value())
        return value

    @field_validator("seed")
    @classmethod
    def _is_estate(cls, value: str) -> str:
        if value and value not in ESTATES:
            raise ValueError(f"there is no such estate; there are: {', '.join(ESTATES)}")
        return value

    @model_validator(mode="after")
    def _seed_needs_the_store(self) -> Self:
        if self.url and self.netbox_url:
            raise ValueError("url and netbox_url name two CMDBs: set one of them")
        if (self.url or self.netbox_url) and self.seed:
            raise ValueError("seed fills the embedded store, and url names another one: set one of them")
        return self
