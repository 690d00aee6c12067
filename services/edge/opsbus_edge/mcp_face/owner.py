"""The other end of forward.py: requests of own sessions that landed on another edge, answered over the bus."""

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from opsbus import logs
from opsbus.keys import BucketKeys
from opsbus.nats_client import flush_twice
from opsbus_contracts.calls import HEARTBEAT_EVERY_S, Cancel, Header
from opsbus_contracts.errors import ErrorCode
from opsbus_contracts.sessions import SessionRequest, SessionResponse
from opsbus_edge.asgi.connection import CERTIFICATE
from opsbus_edge.mcp_face import relay
from opsbus_edge.mcp_face.exchange import CALLER_KEY
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.replies import rpc_response
from opsbus_edge.mcp_face.vouch import NotVouchedError, vouched
from opsbus_edge.model import Denied, Peer, error_body

log = logs.get("edge")

SERVED_MAX = 20_000
"""Forwarded requests answered at once, open streams included."""

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Owner:
    """Answers what other edges pass on. Each request's own credentials are checked here again.

    Args:
        serve: The application that answers requests of own sessions.
    """

    def __init__(self, face: Face, serve: Application) -> None:
        self._face = face
        self._serve = serve
        self._served: dict[str, _Served] = {}
        self._subscriptions: list[Subscription] = []
        self._keys = BucketKeys(face.edge.nc.jetstream(timeout=2.0))

    async def start(self) -> None:
        """On return, other edges can pass requests on."""
        nc, instance = self._face.edge.nc, self._face.edge.instance
        self._subscriptions = [
            await nc.subscribe(relay.session_subject(instance), cb=self._request),
            await nc.subscribe(relay.cancel_subject(instance), cb=self._cancel),
        ]
        await flush_twice(nc)

    async def stop(self) -> None:
        """Takes no more; what still runs is told that its client has gone."""
        for subscription in self._subscriptions:
            if not self._face.edge.nc.is_closed:
                await subscription.unsubscribe()
        for served in list(self._served.values()):
            served.gone.set()

    async def _request(self, msg: Msg) -> None:
        headers = msg.headers or {}
        call = headers.get(Header.CALL.value, "")
        try:
            request = SessionRequest.model_validate_json(headers.get(relay.HTTP, ""))
        except ValidationError:
            log.warning("forwarded request ignored: malformed head", subject=msg.subject)
            return
        if not msg.reply or not call or call in self._served:
            log.warning("forwarded request ignored: no reply subject, no id or a known one", subject=msg.subject)
            return
        served = self._served[call] = _Served(self._face, request, msg)
        self._face.tasks.spawn(self._answer(call, served))

    async def _cancel(self, msg: Msg) -> None:
        try:
            call = Cancel.model_validate_json(msg.data).call
        except ValidationError:
            return
        served = self._served.get(call)
        if served is not None:
            served.gone.set()

    async def _answer(self, call: str, served: "_Served") -> None:
        beating = asyncio.ensure_future(served.beat())
        try:
            await self._respond(served)
        except (nats.errors.Error, OSError) as error:
            log.warning("answer to another edge lost", error=str(error) or type(error).__name__)
        finally:
            del self._served[call]
            beating.cancel()

    async def _respond(self, served: "_Served") -> None:
        scope = served.scope()
        try:
            if len(self._served) > SERVED_MAX:
                await _overloaded()(scope, served.receive, served.send)
                return
            peer = await self._peer(served)
            if peer is None:
                error = error_body(ErrorCode.UNAUTHENTICATED, "what another edge says of this client does not hold")
                await rpc_response(error, 401)(scope, served.receive, served.send)
                return
            scope["client"] = (peer.address, 0) if peer.address else None
            if peer.certificate is not None:
                scope[CERTIFICATE] = peer.certificate
            caller = await self._face.edge.authenticate(dict(served.request.headers), peer)
            if isinstance(caller, Denied):
                await rpc_response(caller.error, caller.http_status, headers=dict(caller.headers))(
                    scope, served.receive, served.send
                )
                return
            scope[CALLER_KEY] = caller
            await self._serve(scope, served.receive, served.send)
        except (nats.errors.Error, OSError):
            raise
        except Exception as error:
            log.exception("forwarded request failed", error)
            await served.fail()

    async def _peer(self, served: "_Served") -> Peer | None:
        """Who was at the other end of the other edge's connection; None when its voucher does not hold."""
        token = served.headers.get(relay.PEER)
        if token is None:  # an edge of a version that does not vouch: its client's own credentials must do
            return Peer(served.request.client)
        owner, call = self._face.edge.instance, served.headers.get(Header.CALL.value, "")
        try:
            return await vouched(self._keys, token, owner, call, served.headers.get(relay.HTTP, ""), served.body)
        except NotVouchedError as error:
            log.warning("forwarded request refused: its voucher does not hold", reason=str(error))
            return None


class _Served:
    """One forwarded request as ASGI sees it."""

    def __init__(self, face: Face, request: SessionRequest, msg: Msg) -> None:
        self._nc = face.edge.nc
        self._msg = msg
        self._seq = 0
        self._begun = False
        self._ended = False
        self._body_given = False
        self._sent_at = 0.0
        self.request = request
        self.headers = msg.headers or {}
        self.body = msg.data
        self.gone = asyncio.Event()

    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.request.method,
            "path": self.request.path,
            "raw_path": self.request.path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": relay.raw(self.request.headers),
            "client": (self.request.client, 0) if self.request.client else None,
            "server": None,
        }

    async def receive(self) -> Message:
        """The body, then the client's leave."""
        if not self._body_given:
            self._body_given = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Part of the answer; nothing is sent to a client that has gone."""
        if self.gone.is_set() or self._ended:
            return
        if message["type"] == "http.response.start":
            head = SessionResponse(status=message["status"], headers=relay.end_to_end(message.get("headers", [])))
            self._begun = True
            await self._publish(relay.HEAD, b"", {relay.HTTP: relay.to_header(head)})
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            for start in range(0, len(body), relay.CHUNK_BYTES_MAX):
                await self._publish(relay.CHUNK, body[start : start + relay.CHUNK_BYTES_MAX])
            if not message.get("more_body", False):
                self._ended = True
                await self._publish(relay.END, b"")

    async def fail(self) -> None:
        """The application gave up: 500 when nothing was said yet, else the end."""
        if not self._begun:
            error = error_body(ErrorCode.INTERNAL, "The edge failed to answer this request.", hint="Try again.")
            await rpc_response(error, 500)(self.scope(), self.receive, self.send)
        elif not self._ended:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def beat(self) -> None:
        """Says each second that the owner lives, unless it said something else."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY_S)
            if loop.time() - self._sent_at >= HEARTBEAT_EVERY_S / 2 and not self._ended:
                await self._publish(relay.HEARTBEAT, b"")

    async def _publish(self, kind: str, data: bytes, more: dict[str, str] | None = None) -> None:
        self._seq += 1
        self._sent_at = asyncio.get_running_loop().time()
        headers = {Header.STATUS.value: kind, relay.SEQ: str(self._seq), **(more or {})}
        await self._nc.publish(self._msg.reply, data, headers=headers)


def _overloaded() -> Response:
    error = error_body(
        ErrorCode.UNAVAILABLE, "This edge answers too many requests of other edges.", hint="Try again in a moment."
    )
    return rpc_response(error, 503)
