"""Everything the edge can be set to: ``OPSBUS_EDGE_<NAME>``, or section ``edge`` of the file OPSBUS_CONFIG names."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from opsbus.settings import Settings

ANONYMOUS_IN_WORDS = "yes, without authentication"
"""What ``allow_anonymous`` must say; nothing shorter opens the door."""


class EdgeSettings(Settings):
    """Settings of one edge. Files with keys are read once, at the start."""

    http_port: int = Field(default=8080, ge=0, le=65535, description="0: a free port.")
    allowed_hosts: list[str] = Field(
        default=["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*"],
        description="Host headers that are answered (DNS rebinding); host:* any port; * any host.",
    )
    allowed_origins: list[str] = Field(
        default=["http://localhost", "http://localhost:*", "http://127.0.0.1", "http://127.0.0.1:*"],
        description="Origin headers of browsers that are answered; *: any.",
    )
    body_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Of a request.")
    json_depth_max: int = Field(default=64, ge=8, le=512, description="Nesting of a request's JSON.")
    body_timeout_s: float = Field(default=30.0, gt=0, le=600, description="A request's body has come by then.")
    keep_alive_s: float = Field(default=15.0, gt=0, le=300, description="A silent stream gets a comment this often.")
    connections_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Beyond it the answer is 503 at once.")
    drain_grace_s: float = Field(
        default=0.0, ge=0, le=120, description="On SIGTERM /ready is red this long before requests are refused."
    )

    policy_file: Path | None = Field(default=None, description="Roles and permissions; none: the policy shipped.")
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

    identity_key_file: Path | None = Field(default=None, description="Ed25519 private key (PEM): signs identities.")
    seal_key_file: Path | None = Field(
        default=None, description="Keys that seal request state, one a line, 32 characters or more; the first seals."
    )
    seal_ttl_s: float = Field(default=600.0, gt=0, le=86_400, description="A question may be answered this long.")

    call_timeout_max_s: float = Field(default=600.0, gt=0, le=3600, description="No call takes longer.")
    calls_per_caller: int = Field(default=100, ge=1, le=100_000, description="Calls of one caller at once.")
    calls_in_flight_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Calls at workers at once.")
    answer_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="A session's client answers a question (elicitation ...) by then."
    )
    sse_poll_after_s: float = Field(
        default=0.0, ge=0, le=3600, description="A session's stream is closed after this long, to be polled; 0: never."
    )
    list_page_size: int = Field(default=1_000, ge=1, le=10_000, description="Items on a page of a list.")
    list_ttl_ms: int = Field(default=1_000, ge=0, le=3_600_000, description="Clients may keep a list this long.")
    sessions_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Sessions of older clients at once.")
    session_idle_s: float = Field(default=1_800.0, gt=0, le=86_400, description="A session unused this long ends.")
    audit_buffer_max: int = Field(default=10_000, ge=10, le=1_000_000, description="Events that wait to be stored.")
    audit_timeout_s: float = Field(default=3.0, gt=0, le=60, description="The record has taken an event by then.")
    audit_arguments: Literal["redacted", "none"] = Field(default="redacted", description="What of them is recorded.")
    audit_redact: list[str] = Field(default=[], description="Further parts of argument names whose values are hidden.")

    @field_validator("allow_anonymous")
    @classmethod
    def _in_words(cls, value: str) -> str:
        if value not in ("", ANONYMOUS_IN_WORDS):
            raise ValueError(f'must be empty or say "{ANONYMOUS_IN_WORDS}"')
        return value

    @field_validator("audit_redact")
    @classmethod
    def _words(cls, value: list[str]) -> list[str]:
        if any(not word.strip() for word in value):
            raise ValueError("an empty word would hide everything; remove it")
        return value

    @property
    def anonymous(self) -> bool:
        """Whether requests without a token are served."""
        return self.allow_anonymous == ANONYMOUS_IN_WORDS
