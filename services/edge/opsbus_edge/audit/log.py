"""Brings events into the stream AUDIT: at once and acknowledged, or from a bounded queue that forgets nothing.

What does not fit is never dropped in silence: from the bound on new calls are refused (``problem``), and the room
beyond it is for the ends of calls that were already let in. Where events wait: queue.py; how they are sent: sender.py.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any

from opsbus import logs, tasks
from opsbus.nats_quick import QuickClient
from opsbus_contracts.audit import PlatformStage, Stage
from opsbus_edge.audit.event import Event, EventMaker
from opsbus_edge.audit.queue import Queue, Waiting
from opsbus_edge.audit.sender import Sender
from opsbus_edge.metrics import Metrics

log = logs.get("edge")

BATCH_MAX = 512
SYNC_EVERY_S = 1.0
BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class AuditLog:
    """The record of one edge process."""

    def __init__(
        self, nc: QuickClient, instance: str, metrics: Metrics, queue: Queue, *, timeout_s: float = 3.0
    ) -> None:
        self._sender = Sender(nc, timeout_s)
        self._maker = EventMaker(instance)
        self._metrics = metrics
        self._queue = queue
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._failing = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to empty the queue, with what processes before left in the spool. Raises OSError."""
        if left := await asyncio.to_thread(self._queue.take_over):
            log.info("audit events of an edge before this one were found in the spool", events=left)
            self._wake()
        await self._sender.start()
        self._tasks = [
            asyncio.create_task(self._run(), name="audit-log"),
            asyncio.create_task(self._sync(), name="audit-spool-sync"),
        ]

    @property
    def pending(self) -> int:
        """Events not yet acknowledged."""
        return len(self._queue)

    @property
    def spool_bytes(self) -> int:
        """Size of the spool on disk."""
        return self._queue.bytes_on_disk

    @property
    def accepting(self) -> bool:
        """Whether a new call's events find room."""
        return not self._queue.problem()

    def problem(self) -> str | None:
        """Why /ready is red, if it is because of the record."""
        if problem := self._queue.problem():
            return problem
        if self._failing:
            return f"the audit log does not take events: {self._failing}"
        return None

    def write(self, stage: Stage | PlatformStage, record: dict[str, Any], traceparent: str | None = None) -> None:
        """Record soon. Beyond twice the bound, which the ends of calls can reach, an event is lost and counted."""
        event = self._maker.make(stage, record, traceparent)
        self._queued(self._queue.put(event), event)

    async def store(self, stage: Stage, record: dict[str, Any], traceparent: str | None = None) -> bool:
        """Record now; True when the stream has acknowledged.

        An event that was not acknowledged is queued all the same: its number is taken, and under its id the stream
        keeps it once.
        """
        held = self._queue.hold(self._maker.make(stage, record, traceparent))
        try:
            left, error = await self._sender.send((held.event,))
        except asyncio.CancelledError:
            self._queued(self._queue.put_held(held), held.event)
            raise
        if left:
            self._fail(error)
            self._queued(self._queue.put_held(held), held.event)
            return False
        self._queue.release(held)
        self._metrics.audit_events.labels("stored").inc()
        return True

    async def close(self, timeout_s: float) -> int:
        """Store what is left; returns how many events are lost. What is in the spool is not: it stays there."""
        if not self._tasks:
            return self.pending
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        for task in self._tasks:
            await tasks.end(task)
        await self._sender.stop()
        if lost := self._queue.in_memory_alone:
            log.error("audit events lost at shutdown", events=lost)
            self._metrics.audit_events.labels("lost").inc(lost)
        if kept := self.pending - lost:
            log.warning("audit events stay in the spool; the next edge that starts here sends them", events=kept)
        self._queue.close()
        return lost

    def _queued(self, taken: bool, event: Event) -> None:
        if not taken:
            self._metrics.audit_events.labels("lost").inc()
            log.error("audit event lost", id=event.id, subject=event.subject)
            return
        self._wake()

    def _wake(self) -> None:
        self._empty.clear()
        self._work.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            if not self.pending:
                self._empty.set()
                self._work.clear()
                await self._work.wait()
            try:
                taken = await self._batch()
            except OSError as error:  # the spool cannot be read
                self._fail(error)
                taken = False
            if taken:
                failures = 0
                self._recovered()
            else:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1

    async def _batch(self) -> bool:
        """Send a batch; True when all of it was taken."""
        batch = self._queue.take(BATCH_MAX)
        left: Sequence[Waiting] = batch
        try:
            left = await self._send(batch)
        finally:
            # In their place again, also when this task is cancelled: what is left is counted.
            self._queue.give_back(left)
            waits = set(map(id, left))
            stored = [one for one in batch if id(one) not in waits]
            self._queue.stored(stored)
        if stored:
            self._metrics.audit_events.labels("stored").inc(len(stored))
        return not left

    async def _sync(self) -> None:
        """What waits is on the disk itself within seconds; a process that dies loses nothing in any case."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            try:
                for handle in self._queue.unsynced():
                    await asyncio.to_thread(_sync_and_close, handle)
            except OSError as error:
                log.error("the audit spool cannot be brought to the disk", error=str(error))

    async def _send(self, batch: list[Waiting]) -> list[Waiting]:
        """Publish a batch and wait for its acknowledgements; returns what has none, in order."""
        left, error = await self._sender.send([one.event for one in batch])
        if left:
            self._fail(error)
        return [batch[place] for place in left]

    def _fail(self, error: BaseException | None) -> None:
        said = f"{type(error).__name__} {error}".strip()[:200]
        if not self._failing:
            log.error("the audit log does not take events", error=said)
        self._failing = said
        self._metrics.audit_events.labels("retried").inc()

    def _recovered(self) -> None:
        if self._failing:
            log.info("the audit log takes events again")
            self._failing = ""


def _sync_and_close(handle: int) -> None:
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
