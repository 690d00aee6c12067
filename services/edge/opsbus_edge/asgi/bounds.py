"""What one HTTP connection may cost: sizes, counts and patience, put upon any of uvicorn's connection classes.

uvicorn bounds neither the time a request's headers take nor their size, and waits for ever for a client that does not
read. A request that comes whole in one piece, as nearly all do, starts no timer here.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.asgi.corked import Corked
from opsbus_edge.asgi.http import DISCARD_BYTES_MAX, DISCARD_S, Receive, Scope, Send, answer_error, error_answer
from opsbus_edge.model import error_body
from opsbus_edge.settings.http import HttpSettings

PER_HEADER = 4
"""What a header costs beside its name and value: colon, blank, end of line."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one listener. Seconds and bytes."""

    headers_max: int
    headers_bytes_max: int
    headers_timeout_s: float
    body_bytes_max: int
    body_timeout_s: float
    write_timeout_s: float
    connections_max: int

    @classmethod
    def of(cls, settings: HttpSettings) -> "Bounds":
        """As the settings have them."""
        return cls(**{name: getattr(settings, name) for name in cls.__slots__})


class _Refused(Exception):  # noqa: N818 - control flow: the parser ends when a callback raises
    """What comes is not taken any further."""


def bounded(base: type[HttpToolsProtocol], bounds: Bounds) -> type[HttpToolsProtocol]:
    """A connection class of uvicorn's, within bounds."""

    class Bounded(base):  # type: ignore[misc, valid-type]
        """One connection. Its phases: idle, head (a request's first line and headers), body, idle."""

        cycle: Any
        scope: Any

        _phase = "head"
        """A new connection owes a request."""
        _complete = False
        """The last request that began has come whole."""
        _head_raw_bytes = 0
        """Of the request's head, in pieces that have come before."""
        _piece = 0
        """Bytes of the piece that is being read."""
        _body_bytes = 0
        _timer: asyncio.TimerHandle | None = None
        _timer_of = ""
        _stuck: asyncio.TimerHandle | None = None
        _why: tuple[ErrorBody, int] | None = None
        _refused = False
        """Nothing of this connection is taken any more; it ends when what is owed has been sent."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.transport = Corked(transport, self.loop)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._phase = "idle"
            self._wait()
            self._unstick()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._refused:
                return
            if self._phase == "idle":
                self._phase = "head"  # white space before a request is the beginning of one: it must not wait for ever
            self._piece = len(data)
            super().data_received(data)
            if self._phase == "head":
                self._head_raw_bytes += len(data)
                if self._head_raw_bytes > bounds.headers_bytes_max and not self._refused:
                    self._why = _headers_too_large(bounds)
                    self.send_400_response("")
            if self._phase != self._timer_of:
                self._wait()

        def on_message_begin(self) -> None:
            self._phase = "head"
            self._head_raw_bytes = self._body_bytes = 0
            super().on_message_begin()
            if len(self.connections) > bounds.connections_max:
                self.app = overloaded
            elif self.app is overloaded:
                self.app = self.config.loaded_app

        def on_headers_complete(self) -> None:
            # Looked at once, and not at each header: what has come so far is bounded by data_received.
            if len(self.headers) > bounds.headers_max:
                self._why = _too_many_headers(bounds)
                raise _Refused
            if self._head_raw_bytes + self._piece > bounds.headers_bytes_max:
                size = len(self.url) + sum(len(name) + len(value) + PER_HEADER for name, value in self.headers)
                if size > bounds.headers_bytes_max:
                    self._why = _headers_too_large(bounds)
                    raise _Refused
            self._phase, self._complete = "body", False
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._body_bytes += len(body)
            # The application refuses a body that is too large. A client that sends on after its answer is cut off.
            if self.cycle.response_complete and self._body_bytes > bounds.body_bytes_max + DISCARD_BYTES_MAX:
                self.transport.close()
                raise _Refused
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._phase, self._complete = "idle", True
            super().on_message_complete()
            self._let_go()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._let_go()
            if self.transport.get_write_buffer_size():
                self._stick()

        def _let_go(self) -> None:
            """Of a request that has come whole and is answered: it would stay, headers and all, until the next one."""
            if self._complete and not self.pipeline and self.cycle is not None and self.cycle.response_complete:
                self.cycle = self.scope = None
                self.headers: list[tuple[bytes, bytes]] = []

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stick()

        def resume_writing(self) -> None:
            self._unstick()
            super().resume_writing()

        def send_400_response(self, msg: str) -> None:
            """Every refusal below the application; ``msg`` is uvicorn's word for it."""
            error, status = self._why or _malformed()
            self._why = None
            if self._refused or self.transport.is_closing():
                return
            self._refused = True
            self._phase = "idle"
            under_way = self.cycle is not None and not self.cycle.response_complete
            if under_way and self._complete and not self.pipeline:
                self.cycle.keep_alive = False  # the request before this one is answered, and that is all
            elif under_way and (self._complete or self.pipeline or self.cycle.response_started):
                self.transport.close()  # what would be sent now would be taken for another request's answer
            else:
                if under_way:
                    self.cycle.disconnected = True
                    self.cycle.message_event.set()
                self._last_word(_raw(error, status))

        def _last_word(self, answer: bytes) -> None:
            """Send it, and let the client read it: closing with bytes unread would take it back."""
            self.transport.write(answer)
            if self.transport.can_write_eof():
                self.transport.write_eof()
                self.loop.call_later(DISCARD_S, self.transport.close)
            else:
                self.transport.close()
            self._stick()

        def _wait(self) -> None:
            """Start the timer of the phase, or end the one that runs."""
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._timer_of = self._phase
            if self._phase == "head":
                self._timer = self.loop.call_later(bounds.headers_timeout_s, self._too_slow)
            elif self._phase == "body":
                self._timer = self.loop.call_later(bounds.body_timeout_s, self._too_slow)

        def _too_slow(self) -> None:
            self._timer = None
            if self.transport.is_closing():
                return
            self._why = _too_slow(self._phase, bounds)
            if self._phase == "head" and self.cycle is None and not self._head_raw_bytes:
                self.transport.close()  # it never said a word: a spare connection, not a request
                return
            self.send_400_response("")

        def _stick(self) -> None:
            if self._stuck is None:
                self._stuck = self.loop.call_later(bounds.write_timeout_s, self._cut_off)

        def _cut_off(self) -> None:
            self._stuck = None
            if self.transport.get_write_buffer_size() or self.transport.is_closing():
                self.transport.abort()

        def _unstick(self) -> None:
            if self._stuck is not None:
                self._stuck.cancel()
                self._stuck = None

    return Bounded


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of connections beyond connections_max."""
    error = error_body(
        ErrorCode.UNAVAILABLE,
        "this edge has as many connections as it takes",
        hint="Try again in a moment.",
        retry_after_ms=1_000,
    )
    await answer_error(send, error, 503, [("connection", "close")])


def _raw(error: ErrorBody, status: int) -> bytes:
    _, body, more = error_answer(error)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n"
    )
    return head.encode() + b"".join(b"%b: %b\r\n" % one for one in more) + b"\r\n" + body


def _malformed() -> tuple[ErrorBody, int]:
    error = error_body(
        ErrorCode.INVALID_REQUEST,
        "this is not a valid HTTP/1.1 request",
        hint="Check the request line, the headers and the length of the body as they leave the client.",
    )
    return error, 400


def _too_many_headers(bounds: Bounds) -> tuple[ErrorBody, int]:
    error = error_body(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the request has more than {bounds.headers_max} headers",
        hint="Send fewer headers.",
    )
    return error, 431


def _headers_too_large(bounds: Bounds) -> tuple[ErrorBody, int]:
    error = error_body(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the request's target and headers have more than {bounds.headers_bytes_max} bytes",
        hint="Send shorter ones; arguments belong into the body.",
    )
    return error, 431


def _too_slow(phase: str, bounds: Bounds) -> tuple[ErrorBody, int]:
    what, seconds = ("headers", bounds.headers_timeout_s) if phase == "head" else ("body", bounds.body_timeout_s)
    error = error_body(
        ErrorCode.INVALID_REQUEST,
        f"the request's {what} did not come within {seconds:g} s",
        hint="Send the request in one go.",
    )
    return error, 408
