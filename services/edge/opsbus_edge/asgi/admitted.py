"""A connection whose requests pass the edge's queue (admission.py) before they are parsed."""

import asyncio
from collections.abc import Hashable
from typing import Any

from opsbus_contracts.errors import ErrorCode
from opsbus_edge.answers import to_jsonrpc_error
from opsbus_edge.asgi import rawhead, splice
from opsbus_edge.asgi.admission import Admission
from opsbus_edge.asgi.http import error_answer
from opsbus_edge.model import error_body

HELD_BYTES_MAX = 64 * 1024
"""Of a request that waits; what is beyond stays in the socket."""
HEAD_BYTES_MAX = 4_096
"""A request whose head is larger is refused with the connection."""
RETRY_AFTER_MS = 1_000
_ERROR = error_body(
    ErrorCode.UNAVAILABLE,
    "the edge has more to do than it can; the request was not looked at",
    hint="Try again after Retry-After, not sooner; calls that were let in go on.",
    retry_after_ms=RETRY_AFTER_MS,
)


def _refusal(body: bytes) -> bytes:
    _, _, headers = error_answer(_ERROR)
    lines = [b"HTTP/1.1 503 Service Unavailable", b"content-type: application/json"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


def _rpc() -> bytes:
    code, message, data, _ = to_jsonrpc_error(_ERROR)
    return splice.error(None, code, message, data)


MCP_REFUSAL = _refusal(_rpc())
"""The request's id was not read: null, as the transport has it for what a server cannot take."""
REFUSAL = _refusal(error_answer(_ERROR)[1])


def admitted(base: type[Any], gate: Admission) -> type[Any]:
    """A connection class as ``bounds.bounded`` makes it, behind the queue."""

    class Admitted(base):  # type: ignore[misc]
        """One connection. A further phase: held, between idle and head."""

        waits = False
        since = 0.0
        _data = b""
        _refusal = b""
        """Set: it is refused, and not yet told."""
        _left = 0
        """Bytes of a refused request that have not come yet."""
        _dull = False
        """The socket is not read."""
        _head = b""
        """Of the request that was looked at last: a connection's heads are mostly the same, and looked at once."""
        _length: int | None = 0
        _told = b""
        _credential: int | None = None
        _otherwise: Hashable = ""

        def data_received(self, data: bytes) -> None:
            phase = self._phase
            if phase == "held":
                self._more(data)
            elif phase == "body" or self._refused:
                super().data_received(data)
            elif self._left:
                self._drop(data)
            elif gate.enters() or self._under_way():
                super().data_received(data)
            else:
                self._hold(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self.waits, self._data, self._refusal = False, b"", b""
            super().connection_lost(exc)

        def shutdown(self) -> None:
            if self._phase == "held":
                self.waits, self._refusal, self._data = False, b"", b""
                self._say_and_close()
            else:
                super().shutdown()

        def timeout_keep_alive_handler(self) -> None:
            idle_s = self.loop.time() - self.since
            if idle_s < self.timeout_keep_alive:  # it was used, and refused
                self._keep_alive(self.timeout_keep_alive - idle_s)
            else:
                super().timeout_keep_alive_handler()

        def begin(self) -> None:
            data, self._data, self.waits = self._data, b"", False
            self._phase = "head" if self._head_raw_bytes else "idle"
            if not self.transport.is_closing():
                super().data_received(data)
                if self._dull:
                    self._read_on()

        def give_up(self) -> None:
            self.waits = False
            data, self._data = self._data, b""
            self._refusal = b"close"
            if self._length is not None and not self._head_raw_bytes:
                left = len(self._head) + self._length - len(data)
                if 0 <= left <= HELD_BYTES_MAX:
                    self._left, self._refusal = left, self._told
            if self._dull:
                self._read_on()

        def refuse(self) -> None:
            refusal, self._refusal = self._refusal, b""
            if not refusal or self.transport.is_closing():
                return
            if refusal == b"close":
                self._say_and_close()
                return
            self._phase = "idle"
            self.transport.write(refusal)
            if self.timeout_keep_alive_task is None:
                self._keep_alive(self.timeout_keep_alive)

        def _hold(self, data: bytes) -> None:
            self._phase = "held"
            if self._timer is not None:
                self._wait()
            self._data = data
            if not self._head or not data.startswith(self._head):
                self._look_at(data)
            gate.wait(self, self._credential, self._otherwise)

        def _look_at(self, data: bytes) -> None:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            head = self._head = data[: end + 4] if end >= 0 else b""
            self._length = rawhead.length(head)
            self._told = MCP_REFUSAL if head.startswith(b"POST /mcp") else REFUSAL
            address = self.client[0] if self.client else ""
            self._credential, self._otherwise = None, ("probe", address)
            if not rawhead.is_probe(head):
                credential = rawhead.credential(head or data)
                self._credential = hash(credential) if credential is not None else None
                self._otherwise = "stranger", getattr(self, "_certificate", None) or address

        def _more(self, data: bytes) -> None:
            """Of a client that has not been answered yet."""
            if self.waits:
                self._data += data
                if len(self._data) > HELD_BYTES_MAX and not self._dull:
                    self._dull = True
                    self.transport.pause_reading()
            elif len(data) <= self._left:
                self._left -= len(data)
            else:
                self._refusal = b"close"  # it did not wait for its answer: whose the next would be, nobody could tell

        def _drop(self, data: bytes) -> None:
            """The rest of a request that was refused before it had come whole."""
            rest = data[self._left :]
            self._left -= len(data) - len(rest)
            if rest:
                self.data_received(rest)

        def _read_on(self) -> None:
            self._dull = False
            self.transport.resume_reading()

        def _under_way(self) -> bool:
            """Whether a request before this one is not answered yet: then this one waits behind that, in uvicorn."""
            return self.cycle is not None and not self.cycle.response_complete

        def _say_and_close(self) -> None:
            self._phase = "idle"
            self._why = (_ERROR, 503)
            self.send_400_response("")

        def _keep_alive(self, seconds: float) -> None:
            timer: asyncio.TimerHandle = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = timer

    return Admitted
