"""The ASGI application: paths to faces, with what holds for all of them. The faces themselves live in other files."""

import asyncio
import secrets
from importlib.resources import files
from urllib.parse import urlsplit

import orjson

from opsbus import logs
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.asgi.admission import Admission
from opsbus_edge.asgi.connection import CERTIFICATE
from opsbus_edge.asgi.cors import Cors, is_preflight
from opsbus_edge.asgi.express import Express
from opsbus_edge.asgi.guard import Guard
from opsbus_edge.asgi.health import Health
from opsbus_edge.asgi.hints import hinted
from opsbus_edge.asgi.http import (
    JSON,
    App,
    BodyError,
    Disconnected,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    discard,
    headers_of,
    stripped,
)
from opsbus_edge.asgi.oauth import WELL_KNOWN, challenged, metadata
from opsbus_edge.asgi.openapi import document
from opsbus_edge.asgi.peer import Peers
from opsbus_edge.asgi.refusals import recorded
from opsbus_edge.asgi.rest import PREFIX, Rest
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, Denied, Peer, error_body
from opsbus_edge.sign_in.endpoint import PATH as SIGN_IN_PATH

log = logs.get("edge")

MCP_PATH = "/mcp"
CALLER = "opsbus.caller"
"""Key of the scope under which the MCP face finds the Caller."""
TOO_LARGE = 413
_METRICS_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_FOR_ALL = frozenset({"/live", "/ready"})
"""Asked by whatever keeps the process running, from any address."""
_OPEN = frozenset({"/live", "/ready", "/health", "/metrics"})
"""Asked by probes, which know no token and no host name."""


