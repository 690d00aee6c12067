"""Carries an order to a worker: attempts, silence, fail-over, deadline, cancellation. Every way out tells the truth.

Published to nobody (no responders): not executed, tried again within a short grace, for a worker may be restarting.
Silent for SILENCE_MAX_S: lost; what is repeatable moves to another instance, all else ends as ``outcome_unknown``.
"""

import asyncio
import random
from enum import Enum

import nats.errors
import orjson

from opsbus import logs
from opsbus.nats_quick import QuickClient
from opsbus_contracts.calls import SILENCE_MAX_S, Cancel, Header, Status
from opsbus_contracts.errors import ErrorCode, Executed
from opsbus_contracts.subjects import cancel_subject
from opsbus_edge.dispatch.inbox import Inbox, Slot
from opsbus_edge.dispatch.order import Order
from opsbus_edge.dispatch.outcomes import deadline_exceeded, lost_for_good, no_worker, not_connected, overloaded
from opsbus_edge.dispatch.replies import final_reply, is_no_responders, status_of
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import OnMessage, Reply

log = logs.get("edge")

ATTEMPTS_MAX = 3
"""Dispatches of one call that reached a worker."""
NO_WORKER_GRACE_S = 1.0
"""How long a call waits for a worker to come (back)."""
NO_WORKER_PAUSES_S = (0.03, 0.06, 0.12, 0.2, 0.2, 0.2, 0.2)
BUSY_PAUSE_S = 0.03
"""Before a busy service is asked again; jitter of up to as much again."""
DEADLINE_GRACE_S = 1.5
"""A worker ends a call at its deadline and says how it went: this long its word is waited for."""

_ATTEMPT = Header.ATTEMPT.value
_ANOTHER_MAY_DO = frozenset(
    {
        ErrorCode.UNKNOWN_TOOL.value,
        ErrorCode.UNKNOWN_RESOURCE.value,
        ErrorCode.UNKNOWN_PROMPT.value,
        ErrorCode.UNKNOWN_METHOD.value,
        ErrorCode.QUARANTINED.value,
    }
)
"""Not executed, and another instance, of another version, may know it."""


class _End(Enum):
    """How an attempt ended without a reply."""

    NOBODY = "no_responders"
    LOST = "lost"
    DEADLINE = "deadline"


class Dispatcher:
    """Calls of one edge connection."""

    def __init__(self, nc: QuickClient, instance: str, metrics: Metrics, in_flight_max: int = 10_000) -> None:
        self._nc = nc
        self._metrics = metrics
        self._in_flight_max = in_flight_max
        self._inbox = Inbox(nc, instance, metrics)

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return len(self._inbox)

    async def start(self) -> None:
        """On return replies find their way."""
        await self._inbox.start()

    async def stop(self) -> None:
        """Take no more replies."""
        await self._inbox.stop()

    async def call(self, order: Order, on_message: OnMessage | None = None) -> Reply:
        """The final reply to an order, from a worker or about the lack of one.

        Never raises but CancelledError: the workers are told, then it goes on up.
        """
        if len(self._inbox) >= self._in_flight_max:
            return overloaded(self._in_flight_max)
        flight = _Flight(self, order, on_message)
        self._metrics.in_flight.inc()
        try:
            return await flight.run()
        except asyncio.CancelledError:
            if flight.published:
                await self.cancel(order, "the caller went away")
            raise
        finally:
            self._metrics.in_flight.dec()

    async def cancel(self, order: Order, reason: str) -> None:
        """Tell the service's instances to end the call; whether they hear it is not known."""
        body = Cancel(call=order.call, reason=reason).model_dump_json().encode()
        try:
            await self._nc.publish(cancel_subject(order.service), body)
        except (nats.errors.Error, OSError) as error:
            log.warning("cancel not sent", call=order.call, error=str(error) or type(error).__name__)

    def open(self, token: str) -> tuple[Slot, str]:
        """A slot for an attempt, and its reply subject."""
        return self._inbox.open(token)

    def close(self, slot: Slot, outcome: str) -> None:
        """An attempt ended."""
        self._inbox.close(slot)
        self._metrics.attempt(outcome)
        if slot.dropped:
            self._metrics.replies_ignored.labels("slow_client").inc(slot.dropped)

    async def connected(self, timeout_s: float) -> bool:
        """Whether NATS is there, or comes back within the time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while not self._nc.is_connected:
            if loop.time() >= until or self._nc.is_closed:
                return False
            await asyncio.sleep(0.02)
        return True

    async def publish(self, order: Order, reply_to: str, attempt: int) -> None:
        """Publish one attempt; raises nats' errors when it was not even buffered."""
        headers = {**order.headers, _ATTEMPT: str(attempt)}
        await self._nc.send(order.subject, order.body, reply_to, headers)


