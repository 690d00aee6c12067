"""How callers prove who they are."""

from pathlib import Path

from pydantic import Field, field_validator

from opsbus.settings import Settings

ANONYMOUS_IN_WORDS = "yes, without authentication"
"""What ``allow_anonymous`` must say; nothing shorter opens the door."""


class SignInSettings(Settings):
    """Part of EdgeSettings."""

    jwt_public_key_files: list[Path] = Field(default=[], description="Ed25519 public keys (PEM) that sign bearer JWTs.")
    jwt_secret_files: list[Path] = Field(default=[], description="HS256 secrets, at least 32 bytes, of bearer JWTs.")
    jwt_issuer: str = Field(default="opsbus", min_length=1, description="``iss`` of bearer JWTs.")
    jwt_audience: str = Field(default="opsbus", min_length=1, description="``aud`` of bearer JWTs.")
    allow_anonymous: str = Field(
        default="", description=f'"{ANONYMOUS_IN_WORDS}": requests without a token are served as anonymous_roles.'
    )
    anonymous_roles: list[str] = Field(default=["viewer"])
    stdio_user: str = Field(default="stdio", min_length=1, max_length=256, description="``sub`` of stdio sessions.")
    stdio_roles: list[str] = Field(default=["viewer"])
    api_keys_stale_s: float = Field(
        default=5.0, ge=2, le=60, description="Without word from the bus for this long, no API key is believed: 503."
    )

    @field_validator("allow_anonymous")
    @classmethod
    def _in_words(cls, value: str) -> str:
        if value not in ("", ANONYMOUS_IN_WORDS):
            raise ValueError(f'must be empty or say "{ANONYMOUS_IN_WORDS}"')
        return value

    @property
    def anonymous(self) -> bool:
        """Whether requests without a token are served."""
        return self.allow_anonymous == ANONYMOUS_IN_WORDS
