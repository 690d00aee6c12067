"""Errors as the SDK raises them: an ErrorBody becomes an MCPError; what nobody foresaw becomes ``internal``."""

import time
from typing import Any, NoReturn

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from opsbus import logs
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.answers import LEGACY, MODERN, to_jsonrpc_error
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.model import error_body

log = logs.get("edge")


def rpc_error(error: ErrorBody, era: str) -> MCPError:
    """The JSON-RPC error that tells a client of this era."""
    code, message, data, _ = to_jsonrpc_error(error, era)
    return MCPError(code, message, data)


def refuse(code: ErrorCode, message: str, *, hint: str, era: str = MODERN, **details: object) -> NoReturn:
    """Raises the JSON-RPC error.

    Raises:
        MCPError: always.
    """
    raise rpc_error(error_body(code, message, hint=hint, details=dict(details)), era)


_PIPELINE_COUNTS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})


def counted(face: Face) -> ServerMiddleware[Any]:
    """Middleware: requests that never reach the pipeline are counted here."""

    async def count(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None or ctx.method in _PIPELINE_COUNTS:
            return await call_next(ctx)
        started = time.perf_counter()
        status = "error"
        try:
            result = await call_next(ctx)
            status = "ok"
            return result
        finally:
            face.edge.metrics.request(ctx.method, status, time.perf_counter() - started)

    return count


async def guard(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware, outermost: no exception's text reaches a client. The SDK's older eras would send it."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except Exception as error:
        log.exception("request failed", error, method=ctx.method)
        raise rpc_error(
            error_body(
                ErrorCode.INTERNAL,
                "The edge failed to answer this request.",
                hint="Try again; if it persists, tell the operators the time and the method.",
            ),
            LEGACY,
        ) from None