class _Flight:
    """One call under way."""

    def __init__(self, dispatcher: Dispatcher, order: Order, on_message: OnMessage | None) -> None:
        self._d = dispatcher
        self._order = order
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + order.timeout_s
        self._nobody_since: float | None = None
        self._tries = 0
        self._nobody = 0
        self._refused = 0
        self._progress = float("-inf")
        self.attempts = 0
        self.lost = 0
        self.published = False

    async def run(self) -> Reply:
        """Attempts until one of them settles it."""
        while True:
            if not await self._d.connected(min(NO_WORKER_GRACE_S, self._left())):
                return not_connected(self._order, self.attempts, self.lost)
            end = await self._attempt()
            if isinstance(end, Reply):
                if not await self._try_another(end):
                    return end
            elif end is _End.NOBODY:
                if not await self._wait_for_worker():
                    return no_worker(self._order, self.attempts, self.lost)
            elif end is _End.DEADLINE:
                await self._d.cancel(self._order, "the deadline has passed")
                return deadline_exceeded(self._order, self.attempts)
            elif not self._may_fail_over():
                return lost_for_good(self._order, self.attempts)

    async def _attempt(self) -> Reply | _End:
        self._tries += 1
        slot, reply_to = self._d.open(f"{self._order.call}-{self._tries}")
        outcome = "abandoned"
        try:
            try:
                await self._d.publish(self._order, reply_to, self.attempts + 1)
            except (nats.errors.Error, OSError) as error:
                log.warning("not published", call=self._order.call, error=str(error) or type(error).__name__)
                outcome = "not_published"
                return not_connected(self._order, self.attempts, self.lost)
            self.published = True
            end = await self._listen(slot)
            outcome = end.value if isinstance(end, _End) else end.error_code or end.status.value
            return end
        finally:
            self._d.close(slot, outcome)

    async def _listen(self, slot: Slot) -> Reply | _End:
        heard = self._loop.time()
        counted = False
        while True:
            now = self._loop.time()
            left = min(heard + SILENCE_MAX_S, self._ends_at + DEADLINE_GRACE_S) - now
            msg = await slot.next(left)
            if msg is None:
                self.attempts += not counted
                if self._loop.time() >= self._ends_at + DEADLINE_GRACE_S:
                    return _End.DEADLINE
                self.lost += 1
                return _End.LOST
            if is_no_responders(msg):
                return _End.NOBODY
            heard = self._loop.time()
            if not counted:
                self.attempts, counted = self.attempts + 1, True
            status = status_of(msg)
            if status in (Status.PROGRESS, Status.LOG):
                await self._forward(Status(status), msg.data)
                heard = self._loop.time()
            elif status != Status.HEARTBEAT:
                return final_reply(msg, self.attempts)

    async def _forward(self, status: Status, body: bytes) -> None:
        """Progress and logs go to the client, if they are what they say; progress only if it rises."""
        if self._on_message is None:
            return
        try:
            message = orjson.loads(body)
            if status is Status.PROGRESS:
                progress = float(message["progress"])
                if progress <= self._progress:
                    return
                self._progress = progress
            elif not isinstance(message["level"], str) or "data" not in message:
                return
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            log.warning("message dropped: not what its status says", call=self._order.call, status=status.value)
            return
        await self._on_message(status, body)

    async def _try_another(self, reply: Reply) -> bool:
        """After a reply that says ``not executed``: whether to ask again, another instance perhaps."""
        if reply.executed is not Executed.NO or reply.status is not Status.ERROR:
            return False
        skew = reply.error_code in _ANOTHER_MAY_DO and self._order.instances > 1
        if reply.error_code != ErrorCode.BUSY.value and not skew:
            return False
        self._refused += 1
        pause = BUSY_PAUSE_S * (1 + random.random())  # noqa: S311 - jitter
        if self._refused >= ATTEMPTS_MAX or self._left() <= pause:
            return False
        await asyncio.sleep(pause)
        return True

    async def _wait_for_worker(self) -> bool:
        """After no responders: whether the grace leaves room for another try."""
        now = self._loop.time()
        if self._nobody_since is None:
            self._nobody_since = now
        pause = NO_WORKER_PAUSES_S[min(self._nobody, len(NO_WORKER_PAUSES_S) - 1)]
        self._nobody += 1
        if now + pause > min(self._nobody_since + NO_WORKER_GRACE_S, self._ends_at):
            return False
        await asyncio.sleep(pause)
        return True

    def _may_fail_over(self) -> bool:
        if not self._order.repeatable or self.attempts >= ATTEMPTS_MAX or self._left() <= 0:
            return False
        self._nobody_since, self._nobody = None, 0
        log.info("fail-over", call=self._order.call, subject=self._order.subject, attempt=self.attempts + 1)
        return True

    def _left(self) -> float:
        return max(0.0, self._ends_at - self._loop.time())
