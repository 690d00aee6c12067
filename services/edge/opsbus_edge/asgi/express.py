"""The express lane: modern ``tools/call`` and ``tools/list`` without sessions and models; everything else is delegated.

What is checked is what the SDK checks, by its own functions; what comes out is what it would send.
"""

import time

import orjson

from opsbus import logs
from opsbus_contracts.calls import Status
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge import jsonin
from opsbus_edge.answers import error_of, is_protocol_error, to_jsonrpc_error, to_tool_result
from opsbus_edge.asgi import splice
from opsbus_edge.asgi.envelope import TASKS, Envelope, accepts, parse, to_request, wanted
from opsbus_edge.asgi.exchange import Exchange
from opsbus_edge.asgi.http import (
    App,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    client_address,
    is_json,
    read_body,
    replay,
)
from opsbus_edge.asgi.oauth import step_up
from opsbus_edge.asgi.tasks import answer_task, created
from opsbus_edge.catalog import InvalidCursorError
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face.elicitation import not_declared
from opsbus_edge.model import Caller, OnMessage, Reply, Request, error_body
from opsbus_edge.seal import BadStateError, binding_of
from opsbus_edge.tasks import Handle, declares

log = logs.get("edge")

QUESTIONS_MAX = 20
"""Input requests of one round."""


class Express:
    """The lane of one edge.

    Args:
        edge: The edge's parts.
        others: The application for all that the lane does not take; it gets the request as it came.
    """

    def __init__(self, edge: Edge, others: App) -> None:
        self._edge = edge
        self._others = others

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, headers: dict[str, str]
    ) -> None:
        """Answer a POST to /mcp. Raises BodyError and Disconnected of read_body."""
        settings = self._edge.settings
        body = await read_body(receive, headers, settings.body_bytes_max, settings.body_timeout_s)
        if not is_json(headers):
            error = error_body(
                ErrorCode.INVALID_REQUEST, "the body must be JSON", hint="Send Content-Type: application/json."
            )
            await answer_error(send, error, 415)
            return
        try:
            decoded = jsonin.loads(body, settings.json_depth_max)
            if caller.scopes is not None and await self._stepped_up(decoded, caller, send):
                return
            if not wanted(headers) or not all(accepts(headers)):
                await self._others(scope, replay(body, receive), send)
                return
            envelope = parse(decoded, headers)
            request = None
            if envelope is not None and envelope.method == "tools/call":
                request = to_request(envelope, self._edge.catalog, caller, headers)
        except jsonin.BadJsonError as error:
            await answer(send, 400, _not_json(error))
            return
        if envelope is not None and envelope.method == "tools/list":
            await self._list(envelope, caller, send)
        elif envelope is not None and envelope.method in TASKS and self._edge.tasks is not None:
            address = client_address(scope)
            await answer(send, *await answer_task(self._edge, self._edge.tasks, envelope, headers, caller, address))
        elif envelope is not None and request is not None:
            request.address = client_address(scope)
            await self._call(envelope, request, receive, send)
        else:
            await self._others(scope, replay(body, receive), send)

    async def _stepped_up(self, decoded: object, caller: Caller, send: Send) -> bool:
        """Whether the request was answered: its token lacks the scope that it needs."""
        if not isinstance(decoded, dict) or not isinstance(params := decoded.get("params"), dict):
            return False
        target = params.get("uri" if decoded.get("method") == "resources/read" else "name")
        refused = step_up(self._edge.settings, self._edge.catalog, caller, str(decoded.get("method")), target)
        if refused is None:
            return False
        await answer_error(send, refused[0], 403, refused[1])
        return True

    async def _list(self, envelope: Envelope, caller: Caller, send: Send) -> None:
        started = time.perf_counter()
        cursor = envelope.params.get("cursor")
        status, outcome = 200, "ok"
        try:
            if not isinstance(cursor, str | None):
                raise InvalidCursorError("the cursor must be a string")
            listing = self._edge.catalog.tools_page(caller, cursor)
            body = splice.response(envelope.id, splice.list_result(listing, self._edge.settings.list_ttl_ms))
        except InvalidCursorError as error:
            refused = error_body(ErrorCode.INVALID_REQUEST, str(error), hint="Begin without a cursor.")
            outcome, (status, body) = refused.code.value, _rpc_error(envelope.id, refused)
        await answer(send, status, body)
        self._edge.metrics.request("tools/list", outcome, time.perf_counter() - started)

    async def _call(self, envelope: Envelope, request: Request, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send, streams=True, keep_alive_s=self._edge.settings.keep_alive_s)
        async with exchange:
            refused = self._unseal(request)
            if refused is not None:
                await exchange.finish(*_rpc_error(envelope.id, refused))
                return
            reply = await self._run(request, _forwarder(envelope, request, exchange))
            if isinstance(reply, Handle):
                await exchange.finish(200, splice.response(envelope.id, created(reply)))
            else:
                await exchange.finish(*self._answer(envelope, request, reply))

    async def _run(self, request: Request, on_message: OnMessage | None) -> Reply | Handle:
        """Clients that can poll get a task when the call takes long."""
        tasks = self._edge.tasks
        if tasks is not None and declares(request.client.capabilities):
            return await tasks.runner.run(request, on_message)
        return await self._edge.pipeline.run(request, on_message)

    def _unseal(self, request: Request) -> ErrorBody | None:
        if request.request_state is None:
            return None
        try:
            request.request_state = self._edge.sealer.open(request.request_state, **binding_of(request))
        except BadStateError as error:
            log.warning("request state refused", why=str(error), tool=request.target[:64], sub=request.caller.sub)
            return error_body(
                ErrorCode.INVALID_REQUEST,
                "The requestState is invalid or has expired.",
                hint="Make the request anew, without requestState and inputResponses.",
            )
        return None

    def _answer(self, envelope: Envelope, request: Request, reply: Reply) -> tuple[int, bytes]:
        try:
            if reply.status is Status.OK:
                return 200, splice.response(envelope.id, splice.tool_result(reply.body))
            if reply.status is Status.INPUT_REQUIRED:
                return self._question(envelope, request, reply)
            error = error_of(reply)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            error = _bad_reply(reply)
        return _tool_error(envelope.id, error)

    def _question(self, envelope: Envelope, request: Request, reply: Reply) -> tuple[int, bytes]:
        """Questions go to the client with the worker's state sealed, if it said that it can answer them."""
        result = orjson.loads(reply.body)
        questions, state = result.get("inputRequests", {}), result.get("requestState")
        if not isinstance(questions, dict) or len(questions) > QUESTIONS_MAX or not isinstance(state, str | None):
            return _tool_error(envelope.id, _bad_reply(reply))
        refused = not_declared(questions, request.client.capabilities)
        if refused is not None:
            return _tool_error(envelope.id, refused)
        result["resultType"] = "input_required"
        if state is not None:
            result["requestState"] = self._edge.sealer.seal(state, **binding_of(request))
        return 200, splice.response(envelope.id, splice.tool_result(orjson.dumps(result)))


