"""Sign-in with a directory's password (LDAP), and the tokens this edge gives for it."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from opsbus.settings import Settings

CLEAR_IN_WORDS = "yes, passwords in the clear"
"""What ``ldap_without_tls`` must say; nothing shorter opens the door."""


class DirectorySettings(Settings):
    """Part of EdgeSettings."""

    ldap_url: str = Field(default="", description="ldaps://dc.shop.example, or ldap:// with ldap_starttls.")
    ldap_starttls: bool = Field(default=False, description="Begin TLS on an ldap:// connection before anything else.")
    ldap_without_tls: str = Field(
        default="", description=f'"{CLEAR_IN_WORDS}": ldap:// without TLS, on a test bench alone.'
    )
    ldap_ca_file: Path | None = Field(default=None, description="Certificates to trust, PEM; none: the system's.")
    ldap_bind_dn: str = Field(default="", max_length=1024, description="Who looks users up; empty: anonymously.")
    ldap_bind_password: SecretStr = Field(default=SecretStr(""), description="Of ldap_bind_dn.")
    ldap_user_base: str = Field(default="", max_length=1024, description="Users are below it: ou=people,dc=shop.")
    ldap_user_filter: str = Field(
        default="(uid={user})", max_length=1024, description="Finds one user; {user}: the name that was typed."
    )
    ldap_sub_attribute: str = Field(
        default="uid", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$", description="Of the user: becomes sub."
    )
    ldap_group_base: str = Field(
        default="", max_length=1024, description="Groups are below it; empty: the user's memberOf says all."
    )
    ldap_group_filter: str = Field(
        default="(member={dn})", max_length=1024, description="Finds a user's groups; {dn}, {user}."
    )
    ldap_group_roles: dict[str, list[str]] = Field(
        default={}, max_length=1_000, description="Roles by the DN of a group. Who is in none of them gets no token."
    )
    ldap_timeout_s: float = Field(default=5.0, gt=0, le=30, description="The directory has answered by then.")
    ldap_concurrency: int = Field(default=4, ge=1, le=64, description="Sign-ins at once; four times as many wait.")
    token_key_file: Path | None = Field(
        default=None, description="Ed25519 private key, PEM, that signs tokens; the same on every edge."
    )
    token_lifetime_s: float = Field(default=900, ge=60, le=43_200, description="How long a token is good.")
    sign_in_failures_per_user: int = Field(default=10, ge=1, le=1_000, description="In sign_in_window_s; then 429.")
    sign_in_failures_per_source: int = Field(default=50, ge=1, le=10_000, description="Per IP address, likewise.")
    sign_in_window_s: float = Field(default=300, ge=1, le=86_400, description="Failures count for so long.")

    @model_validator(mode="after")
    def _directory_is_whole(self) -> Self:
        if self.ldap_without_tls not in ("", CLEAR_IN_WORDS):
            raise ValueError(f'ldap_without_tls must be empty or say "{CLEAR_IN_WORDS}"')
        if not self.ldap_url:
            return self
        parts = urlsplit(self.ldap_url)
        if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or parts.username or parts.path not in ("", "/"):
            raise ValueError("ldap_url must be ldaps://host or ldap://host, with a port where needed and nothing else")
        if parts.scheme == "ldap" and not self.ldap_starttls and not self.ldap_without_tls:
            raise ValueError("ldap_url without TLS: write ldaps://, or set ldap_starttls")
        if parts.scheme == "ldaps" and self.ldap_starttls:
            raise ValueError("ldap_starttls is for ldap://; ldaps:// begins with TLS anyway")
        for name in ("ldap_user_base", "ldap_group_roles", "token_key_file"):
            if not getattr(self, name):
                raise ValueError(f"{name} is needed with ldap_url")
        if "{user}" not in self.ldap_user_filter:
            raise ValueError("ldap_user_filter must contain {user}")
        if self.ldap_group_base and not ("{dn}" in self.ldap_group_filter or "{user}" in self.ldap_group_filter):
            raise ValueError("ldap_group_filter must contain {dn} or {user}")
        if bool(self.ldap_bind_dn) != bool(self.ldap_bind_password.get_secret_value()):
            raise ValueError("ldap_bind_dn and ldap_bind_password are needed together")
        return self
