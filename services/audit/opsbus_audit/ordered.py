"""The stream in order and in batches, without a durable consumer and without leaving a trace: an ordered consumer on
core NATS.

The client library's own is not used: it takes an event whose headers say `Status` for a message of the server's, and
hands out one message at a time. Here a message of the stream is told by its `$JS.ACK` reply, which none can forge.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from opsbus_contracts.streams import AUDIT

BATCH_MAX = 2_000
"""Messages handed out at once. What a slow reader has not taken waits in the client, within the server's window."""

_HEARTBEAT_S = 2.0
_SILENCE_MAX_S = 3 * _HEARTBEAT_S
_INACTIVE_S = 60.0
"""The server forgets a consumer nobody listens to after this long. Seconds."""

_RETRY_S = 0.25
_MEND_MAX_S = 60.0
"""Reading to an end gives up when the bus is away for longer; following waits for it. Seconds."""

_STORED = "$JS.ACK."
_V1_TOKENS = 9


class Recorded(NamedTuple):
    """A message of the stream, or a row of the store: what was recorded, byte for byte."""

    sequence: int
    stored_ns: int
    subject: str
    headers: dict[str, str] | None
    payload: bytes


@dataclass(frozen=True)
class Range:
    """Where reading begins and ends.

    ``first`` beats ``since``; neither: from the very first. ``to_end``: not beyond what is there when it begins.
    """

    first: int | None = None
    since: datetime | None = None
    to_end: bool = True
    only_new: bool = False
    subject: str = AUDIT.subjects[0]
    stream: str = AUDIT.name


class StreamReader:
    """One reading of the stream, from ``start`` to ``stop``. A gap or a silent server makes it begin again after the
    last message it gave."""

    def __init__(self, client: Client, wanted: Range) -> None:
        self._client = client
        self._js = client.jetstream(timeout=5.0)
        self._wanted = wanted
        self._subscription: Subscription | None = None
        self._name = ""
        self._next = 1
        self._last_given = 0
        self._end: int | None = None
        self._heard = 0.0
        self._broken = False
        self._over = False

    async def batches(self) -> AsyncGenerator[list[Recorded], None]:
        """What was recorded, in order, as it comes; an empty batch about each second when there is nothing.

        Raises:
            nats.js.errors.NotFoundError: there is no stream.
            TimeoutError, nats.errors.Error: the bus does not answer at the start.
        """
        await self._start()
        try:
            while not self._over:
                messages = await self._take()
                batch = await self._read(messages)
                if batch or not messages:
                    yield batch
                await self._mend()
        finally:
            await self._stop()

    async def _take(self) -> list[Msg]:
        """All that has arrived, and at least one message unless none comes within a second."""
        subscription = self._subscription
        if subscription is None:
            raise RuntimeError("the stream is read before start")
        # The client's queue is emptied here: its callbacks and its iterator take as long as all the rest does.
        queue = subscription._pending_queue
        if queue.empty():
            try:
                messages = [await subscription.next_msg(timeout=1.0)]
            except TimeoutError:
                return []
        else:
            messages = []
        bytes_taken = 0
        while len(messages) < BATCH_MAX and not queue.empty():
            message = queue.get_nowait()
            bytes_taken += len(message.data)
            messages.append(message)
        subscription._pending_size -= bytes_taken
        self._heard = time.monotonic()
        return messages

    async def _start(self) -> None:
        if self._wanted.to_end:
            self._end = (await self._js.stream_info(self._wanted.stream)).state.last_seq
        wanted = self._wanted
        policy = {"deliver_policy": DeliverPolicy.NEW if wanted.only_new else DeliverPolicy.ALL}
        more: dict[str, object] = {}
        if wanted.first is not None:
            policy = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE}
            more = {"opt_start_seq": max(1, wanted.first)}
        elif wanted.since is not None:
            policy = {"deliver_policy": DeliverPolicy.BY_START_TIME}
            more = {"opt_start_time": wanted.since}
        await self._consume(**policy, **more)

    async def _consume(self, **start: object) -> None:
        self._broken = False
        self._next = 1
        self._heard = time.monotonic()
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox)
        self._name = f"read-{secrets.token_hex(6)}"
        config = ConsumerConfig(
            name=self._name,
            deliver_subject=inbox,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=_HEARTBEAT_S,
            num_replicas=1,
            mem_storage=True,
            inactive_threshold=_INACTIVE_S,
            filter_subject=self._wanted.subject,
            **start,  # type: ignore[arg-type]
        )
        info = await self._js.add_consumer(self._wanted.stream, config)
        delivered = info.delivered.consumer_seq if info.delivered else 0
        if self._end is not None and not (info.num_pending or delivered):
            self._over = True

    async def _read(self, messages: list[Msg]) -> list[Recorded]:
        """What the messages are, up to a gap or the end."""
        batch: list[Recorded] = []
        name, end, expected = self._name, self._end, self._next
        for message in messages:
            reply = message.reply
            if not reply.startswith(_STORED):
                self._next = expected
                await self._control(message)
                continue
            tokens = reply.split(".")
            at = 5 if len(tokens) == _V1_TOKENS else 7
            if tokens[at - 2] != name or tokens[at + 1] != str(expected):
                self._broken = True
                break
            expected += 1
            sequence = int(tokens[at])
            if end is not None:
                if sequence > end:
                    self._over = True
                    break
                if sequence == end or tokens[at + 3] == "0":
                    self._over = True
            batch.append(Recorded(sequence, int(tokens[at + 2]), message.subject, message.headers, message.data))
        self._next = expected
        if batch:
            self._last_given = batch[-1].sequence
        return batch

    async def _control(self, message: Msg) -> None:
        headers = message.headers or {}
        stalled = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if stalled.startswith("$JS.FC."):
            await self._client.publish(stalled)
        delivered = headers.get("Nats-Last-Consumer", "")
        if delivered.isdecimal() and int(delivered) >= self._next:
            self._broken = True

    async def _mend(self) -> None:
        """Begin again after the last message, when one is missing or the server has forgotten the consumer."""
        if self._over or not (self._broken or time.monotonic() - self._heard > _SILENCE_MAX_S):
            return
        await self._stop()
        ends = time.monotonic() + _MEND_MAX_S
        while True:
            try:
                if self._last_given:
                    await self._consume(
                        deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._last_given + 1
                    )
                else:
                    await self._start()
                return
            except (errors.Error, TimeoutError, OSError):
                await self._stop()
                if self._wanted.to_end and time.monotonic() > ends:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._client.is_closed:
            return
        try:
            await subscription.unsubscribe()
            await self._js.delete_consumer(self._wanted.stream, self._name)
        except (errors.Error, TimeoutError, OSError):
            return  # the server forgets it by itself
