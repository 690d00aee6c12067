"""The error shape and the list of codes, with what each means over MCP and over HTTP. No exceptions live here."""

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from opsbus_contracts.model import Message


class Executed(StrEnum):
    """Whether the call had its effect. Never guessed: silence is ``unknown``."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class ErrorCode(StrEnum):
    """Every code an error may carry."""

    INVALID_REQUEST = "invalid_request"
    INVALID_ARGUMENTS = "invalid_arguments"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN_TOOL = "unknown_tool"
    UNKNOWN_RESOURCE = "unknown_resource"
    UNKNOWN_PROMPT = "unknown_prompt"
    UNKNOWN_METHOD = "unknown_method"
    MISSING_CAPABILITY = "missing_capability"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PRECONDITION_FAILED = "precondition_failed"
    CONFIRMATION_REQUIRED = "confirmation_required"
    DECLINED = "declined"
    DUPLICATE_IN_PROGRESS = "duplicate_in_progress"
    RATE_LIMITED = "rate_limited"
    QUARANTINED = "quarantined"
    BUSY = "busy"
    NO_WORKER = "no_worker"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OUTCOME_UNKNOWN = "outcome_unknown"
    CANCELLED = "cancelled"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    BACKEND_ERROR = "backend_error"
    REQUEST_TOO_LARGE = "request_too_large"
    RESULT_TOO_LARGE = "result_too_large"
    BAD_REPLY = "bad_reply"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, value: object) -> "ErrorCode | None":
        """A code that a later release added reads as ``internal``, so that an old reader still gets the message."""
        return cls.INTERNAL if isinstance(value, str) else None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core))
        schema["x-extensible-enum"] = True
        return schema


class CodeInfo(NamedTuple):
    """What a code means to callers."""

    http: int
    """Status over REST."""
    rpc: int | None
    """JSON-RPC error code over MCP; None: a tool call answers with an ``isError`` result instead."""
    retryable: bool
    """Whether the same call may succeed later, unchanged."""


CODES: dict[ErrorCode, CodeInfo] = {
    ErrorCode.INVALID_REQUEST: CodeInfo(400, -32602, False),
    ErrorCode.INVALID_ARGUMENTS: CodeInfo(422, None, False),
    ErrorCode.UNAUTHENTICATED: CodeInfo(401, -32001, False),
    ErrorCode.FORBIDDEN: CodeInfo(403, -32003, False),
    ErrorCode.UNKNOWN_TOOL: CodeInfo(404, -32602, False),
    ErrorCode.UNKNOWN_RESOURCE: CodeInfo(404, -32602, False),
    ErrorCode.UNKNOWN_PROMPT: CodeInfo(404, -32602, False),
    ErrorCode.UNKNOWN_METHOD: CodeInfo(404, -32601, False),
    ErrorCode.MISSING_CAPABILITY: CodeInfo(400, -32021, False),
    ErrorCode.NOT_FOUND: CodeInfo(404, None, False),
    ErrorCode.CONFLICT: CodeInfo(409, None, False),
    ErrorCode.PRECONDITION_FAILED: CodeInfo(412, None, False),
    ErrorCode.CONFIRMATION_REQUIRED: CodeInfo(428, None, False),
    ErrorCode.DECLINED: CodeInfo(409, None, False),
    ErrorCode.DUPLICATE_IN_PROGRESS: CodeInfo(409, None, True),
    ErrorCode.RATE_LIMITED: CodeInfo(429, -32006, True),
    ErrorCode.QUARANTINED: CodeInfo(403, -32003, False),
    ErrorCode.BUSY: CodeInfo(503, None, True),
    ErrorCode.NO_WORKER: CodeInfo(503, None, True),
    ErrorCode.DEADLINE_EXCEEDED: CodeInfo(504, None, False),
    ErrorCode.OUTCOME_UNKNOWN: CodeInfo(504, None, False),
    ErrorCode.CANCELLED: CodeInfo(499, None, False),
    ErrorCode.BACKEND_UNAVAILABLE: CodeInfo(502, None, True),
    ErrorCode.BACKEND_ERROR: CodeInfo(502, None, False),
    ErrorCode.REQUEST_TOO_LARGE: CodeInfo(413, -32600, False),
    ErrorCode.RESULT_TOO_LARGE: CodeInfo(507, None, False),
    ErrorCode.BAD_REPLY: CodeInfo(502, None, False),
    ErrorCode.AUDIT_UNAVAILABLE: CodeInfo(503, None, True),
    ErrorCode.UNAVAILABLE: CodeInfo(503, None, True),
    ErrorCode.INTERNAL: CodeInfo(500, None, False),
}


class ErrorBody(Message):
    """The body of a reply whose ``Opsbus-Status`` is ``error``, and the ``structuredContent`` a client sees."""

    code: ErrorCode
    message: str = Field(description="One sentence: what is wrong.")
    retryable: bool = Field(default=False, description="The same call may succeed later, unchanged.")
    hint: str = Field(default="", description="One sentence: what to do.")
    did_you_mean: list[str] = Field(default_factory=list, description="Names near to the one given.")
    executed: Executed = Field(default=Executed.NO, description="Whether the call had its effect.")
    retry_after_ms: int | None = Field(default=None, ge=0)
    details: dict[str, Any] = Field(default_factory=dict, description="Facts for a program, by name.")