def _not_json(error: jsonin.BadJsonError) -> bytes:
    data = {"code": ErrorCode.INVALID_REQUEST.value, "hint": jsonin.HINT, "executed": "no"}
    body = {"code": -32700, "message": str(error), "data": data}
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": body})


def _forwarder(envelope: Envelope, request: Request, exchange: Exchange) -> OnMessage | None:
    """Progress and logs become notifications on the stream, if the client asked for them."""
    token = envelope.progress_token
    if token is None and request.log_level is None:
        return None

    async def forward(status: Status, body: bytes) -> None:
        params = orjson.loads(body)
        if status is Status.LOG and request.log_level is not None:
            await exchange.event(splice.notification("notifications/message", params))
        elif status is Status.PROGRESS and token is not None:
            await exchange.event(splice.notification("notifications/progress", {**params, "progressToken": token}))

    return forward


def _tool_error(request_id: str | int, error: ErrorBody) -> tuple[int, bytes]:
    if is_protocol_error(error):
        return _rpc_error(request_id, error)
    return 200, splice.response(request_id, splice.tool_result(to_tool_result(error)))


def _rpc_error(request_id: str | int, error: ErrorBody) -> tuple[int, bytes]:
    code, message, data, status = to_jsonrpc_error(error)
    return status, splice.error(request_id, code, message, data)


def _bad_reply(reply: Reply) -> ErrorBody:
    return error_body(
        ErrorCode.BAD_REPLY,
        "The worker's answer is not a valid MCP result.",
        hint="Tell the team that owns it; the call itself has run.",
        executed=reply.executed,
        details={"instance": reply.instance},
    )
