"""Audit events: every step of a call, as CloudEvents on ``audit.<service>.<stage>``.

Storing and proving live in the audit service.
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from opsbus_contracts.errors import ErrorCode, Executed
from opsbus_contracts.events import CloudEvent
from opsbus_contracts.model import Message


class Stage(StrEnum):
    """The step an audit event records."""

    REQUESTED = "requested"
    DENIED = "denied"
    LIMITED = "limited"
    INPUT_REQUIRED = "input_required"
    APPROVED = "approved"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


class PlatformStage(StrEnum):
    """What is recorded of the platform itself, in the same stream and form; ``call`` is an id of its own."""

    SIGN_IN_FAILED = "sign_in_failed"
    KEY_CHANGED = "key_changed"
    """An API key or a signing key was made, rotated or revoked."""
    POLICY_CHANGED = "policy_changed"
    QUARANTINE_CHANGED = "quarantine_changed"
    WORKER_JOINED = "worker_joined"
    WORKER_LEFT = "worker_left"
    PROVISIONED = "provisioned"
    LOG_READ = "log_read"
    EXPORTED = "exported"
    HOLD_CHANGED = "hold_changed"
    """A legal hold was placed or lifted."""
    LET_GO = "let_go"
    """Events were deleted from the store by the retention policy."""
    FORGOTTEN = "forgotten"
    """The key of a person's data was destroyed."""
    GAP_FOUND = "gap_found"
    """Numbers of a source are missing in the record."""
    GAP_CLOSED = "gap_closed"
    """And have come after all."""
    RECORD_AT_ODDS = "record_at_odds"
    """The record's tree is not the one that was signed."""
    FORK_FOUND = "fork_found"
    """A witness saw two records where there should be one."""


ENDS = frozenset({Stage.DENIED, Stage.LIMITED, Stage.COMPLETED, Stage.FAILED, Stage.UNKNOWN, Stage.CANCELLED})
"""The stages that end a call."""


class AuditRecord(Message):
    """``data`` of an audit event. Absent means not known at that stage."""

    stage: Stage | str = Field(description="A Stage, a PlatformStage, or one that a later release added.")
    call: str = Field(description="The call id, one through all stages.")
    seq: int = Field(
        default=0, ge=0, description="Number of this event at its source instance, from 1: a gap is visible."
    )
    actor: str = Field(default="", description="``sub`` of the identity.")
    roles: list[str] = Field(default_factory=list)
    auth: str = Field(default="", description="How the identity was proved.")
    client: str = Field(default="", description="Client name and version, as it says itself.")
    protocol: str = Field(default="", description="MCP version, ``rest`` or ``stdio``.")
    method: str = Field(default="tools/call", description="MCP method.")
    tool: str = Field(default="", description="MCP name of the tool or prompt, or the resource's URI.")
    service: str = ""
    version: str = Field(default="", description="Version of the worker that answered.")
    instance: str = Field(default="", description="Worker instance that answered.")
    mutating: bool = False
    arguments: dict[str, Any] | None = Field(default=None, description="Redacted by policy.")
    arguments_digest: str = Field(
        default="",
        description="SHA-256 hex of the arguments' bytes as received; where something is hidden of them a keyed digest,"
        " `hmac-sha256:` and hex, for a plain one would let guesses be tried.",
    )
    reason: str = Field(default="", description="The caller's reason for a write.")
    change_id: str = ""
    idempotency_key: str = ""
    rule: str = Field(default="", description="The policy line behind the decision.")
    executed: Executed | None = None
    error: ErrorCode | str | None = None
    message: str = Field(default="", description="The error's sentence.")
    attempts: int = Field(default=0, ge=0, description="Dispatches of the call.")
    duration_ms: float | None = Field(default=None, ge=0)
    request_bytes: int = Field(default=0, ge=0)
    result_bytes: int = Field(default=0, ge=0)
    result_digest: str = Field(default="", description="SHA-256 hex of the result's bytes.")
    replayed: bool = Field(default=False, description="The outcome is a stored one of the same idempotency key.")
    trace_id: str = ""
    session: str = Field(default="", description="The MCP session, as a digest.")
    address: str = Field(default="", description="IP address of the client.")
    policy: str = Field(default="", description="Digest of the policy in force.")
    approver: str = Field(default="", description="Who approved: the caller, or somebody else.")
    target: str = Field(default="", description="What was acted on, where it is no tool: a key, a worker, a stream.")
    details: dict[str, Any] | None = Field(default=None, description="Facts for a program, by name.")
    personal: str = Field(
        default="", description="Fields about a person, encrypted under that person's key; ``actor`` is a pseudonym."
    )
    deadline_ms: int = Field(default=0, ge=0, description="Absolute, Unix milliseconds.")


class AuditEvent(CloudEvent):
    """``audit.<service>.<stage>``; ``type`` is ``opsbus.audit.v1.<stage>``, ``subject`` the tool."""

    data: AuditRecord