class Application:
    """The edge over HTTP.

    Args:
        edge: Its parts.
        health: Its state.
        mcp: The SDK's side of /mcp: all that the express lane does not take. Gets the lifespan protocol too.
        admission: Told which credentials prove whom.
    """

    def __init__(self, edge: Edge, health: Health, mcp: App, admission: Admission | None = None) -> None:
        self._edge = edge
        self._admission = admission
        self._health = health
        self._mcp = mcp
        self._express = Express(edge, self._to_sdk)
        self._rest = Rest(edge)
        settings = edge.settings
        self._peers = Peers(
            settings.allowed_networks, settings.denied_networks, settings.trusted_proxies, settings.forwarded_header
        )
        self._guard = Guard(settings.allowed_hosts, [*settings.allowed_origins, *settings.cors_origins])
        self._cors = Cors(settings.cors_origins, credentials=settings.cors_credentials)
        self._metadata_paths = {WELL_KNOWN, urlsplit(settings.oauth_metadata_url).path}
        self._docs = files("opsbus_edge.asgi").joinpath("docs.html").read_text(encoding="utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await self._mcp(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        started = _Started(send)
        self._edge.metrics.active_connections.inc()
        try:
            await self._http(scope, receive, started)
        except BodyError as error:
            await _answer_body_error(receive, started, error)
        except Disconnected:
            log.debug("the client went away", path=scope["path"][:200])
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("the edge failed", error, path=scope["path"][:200])
            if not started.yes:
                await answer_error(started, error_body(ErrorCode.INTERNAL, "the edge failed inside"))
        finally:
            self._edge.metrics.active_connections.dec()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in _FOR_ALL:
            await self._probe(path, scope["method"], send)
            return
        headers, repeated = headers_of(scope)
        peer = self._peers.peer(scope, scope.get(CERTIFICATE))
        if isinstance(peer, ErrorBody):
            await self._refuse(send, "address", peer)
            return
        if path in _OPEN:
            await self._probe(path, scope["method"], send)
            return
        refused = self._guard.refusal(headers)
        if refused is not None:
            await self._refuse(send, "host_or_origin", *refused)
            return
        if repeated is not None:
            error = error_body(
                ErrorCode.INVALID_REQUEST,
                f"the header {repeated} is there more than once",
                hint="Send it once; look for a proxy that adds it.",
            )
            await self._refuse(send, "repeated_header", error)
            return
        origin = headers.get("origin", "")
        if origin and self._cors.allows(origin):
            if is_preflight(scope["method"], headers):
                await self._cors.preflight(origin, headers, send)
                return
            send = self._cors.readable(origin, send)
        # From here on the connection's other end is the client, not a proxy in between.
        scope["client"] = (peer.address, 0) if peer.address else None
        await self._to_face(scope, receive, send, headers, peer)

    async def _to_face(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str], peer: Peer) -> None:
        path = scope["path"]
        if path in ("/docs", "/openapi.json"):
            await self._describe(path, scope["method"], send, headers, peer)
            return
        refused = await self._edge.rates.address(peer.address)
        if refused is not None:
            await self._refuse(send, "rate", refused)
            return
        if self._edge.settings.oauth and path in self._metadata_paths and scope["method"] in ("GET", "HEAD"):
            await answer(send, 200, metadata(self._edge.settings), head=scope["method"] == "HEAD")
            return
        if path == SIGN_IN_PATH and self._edge.sign_in is not None:
            await self._edge.sign_in(scope, receive, send, headers)
            return
        if path != MCP_PATH and not path.startswith(PREFIX + "/"):
            error = error_body(
                ErrorCode.NOT_FOUND, "there is nothing at this path", hint="MCP is at /mcp, REST is described at /docs."
            )
            await answer_error(send, error)
            return
        caller = await self._edge.authenticate(headers, peer)
        if isinstance(caller, Denied):
            self._edge.rates.failed_sign_in(peer.address)
            settings = self._edge.settings
            more = challenged(caller, settings) if settings.oauth else caller.headers
            await answer_error(send, caller.error, caller.http_status, more)
            return
        if self._admission is not None:
            self._admission.proved(headers, caller.sub)
        send = recorded(self._edge, scope, headers, caller, send)
        refused = self._edge.shut_out.caller(caller)
        if refused is not None:
            await self._refuse(send, "quarantine", refused)
            return
        try:
            if path == MCP_PATH:
                await self._to_mcp(scope, receive, send, caller, headers)
            else:
                await self._rest(scope, receive, send, caller, headers)
        except BodyError as error:
            await _answer_body_error(receive, send, error)

    async def _refuse(self, send: Send, why: str, error: ErrorBody, status: int | None = None) -> None:
        self._edge.metrics.turned_away.labels(why).inc()
        await answer_error(send, error, status)

    async def _to_mcp(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, headers: dict[str, str]
    ) -> None:
        scope[CALLER], send = caller, hinted(send)
        if scope["method"] == "POST":
            await self._express(scope, receive, send, caller, headers)
        else:
            await self._to_sdk(scope, receive, send)

    async def _to_sdk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._mcp(stripped(scope), receive, send)

    async def _probe(self, path: str, method: str, send: Send) -> None:
        if method not in ("GET", "HEAD"):
            error = error_body(ErrorCode.INVALID_REQUEST, "this method is not allowed here", hint="Use GET.")
            await answer_error(send, error, 405, [("allow", "GET, HEAD")])
            return
        head = method == "HEAD"
        if path == "/metrics":
            await answer(send, 200, self._edge.metrics.text(), [_METRICS_TYPE], head=head)
        elif path == "/live":
            await answer(send, 200, b'{"live":true}', head=head)
        elif path == "/ready":
            reasons = self._health.not_ready()
            body = {"ready": not reasons, "reasons": reasons}
            await answer(send, 503 if reasons else 200, orjson.dumps(body), head=head)
        else:
            report = self._health.report()
            status = 503 if report.status == "unhealthy" else 200
            await answer(send, status, report.model_dump_json().encode(), head=head)

    async def _describe(self, path: str, method: str, send: Send, headers: dict[str, str], peer: Peer) -> None:
        if method not in ("GET", "HEAD"):
            error = error_body(ErrorCode.INVALID_REQUEST, "this method is not allowed here", hint="Use GET.")
            await answer_error(send, error, 405, [("allow", "GET, HEAD")])
            return
        if path == "/openapi.json":
            proves = {"authorization", "x-api-key"} & headers.keys() or peer.certificate is not None
            caller = await self._edge.authenticate(headers, peer) if proves else None
            known = caller if isinstance(caller, Caller) else None
            body = orjson.dumps(document(self._edge.catalog, known))
            await answer(send, 200, body, [JSON, (b"cache-control", b"private, no-cache")], head=method == "HEAD")
            return
        nonce = secrets.token_urlsafe(16)
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self'"
        policy += "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        page = self._docs.replace("{{nonce}}", nonce).encode()
        html = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy.encode())]
        await answer(send, 200, page, html, head=method == "HEAD")


async def _answer_body_error(receive: Receive, send: Send, error: BodyError) -> None:
    if error.status == TOO_LARGE:
        await discard(receive)
    await answer_error(send, error.error, error.status, [("connection", "close")])


class _Started:
    """A send that remembers whether the answer has begun."""

    __slots__ = ("_send", "yes")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.yes = False

    async def __call__(self, message: Message) -> None:
        self.yes = True
        await self._send(message)
