"""The MCP endpoint as an ASGI application: which edge answers a request, under whose name, in which session.

Authentication, Origin and Host are checked before a request comes here (asgi/); so is the express lane.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsbus import logs
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face import relay
from opsbus_edge.mcp_face.endless import serve_until
from opsbus_edge.mcp_face.eventlog import EventLogs
from opsbus_edge.mcp_face.exchange import CALLER_KEY
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.forward import Forwarder
from opsbus_edge.mcp_face.owner import Owner
from opsbus_edge.mcp_face.replies import session_gone, too_large
from opsbus_edge.mcp_face.rights import has_lost, proof_of
from opsbus_edge.mcp_face.server import build_server
from opsbus_edge.mcp_face.sessions import owner_of, public_id
from opsbus_edge.mcp_face.subscriptions import Changes
from opsbus_edge.model import Caller

log = logs.get("edge")

SESSION_HEADER = b"mcp-session-id"
VERSION_HEADER = MCP_PROTOCOL_VERSION_HEADER.encode()
PROVED_EVERY_S = 5.0
"""How often it is asked whether who listens may still do so."""
OPEN_AFTER_S = 0.1
"""The SDK takes messages for a GET stream a moment after the answer's head was sent."""
RETRY_MS = 1_000
"""What clients are told to wait before they come back to a stream that was closed."""


def build(edge: Edge) -> ASGIApp:
    """The application. Its lifespan must be run around the first request and the last."""
    mcp = McpApplication(edge)
    return Router(default=mcp.handle, lifespan=lambda _: mcp.running())


class McpApplication:
    """Both eras at one address."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._face = Face(edge)
        self._changes = Changes(self._face)
        self._logs = EventLogs()
        self._face.sessions.ended.append(lambda session: self._logs.closed(session.id))
        settings = self._face.settings
        self._manager = StreamableHTTPSessionManager(
            build_server(self._face, self._changes, tasks=edge.tasks is not None),
            event_store=self._logs,
            retry_interval=RETRY_MS,
            session_idle_timeout=settings.session_idle_s,
            max_sessions=settings.sessions_max,
            max_request_body_size=relay.REQUEST_BYTES_MAX,
        )
        self._forwarder = Forwarder(edge)
        self._owner = Owner(self._face, self._local)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves while it is entered. On leaving, subscribers get their last word and sessions end."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._face.tasks.stop)
            await stack.enter_async_context(self._manager.run())
            for part in (self._changes, self._forwarder, self._owner):
                await part.start()
                stack.push_async_callback(part.stop)
            self._face.tasks.spawn(self._end_streams())
            yield

    async def _end_streams(self) -> None:
        """When the edge drains, subscribers get their last word; they come back to another edge."""
        await self._edge.drain.wait()
        self._changes.streams.close()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        scope = {**scope, "headers": [(name, value.strip()) for name, value in scope["headers"]]}
        declared = _header(scope, b"content-length") or ""
        if declared.isdecimal() and int(declared[:20]) > relay.REQUEST_BYTES_MAX:
            await too_large(relay.REQUEST_BYTES_MAX)(scope, receive, send)
            return
        version = _header(scope, VERSION_HEADER)
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            await self._manager.handle_request(scope, receive, send)
            return
        session_id = _header(scope, SESSION_HEADER)
        if session_id is None:
            await self._local(scope, receive, send)
            return
        owner = owner_of(session_id)
        if owner is None:
            await session_gone()(scope, receive, send)
        elif owner[0] == self._edge.instance:
            await self._local(scope, receive, send)
        else:
            await self._ending(partial(self._forwarder.handle, owner[0]), scope, receive, send)

    async def _ending(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """A GET stream ends when the edge drains or its proof holds no more; all else ends by itself."""
        if scope["method"] != "GET":
            await app(scope, receive, send)
            return
        leave = asyncio.Event()
        watching = self._face.tasks.spawn(self._leave(scope, leave))
        try:
            await serve_until(leave, app, scope, receive, send)
        finally:
            watching.cancel()

    async def _leave(self, scope: Scope, leave: asyncio.Event) -> None:
        proof = proof_of(scope)
        while not leave.is_set():
            try:
                await asyncio.wait_for(self._edge.drain.wait(), PROVED_EVERY_S)
                leave.set()
            except TimeoutError:
                if await has_lost(self._edge, proof):
                    log.info("a session's stream ends: its proof holds no more", sub=scope[CALLER_KEY].sub)
                    leave.set()

    async def _local(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request of a session that this edge owns, or that opens one. Here the SDK's own session id is used."""
        session_id = _header(scope, SESSION_HEADER)
        owner = owner_of(session_id) if session_id is not None else None
        if session_id is not None and (owner is None or owner[0] != self._edge.instance):
            await session_gone()(scope, receive, send)
            return
        sdk_id = owner[1] if owner is not None else None
        log = self._logs.enter(sdk_id)

        stream = _SessionStream(self._changes, sdk_id) if sdk_id is not None and scope["method"] == "GET" else None

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                if stream is not None and message["status"] == HTTPStatus.OK:
                    stream.begins()
                given = dict(message["headers"]).get(SESSION_HEADER)
                if given is not None:
                    self._logs.opened(given.decode(), log)
                    named = public_id(self._edge.instance, given.decode()).encode()
                    message = {**message, "headers": _with(message["headers"], SESSION_HEADER, named)}
            await send(message)

        caller = scope[CALLER_KEY]
        scope = {**scope, "user": _user(caller)}
        if sdk_id is not None:
            session = self._face.sessions.find(sdk_id)
            if session is not None and session.sub == caller.sub:
                self._changes.proved(session, scope)
            scope["headers"] = _with(scope["headers"], SESSION_HEADER, sdk_id.encode())
        try:
            await self._ending(self._manager.handle_request, scope, receive, send_named)
        finally:
            if stream is not None:
                stream.ends()


class _SessionStream:
    """A session's GET stream, from the moment the SDK takes messages for it."""

    def __init__(self, changes: Changes, sdk_id: str) -> None:
        self._changes = changes
        self._sdk_id = sdk_id
        self._timer: asyncio.TimerHandle | None = None
        self._open = False

    def begins(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(OPEN_AFTER_S, self._opened)

    def _opened(self) -> None:
        self._open = True
        self._changes.stream_opened(self._sdk_id)

    def ends(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._open:
            self._changes.stream_closed(self._sdk_id)


def _user(caller: Caller) -> AuthenticatedUser:
    """The caller in the SDK's words: it binds a session to who opened it."""
    return AuthenticatedUser(AccessToken(token="", client_id=caller.sub, scopes=[], subject=caller.sub))


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _with(headers: list[tuple[bytes, bytes]], name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value if key.lower() == name else found) for key, found in headers]
