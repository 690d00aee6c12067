"""One operation of a client: through the pipeline to a worker, and the reply back as this era says it."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
import orjson

from opsbus import logs
from opsbus_contracts.calls import Status
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge import jsonin
from opsbus_edge.answers import LEGACY, error_of, is_protocol_error, to_tool_result
from opsbus_edge.mcp_face.elicitation import QUESTIONS_MAX, ask_client, not_declared
from opsbus_edge.mcp_face.exchange import Ctx, Exchange, exchange_of, request_for
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import refuse, rpc_error
from opsbus_edge.mcp_face.messages import sender
from opsbus_edge.mcp_face.results import checked, for_era
from opsbus_edge.model import Reply, Request, error_body, new_call
from opsbus_edge.seal import BadStateError

log = logs.get("edge")

ROUNDS_MAX = 20
"""Rounds of questions of one call in a session."""
CLEAN_UP_S = 5.0
"""A cancelled call has this long to tell its worker and the record. Seconds."""


async def operate(face: Face, ctx: Ctx, method: str, target: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the operation; gives the result for the SDK.

    Args:
        method: MCP method.
        target: MCP name or URI.
        params: What goes to the worker: arguments, or a completion's ref, argument and context.

    Raises:
        MCPError: the JSON-RPC error that tells what is wrong.
    """
    exchange = exchange_of(face.edge, ctx)
    try:
        request = request_for(exchange, ctx, method, target, jsonin.dumps(params))
    except jsonin.BadJsonError as error:
        refuse(ErrorCode.INVALID_REQUEST, str(error), hint="Send such a value in another form.", era=exchange.era)
    if exchange.era == LEGACY:
        result = await _in_session(face, ctx, exchange, request)
    else:
        result = await _in_rounds(face, ctx, exchange, request)
    if isinstance(result, dict):
        return for_era(result, exchange.era)
    if is_protocol_error(result, method):
        raise rpc_error(result, exchange.era)
    answer: dict[str, Any] = orjson.loads(to_tool_result(result))
    return answer


async def _in_rounds(face: Face, ctx: Ctx, exchange: Exchange, request: Request) -> dict[str, Any] | ErrorBody:
    """Modern era: a question goes back to the client, with the worker's state sealed."""
    given = ctx.params or {}
    sealed = _Sealed(face, request)
    if isinstance(given.get("inputResponses"), Mapping):
        request.input_responses = jsonin.dumps(given["inputResponses"])
    if given.get("requestState") is not None:
        try:
            request.request_state = sealed.open(str(given["requestState"]))
        except BadStateError as error:
            log.warning("request state refused", why=str(error), method=request.method, sub=request.caller.sub)
            return error_body(
                ErrorCode.INVALID_REQUEST,
                "The requestState is invalid or has expired.",
                hint="Make the request anew, without requestState and inputResponses.",
            )
    result = await _run(face, ctx, exchange, request)
    if isinstance(result, ErrorBody) or result.get("resultType") != "input_required":
        return result
    refused = _refused_questions(result, exchange)
    if refused is not None:
        return refused
    if isinstance(result.get("requestState"), str):
        result["requestState"] = sealed.seal(result["requestState"])
    return result


async def _in_session(face: Face, ctx: Ctx, exchange: Exchange, request: Request) -> dict[str, Any] | ErrorBody:
    """Older eras: the edge asks the client and calls the worker again, until there is a result."""
    closer = _poll_later(face, ctx)
    try:
        for _ in range(ROUNDS_MAX):
            result = await _run(face, ctx, exchange, request)
            if isinstance(result, ErrorBody) or result.get("resultType") != "input_required":
                return result
            refused = _refused_questions(result, exchange)
            if refused is not None:
                return refused
            answers = await ask_client(ctx, result.get("inputRequests") or {}, face.settings.answer_timeout_s)
            if isinstance(answers, ErrorBody):
                return answers
            request.call = new_call()
            request.input_responses = orjson.dumps(answers)
            request.request_state = result.get("requestState")
    finally:
        if closer is not None:
            closer.cancel()
    return error_body(
        ErrorCode.BAD_REPLY,
        f"The worker still asks after {ROUNDS_MAX} rounds of questions.",
        hint="Tell the team that owns it.",
    )


class _Sealed:
    """The sealer, bound to one request."""

    def __init__(self, face: Face, request: Request) -> None:
        sealer, sub, arguments = face.edge.sealer, request.caller.sub, request.params
        bound = {"sub": sub, "method": request.method, "target": request.target}
        self.seal: Callable[[str], str] = partial(sealer.seal, arguments=arguments, **bound)
        self.open: Callable[[str], str] = partial(sealer.open, arguments=arguments, **bound)


def _refused_questions(result: dict[str, Any], exchange: Exchange) -> ErrorBody | None:
    questions = result.get("inputRequests") or {}
    if len(questions) > QUESTIONS_MAX:
        return error_body(
            ErrorCode.BAD_REPLY,
            f"The worker asks {len(questions)} questions at once; {QUESTIONS_MAX} are the most.",
            hint="Tell the team that owns it.",
        )
    return not_declared(questions, exchange.client.capabilities)


async def _run(face: Face, ctx: Ctx, exchange: Exchange, request: Request) -> dict[str, Any] | ErrorBody:
    reply = await _apart(face, request, ctx, exchange)
    if reply.status is Status.ERROR:
        return error_of(reply)
    return checked(request.method, reply.body, reply.executed)


async def _apart(face: Face, request: Request, ctx: Ctx, exchange: Exchange) -> Reply:
    """The pipeline, in a task of its own.

    The SDK cancels by anyio scope, which cancels again at every await until the scope is left. The pipeline must be
    cancelled once, and then have the time to tell the worker and the record.
    """
    task = asyncio.ensure_future(face.edge.pipeline.run(request, sender(exchange, ctx)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            await asyncio.wait({task})
        raise


def _poll_later(face: Face, ctx: Ctx) -> asyncio.TimerHandle | None:
    """Where the edge is set so: a stream is closed after a while, the client comes back for the result (SEP-1699)."""
    close = ctx.close_sse_stream
    if close is None or face.settings.sse_poll_after_s <= 0:
        return None
    tasks = face.tasks
    return asyncio.get_running_loop().call_later(face.settings.sse_poll_after_s, lambda: tasks.spawn(close()))
