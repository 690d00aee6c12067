"""Who is let in and who is shut out: API keys, quarantine and approvals, as they stand in their buckets.

Checking them is the edge's and the kit's matter; writing them the keeper's, and of approvals the approvals worker's.
"""

from enum import StrEnum
from hashlib import sha256

from pydantic import Field

from opsbus_contracts.model import Message


class ApiKey(Message):
    """``$KV.APIKEYS.<id>``. The key itself, ``opsbus_<id>_<secret>``, is shown once and kept nowhere."""

    id: str = Field(pattern=r"^[a-z0-9]{12}$")
    owner: str = Field(min_length=1, max_length=256, description="``sub`` of its calls.")
    roles: list[str] = Field(default_factory=list)
    description: str = Field(default="", max_length=256)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 hex of the secret, 256 random bits.")
    previous_digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="Before the last rotation.")
    previous_until: int = Field(default=0, ge=0, description="The previous secret is good until then. Unix seconds.")
    created: int = Field(ge=0, description="Unix seconds.")
    rotated: int = Field(default=0, ge=0, description="Unix seconds; 0: never.")
    expires: int = Field(default=0, ge=0, description="Unix seconds; 0: never.")
    revoked: int = Field(default=0, ge=0, description="Unix seconds; 0: it is in force.")


class KeyUse(Message):
    """``$KV.KEYUSE.<id>``: when an API key was used last, to the minute."""

    last_used: int = Field(ge=0, description="Unix seconds.")
    address: str = ""


class QuarantineKind(StrEnum):
    """What can be shut out."""

    CALLER = "caller"
    KEY = "key"
    TOOL = "tool"
    WORKER = "worker"
    """One instance."""
    SERVICE = "service"


class Quarantine(Message):
    """``$KV.QUARANTINE.<kind>.<digest>``: nothing goes to or comes from the target until it expires."""

    kind: QuarantineKind
    target: str = Field(min_length=1, max_length=256, description="``sub``, key id, MCP tool name, instance, service.")
    reason: str = Field(min_length=1, max_length=1_000)
    by: str = Field(default="", max_length=256)
    since_ms: int = Field(ge=0, description="Unix milliseconds.")
    expires_ms: int = Field(default=0, ge=0, description="Unix milliseconds; 0: until it is lifted.")


def quarantine_key(kind: QuarantineKind, target: str) -> str:
    """The bucket's key: ``caller.<digest>``; targets may hold what a key cannot."""
    return f"{kind.value}.{sha256(target.encode()).hexdigest()[:32]}"


class ApprovalRequest(Message):
    """``$KV.APPROVALS.<service>.<id>``: a call that waits for a second person. It holds for what it names alone."""

    service: str
    id: str = Field(pattern=r"^[0-9a-f]{20}$", description="Of caller, tool and arguments.")
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$", description="Of this request: a decision quotes it.")
    tool: str = Field(max_length=200, description="MCP name.")
    call: str = Field(max_length=64, description="The call that waits.")
    caller: str = Field(max_length=256, description="``sub``.")
    recorded_as: str = Field(default="", max_length=256, description="The caller in the record, where not ``sub``.")
    arguments_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    plan: str = Field(max_length=20_000, description="What would be done, for who decides.")
    version: str = Field(default="", description="Of the object that would be changed.")
    policy: str = Field(default="", description="Digest of the policy in force.")
    requested_ms: int = Field(ge=0, description="Unix milliseconds.")
    expires_ms: int = Field(ge=0, description="Unix milliseconds.")


class ApprovalDecision(Message):
    """``$KV.DECISIONS.<service>.<id>``."""

    nonce: str = Field(pattern=r"^[0-9a-f]{32}$", description="Of the request that was decided.")
    request: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 hex of the request as it was decided on.")
    approved: bool
    approver: str = Field(max_length=256, description="``sub``.")
    recorded_as: str = Field(default="", max_length=256, description="The approver in the record, where not ``sub``.")
    comment: str = Field(default="", max_length=1_000)
    decided_ms: int = Field(ge=0, description="Unix milliseconds.")
