"""HTTP answers that the MCP face gives itself, outside the SDK: a JSON-RPC error with a status."""

from typing import Any

import orjson
from starlette.responses import Response

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.answers import LEGACY, to_jsonrpc_error
from opsbus_edge.model import error_body

INVALID_REQUEST_RPC = -32600


def rpc_response(
    error: ErrorBody, status: int, *, code: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The error as a JSON-RPC answer to no particular request."""
    found, message, data, _ = to_jsonrpc_error(error, LEGACY)
    body: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": found if code is None else code, "message": message, "data": data},
    }
    return Response(orjson.dumps(body), status_code=status, headers=headers, media_type="application/json")


def session_gone() -> Response:
    """404: what makes a client of the older eras start a session anew."""
    error = error_body(
        ErrorCode.NOT_FOUND, "Session not found", hint="It has ended, or its edge has. Initialize a new session."
    )
    return rpc_response(error, 404, code=INVALID_REQUEST_RPC)


def too_large(bytes_max: int) -> Response:
    """413."""
    error = error_body(
        ErrorCode.REQUEST_TOO_LARGE, f"The request's body is over {bytes_max} bytes.", hint="Send less at once."
    )
    return rpc_response(error, 413)
