"""Who is calling: the claims of the short-lived token in ``Opsbus-Identity`` (a JWT, EdDSA, signed by an edge)."""

from typing import Literal

from pydantic import Field

from opsbus_contracts.model import Message

ISSUER = "opsbus-edge"
AUDIENCE = "opsbus-bus"
"""What every ``aud`` begins with; the service follows, so that a token for one is refused by all others."""
ALGORITHM = "EdDSA"
LIFETIME_S = 300
"""Lifetime of an identity token in seconds; the edge mints the next one at half of it."""


def audience(service: str) -> str:
    """``opsbus-bus/k8s``: the only service that takes the token."""
    return f"{AUDIENCE}/{service}"


class Grant(Message):
    """A permission under a condition on the call's arguments. A denial wins over every allowance."""

    effect: Literal["allow", "deny"] = "allow"
    permission: str = Field(min_length=1, max_length=128, description="Glob: ``k8s:*``.")
    where: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Globs by dimension (cluster, namespace, environment, service); all of them must hold.",
    )


class Identity(Message):
    """The caller as the edge proved it. ``permissions`` are globs such as ``k8s:*``."""

    iss: str = ISSUER
    aud: str = AUDIENCE
    sub: str = Field(min_length=1, max_length=256, description="The caller, unique at the issuer.")
    roles: list[str] = Field(default_factory=list)
    permissions: list[str] = Field(
        default_factory=list, description="Permission globs the roles resolved to; one that begins with ! denies."
    )
    grants: list[Grant] = Field(default_factory=list, description="Permissions under conditions on arguments.")
    auth: str = Field(default="", description="How the identity was proved: jwt, api_key, anonymous, stdio.")
    client: str = Field(default="", description="Name of the MCP client, as it says itself.")
    record_as: str = Field(
        default="", description="The caller's name in the record, where that is a pseudonym; events then hold no other."
    )
    iat: int = Field(ge=0, description="Issued at, Unix seconds.")
    exp: int = Field(ge=0, description="Expires at, Unix seconds.")
