"""Brings events into the stream AUDIT: at once and acknowledged, or from a bounded buffer that forgets nothing.

What does not fit is never dropped in silence: from ``buffer_max`` on new calls are refused (``accepting``), and the
room beyond it is for the ends of calls that were already let in.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from opsbus import logs, tasks
from opsbus_contracts.audit import PlatformStage, Stage
from opsbus_contracts.calls import Header
from opsbus_contracts.streams import AUDIT
from opsbus_edge.audit.event import Event, EventMaker
from opsbus_edge.metrics import Metrics

log = logs.get("edge")

BATCH_MAX = 512
BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_MSG_ID = Header.MSG_ID.value
_ERRORS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class AuditLog:
    """The record of one edge process."""

    def __init__(
        self, nc: Client, instance: str, metrics: Metrics, *, buffer_max: int = 10_000, timeout_s: float = 3.0
    ) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=timeout_s, publish_async_max_pending=4 * BATCH_MAX)
        self._maker = EventMaker(instance)
        self._metrics = metrics
        self._buffer: deque[Event] = deque()
        self._buffer_max = buffer_max
        self._timeout_s = timeout_s
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sending = 0
        self._failing = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to empty the buffer."""
        self._task = asyncio.create_task(self._run(), name="audit-log")

    @property
    def pending(self) -> int:
        """Events not yet acknowledged."""
        return len(self._buffer) + self._sending

    @property
    def accepting(self) -> bool:
        """Whether a new call's events find room."""
        return self.pending < self._buffer_max

    def problem(self) -> str | None:
        """Why /ready is red, if it is because of the record."""
        if not self.accepting:
            return f"{self.pending} audit events wait to be stored, which is the bound"
        if self._failing:
            return f"the audit log does not take events: {self._failing}"
        return None

    def write(self, stage: Stage | PlatformStage, record: dict[str, Any], traceparent: str | None = None) -> None:
        """Record soon. Beyond twice the bound, which only the ends of calls can reach, an event is lost and counted."""
        self._put(self._maker.make(stage, record, traceparent))

    async def store(self, stage: Stage, record: dict[str, Any], traceparent: str | None = None) -> bool:
        """Record now; True when the stream has acknowledged.

        An event that was not acknowledged goes into the buffer all the same: its number is taken, and under its id the
        stream keeps it once.
        """
        event = self._maker.make(stage, record, traceparent)
        try:
            if not self._nc.is_connected:
                raise nats.errors.ConnectionReconnectingError
            await self._js.publish(
                event.subject, event.body, timeout=self._timeout_s, stream=AUDIT.name, headers={_MSG_ID: event.id}
            )
        except _ERRORS as error:
            self._fail(error)
            self._put(event)
            return False
        self._metrics.audit_events.labels("stored").inc()
        return True

    async def close(self, timeout_s: float) -> int:
        """Store what is left; returns how many events could not be."""
        if self._task is None:
            return self.pending
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        await tasks.end(self._task)
        if self.pending:
            log.error("audit events lost at shutdown", events=self.pending)
            self._metrics.audit_events.labels("lost").inc(self.pending)
        return self.pending

    def _put(self, event: Event) -> None:
        if self.pending >= 2 * self._buffer_max:
            self._metrics.audit_events.labels("lost").inc()
            log.error("audit event lost", id=event.id, subject=event.subject)
            return
        self._buffer.append(event)
        self._empty.clear()
        self._work.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            if not self._buffer:
                self._work.clear()
                await self._work.wait()
            batch = [self._buffer.popleft() for _ in range(min(BATCH_MAX, len(self._buffer)))]
            self._sending = len(batch)
            left = batch
            try:
                left = await self._send(batch)
            finally:
                # In their place again, also when this task is cancelled: what is left is counted.
                self._buffer.extendleft(reversed(left))
                self._sending = 0
            stored = len(batch) - len(left)
            if stored:
                self._metrics.audit_events.labels("stored").inc(stored)
            if left:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
            else:
                failures = 0
                self._recovered()
                if not self._buffer:
                    self._empty.set()

    async def _send(self, batch: list[Event]) -> list[Event]:
        """Publish a batch and wait for its acknowledgements; returns what has none, in order."""
        sent: list[tuple[Event, asyncio.Future[Any]]] = []
        try:
            for event in batch:
                if not self._nc.is_connected:
                    raise nats.errors.ConnectionReconnectingError
                sent.append(
                    (event, await self._js.publish_async(event.subject, event.body, headers={_MSG_ID: event.id}))
                )
        except _ERRORS as error:
            self._fail(error)
        if sent:
            await asyncio.wait([future for _, future in sent], timeout=self._timeout_s)
        left = [event for event, future in sent if not self._acknowledged(future)]
        return left + batch[len(sent) :]

    def _acknowledged(self, future: "asyncio.Future[Any]") -> bool:
        if not future.done():
            future.cancel()  # nats-py would wait for it, and hold its place, for ever
            self._fail(TimeoutError("no acknowledgement"))
            return False
        if error := future.exception():
            self._fail(error)
            return False
        return True

    def _fail(self, error: BaseException) -> None:
        said = f"{type(error).__name__} {error}".strip()[:200]
        if not self._failing:
            log.error("the audit log does not take events", error=said)
        self._failing = said
        self._metrics.audit_events.labels("retried").inc()

    def _recovered(self) -> None:
        if self._failing:
            log.info("the audit log takes events again")
            self._failing = ""
