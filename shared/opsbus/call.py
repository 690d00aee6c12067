"""One call as it runs on a worker: its headers, its time, and what is sent to the caller before the final reply."""

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg

from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed, Header, Identity, LogMessage, Progress, Status
from opsbus_contracts.calls import BODY_BYTES_MAX, HEARTBEAT_EVERY_S, Request

T = TypeVar("T")

MESSAGES_MAX = 5_000
"""Progress and log messages of one call, each at most: the server lets a worker answer only so often."""

GRACE_S = 1.0
"""A cancelled tool has this long to end before the caller is answered all the same. Seconds."""

_FOREVER_S = 86_400.0

_CALL_ID = re.compile(r"^[0-9a-f]{32}$")


class Call:
    """A call from its arrival to its final reply."""

    def __init__(self, msg: Msg, client: Client, instance: str) -> None:
        headers: Mapping[str, str] = msg.headers or {}
        self.msg = msg
        self.headers = headers
        self.instance = instance
        self.arrived = time.perf_counter()
        self.id = headers.get(Header.CALL, "")
        self.attempt = headers.get(Header.ATTEMPT, "1")
        self.trace_id = _trace_id(headers.get(Header.TRACEPARENT, ""))
        self.identity: Identity | None = None
        self.request = Request()
        self.label = "?"
        self.approver = ""
        self.mutating = False
        self.started = False
        self.error = ""
        self.cancelled = False
        self._reason = ""
        self._code = ErrorCode.CANCELLED
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._ends_at = float("inf")
        self._ended: asyncio.Future[None] | None = None
        """What waits for the work: to be told when the call is cut short."""
        self._beat_timer: asyncio.TimerHandle | None = None
        self._beats: set[asyncio.Task[None]] = set()
        self._closed = False
        self._progress_last = float("-inf")
        self._sent = {Status.PROGRESS: 0, Status.LOG: 0}

    @property
    def caller(self) -> Identity:
        """Who is calling.

        Raises:
            ToolError: ``unauthenticated``: nobody was proved yet.
        """
        if self.identity is None:
            raise ToolError(ErrorCode.UNAUTHENTICATED, "the call carries no identity")
        return self.identity

    def check(self) -> None:
        """The headers every call has.

        Raises:
            ToolError: ``invalid_request``, or ``deadline_exceeded`` for a call that came too late.
        """
        if not _CALL_ID.fullmatch(self.id):
            raise ToolError(ErrorCode.INVALID_REQUEST, f"the header {Header.CALL} must be 32 hex digits")
        deadline = self.headers.get(Header.DEADLINE)
        if deadline is not None:
            if not deadline.isdecimal() or len(deadline) > 15:
                raise ToolError(ErrorCode.INVALID_REQUEST, f"the header {Header.DEADLINE} must be Unix milliseconds")
            self.limit(int(deadline) / 1000 - time.time())
        if self.remaining_s <= 0:
            raise self.too_late()

    def limit(self, seconds: float) -> None:
        """The call ends no later than this from now."""
        self._ends_at = min(self._ends_at, self._loop.time() + seconds)

    @property
    def remaining_s(self) -> float:
        """Until the deadline. Seconds."""
        return self._ends_at - self._loop.time()

    @property
    def deadline(self) -> datetime:
        """The deadline in UTC."""
        return datetime.fromtimestamp(time.time() + min(self.remaining_s, 3600.0), UTC)

    def cut_short(self) -> ToolError:
        """The error of a call that was ended from outside: cancelled, or out of time."""
        return self.was_cancelled() if self.cancelled else self.too_late()

    def too_late(self) -> ToolError:
        """The error of a call whose time is over."""
        return ToolError(
            ErrorCode.DEADLINE_EXCEEDED,
            "the call did not end in time" if self.started else "the call's time was over before it began",
            hint="Ask for less, or allow more time." if not self.mutating else "Read the state before trying again.",
            executed=self._effect(),
        )

    def _effect(self) -> Executed:
        return Executed.UNKNOWN if self.mutating and self.started else Executed.NO

    def cancel(self, reason: str = "", code: ErrorCode = ErrorCode.CANCELLED) -> None:
        """Ends the call soon; it is answered with the code."""
        if not self.cancelled:
            self.cancelled = True
            self._reason = reason
            self._code = code
            if self._ended is not None:
                _tell(self._ended)

    def was_cancelled(self) -> ToolError:
        """The error of a call that was cancelled."""
        why = f": {self._reason[:200]}" if self._reason else ""
        return ToolError(self._code, f"the call was cancelled{why}", executed=self._effect())

    async def within_time(self, work: Awaitable[T]) -> T:
        """The work's result, unless the deadline or a cancellation comes first; then the work is cancelled.

        Work that was cut short may say how far it came: by a ToolError ``cancelled`` of its own, raised in its grace.

        Raises:
            ToolError: ``deadline_exceeded`` or ``cancelled``.
        """
        task = asyncio.ensure_future(work)
        try:
            await self._until_ended(task)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            if task.cancelled():
                raise ToolError(ErrorCode.INTERNAL, "the tool ended itself without a result", executed=self._effect())
            return task.result()
        error = self.cut_short()
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_S)
        if task.done() and not task.cancelled():
            # Whatever else it raised is seen and left: the answer is the deadline's or the cancellation's.
            raise _with_how_far(error, task.exception())
        raise error

    async def _until_ended(self, task: asyncio.Future[Any]) -> None:
        """Returns when the task is done, the call cancelled, or its time over. ``asyncio.wait`` costs twice as much."""
        if task.done() or self.cancelled:
            return
        ended = self._ended = self._loop.create_future()
        tell = partial(_tell, ended)
        timer = self._loop.call_later(max(0.0, min(self.remaining_s, _FOREVER_S)), tell)
        task.add_done_callback(tell)
        try:
            await ended
        finally:
            timer.cancel()
            task.remove_done_callback(tell)
            self._ended = None

    def start_heartbeat(self) -> None:
        """From one second on, the caller hears each second that the call is alive."""
        self._beat_timer = self._loop.call_later(HEARTBEAT_EVERY_S, self._beat)

    def _beat(self) -> None:
        if self._closed:
            return
        task = self._loop.create_task(self._send(Status.HEARTBEAT, b""))
        self._beats.add(task)
        task.add_done_callback(self._beats.discard)
        self._beat_timer = self._loop.call_later(HEARTBEAT_EVERY_S, self._beat)

    def close(self) -> None:
        """Nothing but the final reply follows."""
        self._closed = True
        if self._beat_timer is not None:
            self._beat_timer.cancel()

    async def progress(self, progress: Progress) -> None:
        """Sends progress, when the caller wants it and it rises."""
        if self.request.progress and progress.progress > self._progress_last and self._may_send(Status.PROGRESS):
            self._progress_last = progress.progress
            await self._send(Status.PROGRESS, progress.model_dump_json(exclude_none=True).encode())

    async def log(self, message: LogMessage) -> None:
        """Sends a log message."""
        if self._may_send(Status.LOG):
            await self._send(Status.LOG, message.model_dump_json(exclude_none=True).encode())

    def _may_send(self, status: Status) -> bool:
        self._sent[status] += 1
        return self._sent[status] <= MESSAGES_MAX

    async def _send(self, status: Status, body: bytes) -> None:
        if self._closed or len(body) > BODY_BYTES_MAX:
            return
        headers = {Header.STATUS.value: status.value, Header.INSTANCE.value: self.instance}
        await self._client.publish(self.msg.reply, body, headers=headers)

    @property
    def duration_s(self) -> float:
        """Since the arrival. Seconds."""
        return time.perf_counter() - self.arrived

    def arguments_of(self) -> dict[str, Any]:
        """The arguments as given; empty for what has none."""
        return dict(getattr(self.request, "arguments", {}))


def _tell(ended: asyncio.Future[None], _: object = None) -> None:
    if not ended.done():
        ended.set_result(None)


def _with_how_far(error: ToolError, last_words: BaseException | None) -> ToolError:
    if not isinstance(last_words, ToolError) or last_words.code is not ErrorCode.CANCELLED:
        return error
    return ToolError(
        error.code,
        f"{error.message}; {last_words.message}",
        hint=last_words.hint or error.hint,
        details=last_words.details,
        executed=last_words.executed or error.executed,
    )


def _trace_id(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""
