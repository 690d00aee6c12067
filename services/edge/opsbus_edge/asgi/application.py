"""The ASGI application: paths to faces, with what holds for all of them. The faces themselves live in other files."""

import asyncio
import secrets
from importlib.resources import files

import orjson

from opsbus import logs
from opsbus_contracts.errors import ErrorCode
from opsbus_edge.asgi.express import Express
from opsbus_edge.asgi.guard import Guard
from opsbus_edge.asgi.health import Health
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
from opsbus_edge.asgi.openapi import document
from opsbus_edge.asgi.peer import peer_of
from opsbus_edge.asgi.rest import PREFIX, Rest
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, Denied, error_body

log = logs.get("edge")

MCP_PATH = "/mcp"
CALLER = "opsbus.caller"
"""Key of the scope under which the MCP face finds the Caller."""
TOO_LARGE = 413
_METRICS_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_OPEN = frozenset({"/live", "/ready", "/health", "/metrics"})
"""Asked by probes, which know no token and no host name."""


class Application:
    """The edge over HTTP.

    Args:
        edge: Its parts.
        health: Its state.
        mcp: The SDK's side of /mcp: all that the express lane does not take. Gets the lifespan protocol too.
    """

    def __init__(self, edge: Edge, health: Health, mcp: App) -> None:
        self._edge = edge
        self._health = health
        self._mcp = mcp
        self._express = Express(edge, mcp)
        self._rest = Rest(edge)
        self._guard = Guard(edge.settings.allowed_hosts, edge.settings.allowed_origins)
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
            if error.status == TOO_LARGE:
                await discard(receive)
            await answer_error(started, error.error, error.status, [("connection", "close")])
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
        headers, repeated = headers_of(scope)
        if path in _OPEN:
            await self._probe(path, scope["method"], send)
            return
        refused = self._guard.refusal(headers)
        if refused is not None:
            await answer_error(send, *refused)
            return
        if repeated in ("authorization", "x-api-key", "host", "origin", "content-length"):
            error = error_body(ErrorCode.INVALID_REQUEST, f"the header {repeated} is there more than once")
            await answer_error(send, error)
            return
        if path in ("/docs", "/openapi.json"):
            await self._describe(path, scope["method"], send, headers)
            return
        if path != MCP_PATH and not path.startswith(PREFIX + "/"):
            error = error_body(
                ErrorCode.NOT_FOUND, "there is nothing at this path", hint="MCP is at /mcp, REST is described at /docs."
            )
            await answer_error(send, error)
            return
        caller = await self._edge.authenticate(headers, peer_of(scope))
        if isinstance(caller, Denied):
            await answer_error(send, caller.error, caller.http_status, caller.headers)
        elif path == MCP_PATH:
            await self._to_mcp(scope, receive, send, caller, headers, odd=repeated is not None)
        else:
            await self._rest(scope, receive, send, caller, headers)

    async def _to_mcp(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, headers: dict[str, str], *, odd: bool
    ) -> None:
        scope = {**stripped(scope), CALLER: caller}
        if scope["method"] == "POST" and not odd:
            await self._express(scope, receive, send, caller, headers)
        else:
            await self._mcp(scope, receive, send)

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

    async def _describe(self, path: str, method: str, send: Send, headers: dict[str, str]) -> None:
        if method not in ("GET", "HEAD"):
            error = error_body(ErrorCode.INVALID_REQUEST, "this method is not allowed here", hint="Use GET.")
            await answer_error(send, error, 405, [("allow", "GET, HEAD")])
            return
        if path == "/openapi.json":
            caller = await self._edge.authenticate(headers) if {"authorization", "x-api-key"} & headers.keys() else None
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


class _Started:
    """A send that remembers whether the answer has begun."""

    __slots__ = ("_send", "yes")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.yes = False

    async def __call__(self, message: Message) -> None:
        self.yes = True
        await self._send(message)
