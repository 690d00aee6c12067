"""Tokens of a company's identity provider: this edge as an OAuth 2.1 resource server."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from opsbus.settings import Settings

Algorithm = Literal["RS256", "ES256", "EdDSA"]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OAuthSettings(Settings):
    """Part of EdgeSettings. Nothing here is on until ``oauth_issuer`` is set."""

    oauth_issuer: str = Field(default="", max_length=1_000, description="``iss`` of the provider's tokens, exactly.")
    oauth_jwks_url: str = Field(default="", max_length=1_000, description="Where the provider's keys are: https://...")
    oauth_resource: str = Field(
        default="",
        max_length=1_000,
        description="URL of this edge's /mcp as clients know it; ``aud`` of tokens.",
    )
    oauth_authorization_servers: list[str] = Field(
        default=[], max_length=20, description="Told to clients; the issuer unless given."
    )
    oauth_algorithms: list[Algorithm] = Field(default=["RS256", "ES256", "EdDSA"], min_length=1)
    oauth_leeway_s: float = Field(default=5.0, ge=0, le=120, description="Clocks may differ this much.")
    oauth_jwks_refresh_s: float = Field(default=300.0, ge=5, le=86_400, description="Between two looks at the keys.")
    oauth_jwks_max_age_s: float = Field(
        default=86_400.0, ge=60, le=30 * 86_400, description="Keys are believed this long while the provider is away."
    )
    oauth_role_claims: list[str] = Field(
        default=["roles", "groups", "realm_access.roles"], max_length=20, description="Claims that hold roles, by path."
    )
    oauth_roles: dict[str, list[str]] = Field(
        default={}, max_length=10_000, description="Roles by value of such a claim; without: the values are the roles."
    )
    oauth_scopes_required: bool = Field(
        default=False, description="A token's scopes narrow what its roles permit; a missing one is asked for (403)."
    )
    oauth_scopes: dict[str, list[str]] = Field(
        default={}, max_length=1_000, description="Permission globs by scope; without: a scope is one itself."
    )

    @property
    def oauth(self) -> bool:
        """Whether tokens of a provider are taken."""
        return bool(self.oauth_issuer)

    @property
    def oauth_metadata_url(self) -> str:
        """Of the metadata of RFC 9728 for ``oauth_resource``."""
        parts = urlsplit(self.oauth_resource)
        return f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path.rstrip('/')}"

    @field_validator("oauth_jwks_url", "oauth_resource")
    @classmethod
    def _oauth_urls(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("must be an https:// URL; http:// is for this machine alone")
        if parts.fragment or parts.username:
            raise ValueError("must have no fragment and no user")
        return value

    @field_validator("oauth_role_claims")
    @classmethod
    def _claim_paths(cls, value: list[str]) -> list[str]:
        if not all(part for path in value for part in path.split(".")):
            raise ValueError("a claim's path reads like realm_access.roles")
        return value

    @model_validator(mode="after")
    def _oauth_is_whole(self) -> Self:
        given = {name for name in ("oauth_issuer", "oauth_jwks_url", "oauth_resource") if getattr(self, name)}
        if given and len(given) < 3:
            raise ValueError("oauth_issuer, oauth_jwks_url and oauth_resource are needed together")
        return self
