"""Events of the older eras' streams, kept for a client that reconnects with ``Last-Event-ID``. In memory, bounded.

The SDK gives one EventStore to all sessions and names streams by request id alone, so that streams of two sessions
share a name. Here each session has a log of its own, found through a context variable: it is set for each HTTP request,
and the tasks of a session inherit the one of the request that opened it.
"""

import asyncio
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakValueDictionary

from mcp.server.streamable_http import GET_STREAM_KEY, EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse

EVENTS_MAX = 500
"""Events kept per session; the oldest go first."""
EVENT_BYTES_MAX = 2_000_000
"""Bytes of events kept per session, as JSON."""


@dataclass(frozen=True, slots=True)
class _Event:
    number: int
    stream: str
    message: JSONRPCMessage | None
    size: int


class EventLog:
    """The last events of one session."""

    def __init__(self) -> None:
        self._events: deque[_Event] = deque()
        self._number = 0
        self._bytes = 0
        self._more = asyncio.Event()
        self._closed = False

    def append(self, stream: str, message: JSONRPCMessage | None) -> str:
        """Keeps an event; gives its id."""
        size = 0 if message is None else len(message.model_dump_json(by_alias=True, exclude_unset=True))
        self._number += 1
        self._events.append(_Event(self._number, stream, message, size))
        self._bytes += size
        while len(self._events) > EVENTS_MAX or (self._bytes > EVENT_BYTES_MAX and len(self._events) > 1):
            self._bytes -= self._events.popleft().size
        self._wake()
        return str(self._number)

    def close(self) -> None:
        """The session has ended: nothing more comes."""
        self._closed = True
        self._wake()

    def find(self, event_id: str) -> tuple[str, int] | None:
        """``(stream, number)`` of an event; None for an id that is not kept."""
        if not event_id.isdecimal():
            return None
        number = int(event_id[:20])
        stream = next((event.stream for event in self._events if event.number == number), None)
        return None if stream is None else (stream, number)

    def after(self, stream: str, number: int) -> tuple[list[_Event], bool]:
        """``(the stream's later events, whether no more will come)``."""
        of_stream = [event for event in self._events if event.stream == stream]
        ended = any(isinstance(event.message, JSONRPCResponse | JSONRPCError) for event in of_stream)
        return [event for event in of_stream if event.number > number], ended or self._closed

    async def more(self) -> None:
        """Returns when something has come, or nothing will."""
        await self._more.wait()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()


_current: ContextVar[EventLog | None] = ContextVar("opsbus_event_log", default=None)


class EventLogs(EventStore):
    """The SDK's event store: forwards to the log of the session at hand."""

    def __init__(self) -> None:
        # Weak: a session's tasks hold its log through their context, so that the log ends with the session.
        self._logs: WeakValueDictionary[str, EventLog] = WeakValueDictionary()

    def enter(self, session_id: str | None) -> EventLog:
        """Makes the session's log, or a new one, the current one of this task."""
        log = (self._logs.get(session_id) if session_id is not None else None) or EventLog()
        _current.set(log)
        return log

    def opened(self, session_id: str, log: EventLog) -> None:
        """The request that entered ``log`` has opened this session."""
        self._logs.setdefault(session_id, log)

    def closed(self, session_id: str) -> None:
        """The session has ended."""
        log = self._logs.get(session_id)
        if log is not None:
            log.close()

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        return self._log().append(stream_id, message)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Sends again what came after the event, and of a request's stream what comes from now on, to its response.

        The SDK would take over a stream that is given back to it, but not what comes until it has.
        """
        log = self._log()
        found = log.find(last_event_id)
        if found is None:
            return None
        stream, number = found
        while True:
            events, ended = log.after(stream, number)
            for event in events:
                if event.message is not None:
                    await send_callback(EventMessage(event.message, str(event.number)))
                number = event.number
            if events:
                continue  # more may have come meanwhile
            if ended:
                return None
            if stream == GET_STREAM_KEY:
                return stream
            await log.more()

    def _log(self) -> EventLog:
        log = _current.get()
        if log is None:
            raise RuntimeError("every session request enters a log")
        return log
