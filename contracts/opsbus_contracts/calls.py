"""Calls: the request models, the parts of a reply and the headers both carry. Carrying them out is the kit's matter.

A reply is several messages on the caller's inbox: any number of ``heartbeat``, ``progress`` and ``log``, then exactly
one of ``ok``, ``input_required`` or ``error``. The body of ``ok`` and ``input_required`` is the MCP result, byte for
byte; the body of ``error`` is an ErrorBody; the body of ``heartbeat`` is empty.
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from opsbus_contracts.model import Message


class Header(StrEnum):
    """Header names. NATS headers keep their case (ADR-4)."""

    CALL = "Opsbus-Call"
    """Request: the call id, 32 hex digits, one through every stage and attempt."""
    ATTEMPT = "Opsbus-Attempt"
    """Request: 1, 2, ... counts dispatches of the same call (fail-over)."""
    DEADLINE = "Opsbus-Deadline"
    """Request: absolute, Unix milliseconds."""
    IDENTITY = "Opsbus-Identity"
    """Request: the identity token (identity.py)."""
    IDEMPOTENCY_KEY = "Idempotency-Key"
    """Request: the caller's key; a repeated key returns the first outcome."""
    APPROVAL = "Opsbus-Approval"
    """Request: how the policy wants the tool approved: ``none``, ``confirm`` (the default) or ``two_person``."""
    POLICY = "Opsbus-Policy"
    """Request: digest of the policy in force; with ``two_person`` alone, for an approval holds for one policy."""
    TRACEPARENT = "traceparent"
    TRACESTATE = "tracestate"
    STATUS = "Opsbus-Status"
    """Reply: a Status."""
    INSTANCE = "Opsbus-Instance"
    """Reply: the worker instance that speaks."""
    ERROR_CODE = "Opsbus-Error-Code"
    """Reply: an ErrorCode with ``error``; ``tool_error`` with an ``ok`` whose result has ``isError: true``."""
    EXECUTED = "Opsbus-Executed"
    """Reply, final only: an Executed."""
    REPLAYED = "Opsbus-Replayed"
    """Reply: ``true`` when the outcome is a stored one of the same idempotency key."""
    APPROVER = "Opsbus-Approver"
    """Reply: who else approved the call, as the record names them."""
    MSG_ID = "Nats-Msg-Id"


class Status(StrEnum):
    """What a reply message is."""

    HEARTBEAT = "heartbeat"
    PROGRESS = "progress"
    LOG = "log"
    OK = "ok"
    INPUT_REQUIRED = "input_required"
    ERROR = "error"


FINAL = frozenset({Status.OK, Status.INPUT_REQUIRED, Status.ERROR})
"""The statuses that end a call."""

TOOL_ERROR = "tool_error"
"""``Opsbus-Error-Code`` of an ``ok`` reply whose result has ``isError: true``."""

HEARTBEAT_EVERY_S = 1.0
"""A running or queued call sends a heartbeat this often, from this long on. Seconds."""

SILENCE_MAX_S = 4.0
"""After this long without any message a worker counts as lost. Seconds."""

BODY_BYTES_MAX = 900_000
"""What the kit and the edge publish at most in one message: NATS' 1 MiB less headers. Bytes."""


class ClientInfo(Message):
    """The MCP client as it declared itself."""

    name: str = ""
    version: str = ""
    protocol: str = Field(default="", description="MCP protocol version of the request; empty for REST.")
    capabilities: dict[str, Any] = Field(default_factory=dict, description="MCP client capabilities, as declared.")


class Request(Message):
    """What every request to a worker may carry beside its own fields."""

    client: ClientInfo = Field(default_factory=ClientInfo)
    input_responses: dict[str, Any] | None = Field(default=None, description="Answers by key of inputRequests (MRTR).")
    request_state: str | None = Field(
        default=None, description="The state this worker gave with input_required, unsealed."
    )
    log_level: str | None = Field(
        default=None, description="Least level of log messages the client asked for; None: none."
    )
    progress: bool = Field(default=False, description="The client wants progress.")


class ToolCall(Request):
    """``tool.<service>.<tool>``: run a tool. The tool is the subject's last token."""

    arguments: dict[str, Any] = Field(default_factory=dict)


class ResourceRead(Request):
    """``mcp.<service>.resources_read``."""

    uri: str = Field(min_length=1, max_length=2048)


class PromptGet(Request):
    """``mcp.<service>.prompts_get``. The name is without the service's prefix."""

    name: str = Field(min_length=1, max_length=128)
    arguments: dict[str, str] = Field(default_factory=dict)


class CompletionComplete(Request):
    """``mcp.<service>.completion_complete``: ``ref`` is MCP's, its prompt name without the service's prefix."""

    ref: dict[str, str]
    argument: dict[str, str] = Field(description="``{name, value}``")
    context: dict[str, str] = Field(default_factory=dict, description="Arguments already resolved, by name.")


class Progress(Message):
    """Body of a ``progress`` reply. ``progress`` rises with every message of a call."""

    progress: float
    total: float | None = None
    message: str | None = None


class LogMessage(Message):
    """Body of a ``log`` reply; ``level`` is MCP's (RFC 5424 names)."""

    level: str
    data: Any
    logger: str | None = None


class Cancel(Message):
    """``cancel.<service>``: every instance hears it, the one that runs the call ends it."""

    call: str = Field(description="The call id.")
    reason: str = ""
