"""How one edge tells another of a session's HTTP request: its bounds and forms. Contract: contracts/sessions.py.

Request: ``edge.<instance>.session``, the head in ``Opsbus-Http``, the id in ``Opsbus-Call``, the body is the request's;
whom the edge saw at the other end of the connection is in ``Opsbus-Peer`` (vouch.py).
Answers, on the reply subject, numbered from 1 in ``Opsbus-Seq``; ``Opsbus-Status`` says what each is: ``head``
(SessionResponse in ``Opsbus-Http``), ``chunk`` (its bytes), ``heartbeat``, ``end``.
"""

import json
from collections.abc import Iterable

from pydantic import BaseModel

from opsbus_contracts.calls import BODY_BYTES_MAX
from opsbus_contracts.sessions import CHUNK, END, HEAD, HEARTBEAT, HTTP, PEER, SEQ

__all__ = [
    "CHUNK",
    "CHUNK_BYTES_MAX",
    "END",
    "HEAD",
    "HEADERS_BYTES_MAX",
    "HEARTBEAT",
    "HTTP",
    "PEER",
    "REQUEST_BYTES_MAX",
    "SEQ",
    "cancel_subject",
    "end_to_end",
    "raw",
    "session_subject",
    "to_header",
]

REQUEST_BYTES_MAX = BODY_BYTES_MAX
"""Body of a session's request: what fits in one message."""
CHUNK_BYTES_MAX = 256 * 1024
"""One chunk of an answer."""
HEADERS_BYTES_MAX = 64 * 1024
"""Head of a request or answer, as JSON."""

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
)


def session_subject(instance: str) -> str:
    """``edge.<instance>.session``"""
    return f"edge.{instance}.session"


def cancel_subject(instance: str) -> str:
    """``edge.<instance>.cancel``"""
    return f"edge.{instance}.cancel"


def to_header(head: BaseModel) -> str:
    """The head as a NATS header's value: JSON in ASCII."""
    return json.dumps(head.model_dump(mode="json"), separators=(",", ":"))


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """An ASGI message's headers, without those of one connection alone."""
    pairs = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return [(name, value) for name, value in pairs if name not in _HOP_BY_HOP]


def raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """The same, back in ASGI's form."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
