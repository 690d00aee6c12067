"""Where the policy stands, and the keys that sign identities and seal state."""

from pathlib import Path

from pydantic import Field

from opsbus.settings import Settings


class PolicySettings(Settings):
    """Part of EdgeSettings."""

    policy_file: Path | None = Field(default=None, description="Roles and permissions; none: the policy shipped.")
    identity_key_file: Path | None = Field(default=None, description="Ed25519 private key (PEM): signs identities.")
    seal_key_file: Path | None = Field(
        default=None, description="Keys that seal request state, one a line, 32 characters or more; the first seals."
    )
    seal_ttl_s: float = Field(default=600.0, gt=0, le=86_400, description="A question may be answered this long.")
