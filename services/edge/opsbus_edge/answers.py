"""An ErrorBody as MCP and HTTP say it. Which codes are protocol errors and which are results: contracts/errors.py."""

from typing import Any

import orjson

from opsbus_contracts.calls import Status
from opsbus_contracts.errors import CODES, ErrorBody, ErrorCode
from opsbus_edge.model import Reply

MODERN = "modern"
"""Era of 2026-07-28: stateless."""
LEGACY = "legacy"
"""Eras with an initialize handshake."""

_LEGACY_RESOURCE_NOT_FOUND = -32002
_INTERNAL = -32603
_HTTP_OF_RPC = {-32602: 400, -32600: 400, -32601: 404, -32021: 400, -32020: 400}


def error_of(reply: Reply) -> ErrorBody:
    """The ErrorBody of an ``error`` reply. The dispatcher has already checked that it is one."""
    return ErrorBody.model_validate_json(reply.body)


def is_protocol_error(error: ErrorBody, method: str = "tools/call") -> bool:
    """Whether ``error`` is a JSON-RPC error; otherwise a tool call answers with an ``isError`` result.

    Other methods than tools/call have no error results: there every error is a JSON-RPC error.
    """
    return method != "tools/call" or CODES[error.code].rpc is not None


def to_jsonrpc_error(error: ErrorBody, era: str = MODERN) -> tuple[int, str, dict[str, Any], int]:
    """``(code, message, data, http_status)``; ``data`` is the ErrorBody itself, plus what the code demands."""
    info = CODES[error.code]
    code = info.rpc if info.rpc is not None else _INTERNAL
    if error.code is ErrorCode.UNKNOWN_RESOURCE and era == LEGACY:
        code = _LEGACY_RESOURCE_NOT_FOUND
    data: dict[str, Any] = error.model_dump(mode="json", exclude_defaults=True, exclude={"message"})
    data["code"] = error.code.value
    data["executed"] = error.executed.value
    if error.code is ErrorCode.MISSING_CAPABILITY and "requiredCapabilities" in error.details:
        data["requiredCapabilities"] = error.details["requiredCapabilities"]
    if error.code is ErrorCode.UNKNOWN_RESOURCE and "uri" in error.details:
        data["uri"] = error.details["uri"]
    http = info.http if error.code in _HTTP_IS_THE_MESSAGE else _HTTP_OF_RPC.get(code, 200)
    return code, error.message, data, http


_HTTP_IS_THE_MESSAGE = frozenset({ErrorCode.UNAUTHENTICATED, ErrorCode.REQUEST_TOO_LARGE})
"""Codes whose HTTP status the specification, not JSON-RPC, demands."""


def to_tool_result(error: ErrorBody) -> bytes:
    """A tools/call result with ``isError: true``: the sentence and the hint as text, the ErrorBody as structure."""
    text = error.message if not error.hint else f"{error.message} {error.hint}"
    structured = error.model_dump(mode="json", exclude_none=True)
    return orjson.dumps(
        {
            "resultType": "complete",
            "content": [{"type": "text", "text": f"{error.code.value}: {text}"}],
            "structuredContent": {"error": structured},
            "isError": True,
        }
    )


def is_error(reply: Reply) -> bool:
    """Whether the reply is an error that the caller must be told in words."""
    return reply.status is Status.ERROR
