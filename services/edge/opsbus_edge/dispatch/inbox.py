"""One wildcard subscription takes the replies of all calls of this edge and hands each to the slot it belongs to."""

import asyncio
from collections import OrderedDict, deque

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from opsbus.nats_client import flush_twice
from opsbus.nats_quick import QuickClient
from opsbus_contracts.calls import FINAL, Header, Status
from opsbus_contracts.subjects import inbox_prefix
from opsbus_edge.metrics import Metrics

WAITING_MAX = 1_000
"""Progress and log messages that wait for a slow client, per attempt; further ones are dropped."""
WAITING_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of them."""
RETIRED_MAX = 20_000
"""Ended attempts remembered, so that late and repeated replies are told apart."""

_HEARTBEAT = Status.HEARTBEAT.value
_FINAL = frozenset(status.value for status in FINAL)
_STATUS = Header.STATUS.value


class Slot:
    """Where the replies of one attempt arrive."""

    __slots__ = ("_bytes", "_messages", "_waiter", "dropped", "final", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.final = False
        self.dropped = 0
        self._messages: deque[Msg] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def push(self, msg: Msg) -> None:
        """A reply arrived."""
        status = (msg.headers or {}).get(_STATUS)
        waiting = len(self._messages)
        if status in _FINAL or status is None:
            self.final = True
        elif status == _HEARTBEAT and waiting:
            return  # behind other messages it says nothing that they do not
        elif waiting >= WAITING_MAX or self._bytes + len(msg.data) > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        self._messages.append(msg)
        self._bytes += len(msg.data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, timeout_s: float) -> Msg | None:
        """The next reply, in order; None when none came in time."""
        if not self._messages and timeout_s > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if not self._messages:
            return None
        msg = self._messages.popleft()
        self._bytes -= len(msg.data)
        return msg


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Inbox:
    """All slots of an edge connection, under ``_INBOX.edge.<instance>.*``."""

    def __init__(self, nc: QuickClient, instance: str, metrics: Metrics) -> None:
        self._nc = nc
        self._prefix = f"{inbox_prefix('edge')}.{instance}."
        self._metrics = metrics
        self._slots: dict[str, Slot] = {}
        self._retired: OrderedDict[str, bool] = OrderedDict()
        self._subscription: Subscription | None = None

    def __len__(self) -> int:
        return len(self._slots)

    async def start(self) -> None:
        """Subscribe; on return the server routes replies here."""
        self._subscription = await self._nc.subscribe_directly(f"{self._prefix}*", self._route)
        await flush_twice(self._nc)

    async def stop(self) -> None:
        """End the subscription."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()

    def open(self, token: str) -> tuple[Slot, str]:
        """A slot and the reply subject that leads to it."""
        slot = self._slots[token] = Slot(token)
        return slot, self._prefix + token

    def close(self, slot: Slot) -> None:
        """Whatever arrives for this slot from now on is late."""
        self._slots.pop(slot.token, None)
        self._retired[slot.token] = slot.final
        if len(self._retired) > RETIRED_MAX:
            self._retired.popitem(last=False)

    def _route(self, msg: Msg) -> None:
        token = msg.subject[len(self._prefix) :]
        slot = self._slots.get(token)
        if slot is None:
            self._ignore(token, msg)
        elif slot.final:
            self._metrics.replies_ignored.labels("duplicate").inc()
        else:
            slot.push(msg)

    def _ignore(self, token: str, msg: Msg) -> None:
        final = (msg.headers or {}).get(_STATUS) in _FINAL
        why = "stranger"
        if token in self._retired:
            why = "duplicate" if final and self._retired[token] else "late"
            self._retired[token] = self._retired[token] or final
        self._metrics.replies_ignored.labels(why).inc()
