"""From the stream into the store: fetch in order, write, commit, then acknowledge. A message is let go of only when
it is stored.

A batch that the store does not take is held and tried again, so that the order of the stream is kept; while it
waits, the
server is told that it is being worked on. When the process stops with a batch in hand, it is given back at once.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from sqlalchemy.exc import SQLAlchemyError

from opsbus import tasks
from opsbus.logs import Log
from opsbus_audit.metrics import ConsumerMetrics
from opsbus_audit.pull import Pull, PullError
from opsbus_audit.record import Stored, stored
from opsbus_audit.store import Written
from opsbus_contracts.streams import AUDIT_STORE, ConsumerSpec

_RETRY_FIRST_S = 0.25
_RETRY_MAX_S = 15.0
"""Waits between attempts double from the first to the longest. Seconds; the longest is half of the consumer's
ack_wait."""
_PART = 100
"""Messages that are prepared in one go."""


class Store(Protocol):
    """Where batches go."""

    def prepare(self, messages: Sequence[Stored]) -> Any:
        """What ``append`` takes: done while the batch before it is being written."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """One batch of several that ``prepare`` made, in their order."""
        ...

    async def append(self, prepared: Any) -> Written:
        """Store a batch in one transaction, each message once."""
        ...


class _Batch(NamedTuple):
    """Messages in hand, as they came and as they are stored."""

    messages: list[Msg]
    last: Stored
    prepared: Any


class StreamConsumer:
    """Reads a durable consumer of AUDIT until it is cancelled.

    Args:
        spec: Which; the store's own unless given.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: ConsumerMetrics,
        log: Log,
        batch_max: int = 1_000,
        spec: ConsumerSpec = AUDIT_STORE,
    ) -> None:
        self._spec = spec
        self._client = client
        self._js = client.jetstream(timeout=5.0)
        self._store = store
        self._metrics = metrics
        self._log = log
        self._batch_max = batch_max
        self._life = ""

    async def run(self) -> None:
        """Fetch and store for ever; whatever goes wrong is logged, counted and tried again."""
        wait = _RETRY_FIRST_S
        while True:
            try:
                await self._look()
                wait = _RETRY_FIRST_S
                await self._read()
            except NotFoundError:
                self._log.error("the stream AUDIT or its consumer is missing: run `opsbus provision`", wait_s=wait)
            except (PullError, nats_errors.Error, TimeoutError, OSError) as error:
                self._log.warning("reading the audit stream failed, trying again", error=repr(error), wait_s=wait)
            self._metrics.read_errors.inc()
            await asyncio.sleep(wait)
            wait = min(wait * 2, _RETRY_MAX_S)

    async def _look(self) -> None:
        """Learn how far behind the consumer is, and which life of the stream this is: one made anew counts from 1
        again."""
        stream = await self._js.stream_info(self._spec.stream)
        consumer = await self._js.consumer_info(self._spec.stream, self._spec.name)
        self._metrics.pending.set((consumer.num_pending or 0) + (consumer.num_ack_pending or 0))
        created = stream.created.strftime("%Y%m%dT%H%M%S.%fZ") if stream.created else ""
        self._life = f"{self._spec.stream}@{created}"

    async def _read(self) -> None:
        """Fetch and prepare one batch while the one before it is written; batches are written one after the other."""
        pull = Pull(self._client, self._spec.stream, self._spec.name, self._batch_max)
        await pull.start()
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                messages = await pull.batch()
                if messages:
                    batch = await self._prepared(messages)
                    if writing is not None:
                        await self._finished(writing, messages)
                    writing = asyncio.create_task(self._settle(batch))
                elif writing is None or writing.done():
                    if writing is not None:
                        writing.result()
                    await self._look()
        finally:
            await tasks.end(writing)
            await pull.stop()

    async def _prepared(self, messages: list[Msg]) -> _Batch:
        parts = []
        for start in range(0, len(messages), _PART):
            if start:
                # The batch before is being written meanwhile, and each of its answers waits for this loop.
                await asyncio.sleep(0)
            some = messages[start : start + _PART]
            parts.append(self._store.prepare([stored(message, self._life) for message in some]))
        return _Batch(messages, stored(messages[-1], self._life), self._store.join(parts))

    async def _finished(self, writing: "asyncio.Task[None]", waiting: list[Msg]) -> None:
        try:
            await asyncio.shield(writing)
        except BaseException:
            # What waits in hand goes back too: another instance, or the next start, need not wait for ack_wait.
            await _each(waiting, "nak")
            raise

    async def _settle(self, batch: _Batch) -> None:
        try:
            written = await self._store_until_taken(batch)
        except asyncio.CancelledError:
            await _each(batch.messages, "nak")
            raise
        await _each(batch.messages, "ack")
        self._count(batch.last, batch.messages[-1], written)

    async def _store_until_taken(self, batch: _Batch) -> Written:
        wait = _RETRY_FIRST_S
        while True:
            try:
                return await self._store.append(batch.prepared)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                self._metrics.store_errors.inc()
                self._metrics.storing.set(0)
                self._log.error(
                    "the audit store does not take events, trying again",
                    error=type(error).__name__,
                    last=batch.last.sequence,
                    events=len(batch.messages),
                    wait_s=wait,
                )
            await _each(batch.messages, "in_progress")
            await asyncio.sleep(wait)
            wait = min(wait * 2, _RETRY_MAX_S)

    def _count(self, last: Stored, message: Msg, written: Written) -> None:
        metrics = self._metrics
        metrics.storing.set(1)
        metrics.stored.inc(written.new)
        metrics.unreadable.inc(written.unreadable)
        metrics.duplicates.inc(written.duplicates)
        metrics.sequence.set(last.sequence)
        metrics.pending.set(message.metadata.num_pending)
        metrics.lag.set(max(0.0, time.time() - last.stored_ns / 1e9))
        if written.unreadable:
            self._log.warning("events that cannot be read were stored and flagged", events=written.unreadable)


async def _each(messages: list[Msg], verb: str) -> None:
    for message in messages:
        await getattr(message, verb)()
