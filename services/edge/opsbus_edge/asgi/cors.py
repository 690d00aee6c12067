"""CORS: which pages' scripts may call this edge and read its answers. Who may call at all is guard.py's matter."""

from collections.abc import Mapping, Sequence

from opsbus_edge.asgi.guard import Allowed
from opsbus_edge.asgi.http import Message, Send

METHODS = "GET, POST, DELETE, OPTIONS"
MAX_AGE_S = 600
EXPOSED = (
    "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Retry-After, Opsbus-Call, Opsbus-Executed, Allow, Location"
)
_ASKED_CHARS_MAX = 1_024
_HEADERS = frozenset(
    {
        "accept",
        "authorization",
        "content-type",
        "idempotency-key",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "traceparent",
        "tracestate",
        "x-api-key",
    }
)
"""Headers that pages may send; ``mcp-param-*`` too."""

Headers = list[tuple[bytes, bytes]]


class Cors:
    """What browsers are told.

    Args:
        origins: As the setting cors_origins has them.
        credentials: Whether cookies and client certificates may come along; never together with ``*``.
    """

    def __init__(self, origins: Sequence[str], *, credentials: bool) -> None:
        self._allowed = Allowed(origins)
        self._all = "*" in origins
        self._credentials = credentials
        self.on = bool(origins)

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may read answers."""
        return self.on and self._allowed.has(origin)

    async def preflight(self, origin: str, headers: Mapping[str, str], send: Send) -> None:
        """The answer to a preflight of an origin that is allowed. What may not be sent is not named in it."""
        asked = headers.get("access-control-request-headers", "")[:_ASKED_CHARS_MAX].lower()
        names = [name for name in (part.strip() for part in asked.split(",")) if _sendable(name)]
        found = [
            *self._origin(origin),
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
        ]
        if names:
            found.append((b"access-control-allow-headers", ", ".join(names).encode()))
        await send({"type": "http.response.start", "status": 204, "headers": found})
        await send({"type": "http.response.body", "body": b""})

    def readable(self, origin: str, send: Send) -> Send:
        """A send whose answers the page may read."""
        more = [*self._origin(origin), (b"access-control-expose-headers", EXPOSED.encode())]

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        return named

    def _origin(self, origin: str) -> Headers:
        if self._all:
            return [(b"access-control-allow-origin", b"*")]
        found = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        if self._credentials:
            found.append((b"access-control-allow-credentials", b"true"))
        return found


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks before it sends a page's request."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def _sendable(name: str) -> bool:
    return name in _HEADERS or (name.startswith("mcp-param-") and name.isascii() and name.replace("-", "").isalnum())
