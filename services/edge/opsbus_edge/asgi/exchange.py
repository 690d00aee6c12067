"""One HTTP request whose answer may take a while: watched for the client's going away, streamed when there is news.

A quick answer is one plain JSON response and costs one timer. From WATCH_AFTER_S on the connection is watched; a client
that goes away cancels the request. The first progress or log message, or a long silence, makes it an event stream.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from opsbus_edge.asgi.http import JSON, Receive, Send, answer

WATCH_AFTER_S = 0.1
READ_S = 30.0
"""A client that does not read its stream for this long has gone, as far as its request is concerned."""
_PING = b": ping\r\n\r\n"
_SSE_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]


class Exchange:
    """Use as ``async with``, around the work. Inside, the current task is cancelled when the client goes away.

    Args:
        receive: Of ASGI, the body already read.
        send: Of ASGI.
        streams: Whether the client takes ``text/event-stream``.
        keep_alive_s: A stream that is silent gets a comment this often.
    """

    def __init__(self, receive: Receive, send: Send, *, streams: bool, keep_alive_s: float) -> None:
        self._receive = receive
        self._send = send
        self._streams = streams
        self._keep_alive_s = keep_alive_s
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[Any] | None = None
        self._closed = False
        self.streaming = False
        self.gone = False
        """The client went away."""

    async def __aenter__(self) -> "Exchange":
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._watch_now)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if kind is not None and issubclass(kind, asyncio.CancelledError) and self.gone and self._task is not None:
            # Our own cancellation, not the server's: it ends here.
            self._task.uncancel()
            return True
        return False

    async def event(self, data: bytes) -> None:
        """One message on the stream, which begins now if it has not. Not for clients that take no streams."""
        if not self._streams or self._closed:
            return
        try:
            async with asyncio.timeout(READ_S), self._lock:
                await self._stream(_frame(data), more=True)
        except TimeoutError:
            self._gone()
            await asyncio.sleep(0)  # the cancellation arrives here

    async def finish(
        self,
        status: int,
        data: bytes,
        headers: list[tuple[bytes, bytes]] | None = None,
        kind: tuple[bytes, bytes] = JSON,
    ) -> None:
        """The answer: a plain response of a kind (its content type), or the stream's last message."""
        self._closed = True
        if not self.streaming:
            await answer(self._send, status, data, [kind, *(headers or [])])
            return
        async with self._lock:
            await self._stream(_frame(data), more=False)

    async def _stream(self, frame: bytes, *, more: bool) -> None:
        if not self.streaming:
            self.streaming = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _SSE_HEADERS})
        await self._send({"type": "http.response.body", "body": frame, "more_body": more})

    def _watch_now(self) -> None:
        self._spawn(self._watch())
        if self._streams:
            self._timer = self._loop.call_later(max(0.0, self._keep_alive_s - WATCH_AFTER_S), self._ping_now)

    def _ping_now(self) -> None:
        self._spawn(self._ping())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _gone(self) -> None:
        if not self._closed and self._task is not None:
            self.gone = True
            self._task.cancel()

    async def _ping(self) -> None:
        async with self._lock:
            if self._closed:
                return
            await self._stream(_PING, more=True)
        self._timer = self._loop.call_later(self._keep_alive_s, self._ping_now)


def _frame(data: bytes) -> bytes:
    return b"event: message\r\ndata: " + data + b"\r\n\r\n"
