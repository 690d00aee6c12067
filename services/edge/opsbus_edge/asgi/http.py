"""The small change of HTTP: headers in, bodies in, answers out. No routes live here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from opsbus_contracts.errors import CODES, ErrorBody, ErrorCode
from opsbus_edge.model import error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = (b"content-type", b"application/json")
DISCARD_BYTES_MAX = 16 * 1024 * 1024
DISCARD_S = 2.0
_ONCE = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "last-event-id",
        "origin",
        "transfer-encoding",
        "x-api-key",
    }
)
"""Headers that count once; all that begin with ``mcp-`` too."""


class Disconnected(Exception):  # noqa: N818 - an event, not an error
    """The client went away while its body was read."""


class BodyError(Exception):
    """A body that is not taken, and the error that says why."""

    def __init__(self, error: ErrorBody, status: int) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status


def headers_of(scope: Scope) -> tuple[dict[str, str], str | None]:
    """Headers by lower-case name, white space around values stripped, and a header that must not but does repeat."""
    found: dict[str, str] = {}
    repeated = None
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in found and (name in _ONCE or name.startswith("mcp-")):
            repeated = name
        found[name] = raw_value.decode("latin-1").strip()
    return found, repeated


def is_json(headers: dict[str, str]) -> bool:
    """Whether the body says that it is JSON."""
    media, _, parameters = headers.get("content-type", "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return media.strip() == "application/json" and (
        "charset=" not in charset or charset.startswith(("charset=utf-8", "charset=us-ascii"))
    )


def client_address(scope: Scope) -> str:
    """IP address of the client, as peer.py found it; empty: none is known."""
    client = scope.get("client")
    return client[0] if client else ""


def stripped(scope: Scope) -> Scope:
    """The scope with white space around header values gone; some servers leave it and the SDK compares verbatim."""
    return {**scope, "headers": [(name, value.strip()) for name, value in scope["headers"]]}


async def read_body(receive: Receive, headers: dict[str, str], bytes_max: int, timeout_s: float) -> bytes:
    """The whole body.

    Raises:
        BodyError: larger than allowed (413) or too slow (408).
        Disconnected: the client went away.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        error = error_body(
            ErrorCode.INVALID_REQUEST, "compressed bodies are not taken", hint="Send the body without Content-Encoding."
        )
        raise BodyError(error, 415)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_on(message, receive, bytes_max)
    except TimeoutError:
        error = error_body(ErrorCode.INVALID_REQUEST, f"the body did not come within {timeout_s:g} s")
        raise BodyError(error, 408) from None


async def _read_on(message: Message, receive: Receive, bytes_max: int) -> bytes:
    parts = bytearray()
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        parts += message.get("body", b"")
        if len(parts) > bytes_max:
            raise _too_large(bytes_max)
        if not message.get("more_body"):
            return bytes(parts)
        message = await receive()


async def discard(receive: Receive) -> None:
    """Take what a client still sends, within bounds: one that cannot finish sending does not read its answer."""
    left = DISCARD_BYTES_MAX
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body once more and then goes on with what comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def answer(
    send: Send,
    status: int,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (JSON,),
    *,
    head: bool = False,
) -> None:
    """A whole answer; ``head``: without its body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": b"" if head else body})


async def answer_error(
    send: Send, error: ErrorBody, status: int | None = None, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """``{"error": ErrorBody}``; the status is the code's unless given."""
    code, body, more = error_answer(error)
    extra = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    await answer(send, status or code, body, [JSON, *extra, *more])


def error_answer(error: ErrorBody) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of ``{"error": ErrorBody}``."""
    headers = []
    if error.retry_after_ms is not None:
        headers.append((b"retry-after", str(max(1, -(-error.retry_after_ms // 1000))).encode()))
    return CODES[error.code].http, orjson.dumps({"error": error.model_dump(mode="json")}), headers


def _too_large(bytes_max: int) -> BodyError:
    error = error_body(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the body has more than {bytes_max} bytes",
        hint="Send less, or a reference to it.",
    )
    return BodyError(error, 413)
