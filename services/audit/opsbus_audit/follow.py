"""Reading the stream live and in order, without a durable consumer: what a terminal needs. Storing is consumer.py's
matter."""

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from opsbus_audit.record import stored
from opsbus_audit.search import Entry, entry_of_message
from opsbus_contracts.streams import AUDIT

_WAIT_S = 1.0


async def follow(client: Client, *, start: datetime | None, to_end: bool) -> AsyncIterator[Entry]:
    """Events of the stream, in order.

    Args:
        client: Of the identity ``auditor``.
        start: The first to show by the server's time; None: the next that comes, or with ``to_end`` the very first.
        to_end: End after the last event that is there when this begins.

    Raises:
        TimeoutError, nats.errors.Error: the bus or the stream does not answer.
    """
    js = client.jetstream(timeout=5.0)
    last = (await js.stream_info(AUDIT.name)).state.last_seq
    if to_end and last == 0:
        return
    subscription = await _subscribe(js, start, to_end)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(subscription.unsubscribe)
        if to_end and not await _any_comes(subscription):
            return
        async for message in _messages(subscription, last if to_end else None):
            yield entry_of_message(stored(message, AUDIT.name))


async def _subscribe(js: JetStreamContext, start: datetime | None, to_end: bool) -> JetStreamContext.PushSubscription:
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL if to_end else DeliverPolicy.NEW)
    if start is not None:
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start)
    return await js.subscribe(AUDIT.subjects[0], stream=AUDIT.name, config=config, ordered_consumer=True)


async def _any_comes(subscription: JetStreamContext.PushSubscription) -> bool:
    """Whether there is an event at or after the start; the stream's last one is always among those."""
    info = await subscription.consumer_info()
    delivered = info.delivered.consumer_seq if info.delivered else 0
    return bool(info.num_pending or delivered)


async def _messages(subscription: JetStreamContext.PushSubscription, last: int | None) -> AsyncIterator[Msg]:
    while True:
        try:
            message = await subscription.next_msg(timeout=_WAIT_S)
        except TimeoutError:
            continue
        sequence = message.metadata.sequence.stream
        if last is not None and sequence > last:
            return
        yield message
        if last is not None and sequence >= last:
            return
