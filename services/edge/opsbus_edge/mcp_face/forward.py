"""A session's request that landed here although another edge owns the session: over the bus to the owner and back.

A dead owner (no responders, or silence before the head) is a session that is gone: 404, and the client starts anew.
"""

import asyncio
from collections import deque

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from opsbus import logs
from opsbus.nats_client import flush_twice
from opsbus_contracts.calls import SILENCE_MAX_S, Cancel, Header
from opsbus_contracts.errors import ErrorCode, Executed
from opsbus_contracts.sessions import SessionRequest, SessionResponse
from opsbus_contracts.subjects import inbox_prefix
from opsbus_edge.answers import LEGACY, is_protocol_error, to_jsonrpc_error, to_tool_result
from opsbus_edge.asgi.connection import CERTIFICATE
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face import relay
from opsbus_edge.mcp_face.replies import session_gone, too_large
from opsbus_edge.mcp_face.vouch import vouch
from opsbus_edge.model import Peer, error_body, new_call

log = logs.get("edge")

WAITING_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of one answer that wait for a slow client; over it the answer is given up."""


class LostError(Exception):
    """The owner is silent, or part of its answer is missing."""


class ClientSlowError(Exception):
    """The client does not read; its answer is given up."""


class _Answer:
    """The owner's messages to one request, in order."""

    def __init__(self) -> None:
        self._messages: deque[Msg] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._seq = 0
        self._broken: Exception | None = None

    def push(self, msg: Msg) -> None:
        """A message arrived."""
        headers = msg.headers or {}
        self._seq += 1
        if headers.get("Status") != "503" and headers.get(relay.SEQ) != str(self._seq):
            self._broken = LostError("a part of the answer is missing")
        elif self._bytes > WAITING_BYTES_MAX:
            self._broken = ClientSlowError()
        else:
            self._messages.append(msg)
            self._bytes += len(msg.data)
        self._some.set()

    async def next(self) -> Msg:
        """The next message.

        Raises:
            LostError: the owner is not there, silent, or a message got lost.
            ClientSlowError: too much waits.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            if self._messages:
                msg = self._messages.popleft()
                self._bytes -= len(msg.data)
                if (msg.headers or {}).get("Status") == "503":
                    raise LostError("no such edge")
                return msg
            self._some.clear()
            try:
                await asyncio.wait_for(self._some.wait(), SILENCE_MAX_S)
            except TimeoutError:
                raise LostError(f"silent for {SILENCE_MAX_S:g} s") from None


class Forwarder:
    """Requests of this edge that others answer."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._prefix = f"{inbox_prefix('edge')}.{edge.instance}.http."
        self._answers: dict[str, _Answer] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """On return, answers find their way."""
        self._subscription = await self._edge.nc.subscribe(f"{self._prefix}*", cb=self._route)
        await flush_twice(self._edge.nc)

    async def stop(self) -> None:
        """Takes no more answers."""
        if self._subscription is not None and not self._edge.nc.is_closed:
            await self._subscription.unsubscribe()

    async def _route(self, msg: Msg) -> None:
        answer = self._answers.get(msg.subject[len(self._prefix) :])
        if answer is not None:
            answer.push(msg)

    async def handle(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request with what the owner says."""
        body = await _body(receive)
        if body is None:
            return
        if len(body) > relay.REQUEST_BYTES_MAX:
            await too_large(relay.REQUEST_BYTES_MAX)(scope, receive, send)
            return
        call = new_call()
        answer = self._answers[call] = _Answer()
        gone = asyncio.ensure_future(_disconnected(receive))
        passing = asyncio.ensure_future(self._pass_on(owner, call, answer, scope, receive, send, body))
        try:
            await asyncio.wait({gone, passing}, return_when=asyncio.FIRST_COMPLETED)
            if passing.done():
                passing.result()
        finally:
            del self._answers[call]
            if not passing.done():
                await self._cancel(owner, call)
            for task in (gone, passing):
                task.cancel()
            await asyncio.gather(gone, passing, return_exceptions=True)

    async def _pass_on(
        self, owner: str, call: str, answer: _Answer, scope: Scope, receive: Receive, send: Send, body: bytes
    ) -> None:
        started = _Started(send)
        try:
            await self._publish(owner, call, scope, body)
            while not started.ended:
                await started.take(await answer.next())
        except (LostError, nats.errors.Error, ValidationError, OSError) as error:
            tell = log.warning if started.begun else log.info  # ids of edges that are no more come for a while
            tell("session's edge is lost", owner=owner, error=str(error) or type(error).__name__)
            await self._cancel(owner, call)
            if not started.begun:
                await session_gone()(scope, receive, send)
            else:
                await started.finish(_last_words(body) if started.is_stream else b"")
        except ClientSlowError:
            log.warning("answer given up: the client does not read", owner=owner)
            await self._cancel(owner, call)

    async def _publish(self, owner: str, call: str, scope: Scope, body: bytes) -> None:
        client = scope.get("client")
        peer = Peer(client[0] if client else "", scope.get(CERTIFICATE))
        head = relay.to_header(
            SessionRequest(
                method=scope["method"],
                path=scope["path"],
                headers=relay.end_to_end(scope["headers"]),
                client=peer.address,
            )
        )
        if len(head) > relay.HEADERS_BYTES_MAX:
            raise LostError("the request's headers are too large to pass on")
        voucher = vouch(self._edge.signing.signer, peer, owner, call, head, body)
        headers = {relay.HTTP: head, Header.CALL.value: call, relay.PEER: voucher}
        await self._edge.nc.publish(relay.session_subject(owner), body, reply=self._prefix + call, headers=headers)

    async def _cancel(self, owner: str, call: str) -> None:
        """Tell the owner that nobody listens; it may not be there to hear it."""
        body = Cancel(call=call, reason="the client went away").model_dump_json().encode()
        try:
            await self._edge.nc.publish(relay.cancel_subject(owner), body)
        except (nats.errors.Error, OSError) as error:
            log.warning("cancel not sent", owner=owner, error=str(error) or type(error).__name__)


class _Started:
    """The answer towards the client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.ended = False
        self.is_stream = False

    async def take(self, msg: Msg) -> None:
        """Passes one message of the owner on."""
        headers = msg.headers or {}
        kind = headers.get(Header.STATUS.value)
        if kind == relay.HEAD and not self.begun:
            head = SessionResponse.model_validate_json(headers[relay.HTTP])
            self.begun = True
            self.is_stream = any(
                name == "content-type" and value.startswith("text/event-stream") for name, value in head.headers
            )
            await self._send({"type": "http.response.start", "status": head.status, "headers": relay.raw(head.headers)})
        elif kind == relay.CHUNK and self.begun:
            await self._send({"type": "http.response.body", "body": msg.data, "more_body": True})
        elif kind == relay.END and self.begun:
            await self.finish(b"")
        elif kind != relay.HEARTBEAT:
            raise LostError("the answer makes no sense")

    async def finish(self, last: bytes) -> None:
        """The end of the answer."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


def _last_words(body: bytes) -> bytes:
    """For a request whose owner died in the middle: an event that says that nobody knows how it ended."""
    try:
        request = orjson.loads(body)
        request_id, method = request["id"], request["method"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return b""
    error = error_body(
        ErrorCode.OUTCOME_UNKNOWN,
        "The edge that carried this request is lost; whether it was executed is not known.",
        hint="Read the state before trying again, in a new session.",
        executed=Executed.UNKNOWN,
    )
    answer: dict[str, object] = {"jsonrpc": "2.0", "id": request_id}
    if method == "tools/call" and not is_protocol_error(error):
        result = orjson.loads(to_tool_result(error))
        answer["result"] = {key: value for key, value in result.items() if key != "resultType"}
    else:
        code, message, data, _ = to_jsonrpc_error(error, LEGACY)
        answer["error"] = {"code": code, "message": message, "data": data}
    return b"event: message\r\ndata: " + orjson.dumps(answer) + b"\r\n\r\n"


async def _body(receive: Receive) -> bytes | None:
    """The request's body, cut off just over the bound; None when the client went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        if len(body) <= relay.REQUEST_BYTES_MAX:
            body.extend(message.get("body", b""))
        if not message.get("more_body", False):
            return bytes(body)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
