"""FastStream, with its traps closed. Everything that depends on how FastStream works inside is in this file.

The traps, each with a test in tests/kit/test_broker_traps.py:

- A handler exception, bad JSON or a validation error gives no reply: here every way out answers (``_Answers``).
- An oversize reply raises after the handler, and the caller waits in vain: replies are measured before they are
  returned, and what still fails to be published is answered by an error.
- ``broker.stop()`` sets ``running = False`` before it unsubscribes, so that what is on its way is dropped: ``drain``
  first unsubscribes, then waits until everything received was answered, then stops.
- nats-py's flush writes its PING ahead of commands just queued: ``start`` and ``drain`` flush twice.
- Its pipeline costs three times what a call costs the kit: calls whose trace is not recorded go past it (``_begin``).
- FastStream's own connection gives up for good when a server that reloads refuses it for a moment: the connection is
  made by nats_client.py.
- The logger writes a line per message: it gets none.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from faststream import BaseMiddleware
from faststream.nats import NatsBroker, NatsResponse
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from opsbus import tracing
from opsbus.nats_client import close, flush_twice
from opsbus.nats_quick import QuickClient
from opsbus_contracts import ErrorBody, ErrorCode, Executed, Header, Status
from opsbus_contracts.calls import BODY_BYTES_MAX

TURN = 16
"""Calls begun in one turn of the event loop, at most: of a burst the first ones end before the last ones begin."""

BACKLOG_MAX = 10_000
BACKLOG_BYTES_MAX = 64 * 1024 * 1024
"""Requests that have come and not begun: beyond either bound they are told `busy` unread."""

Handler = Callable[[Msg], Awaitable[tuple[bytes, dict[str, str]]]]
"""Answers a request: the reply's body and headers."""

HEADROOM = 256
"""Handlers beyond the calls that run and wait, so that `busy` is said at once.

FastStream hands out no more messages than these.
"""


class _Broker(NatsBroker):
    """A broker on a connection that is made elsewhere."""

    def __init__(self, connect: Callable[[], Awaitable[Client]], **options: Any) -> None:
        super().__init__(**options)
        self._connect_elsewhere = connect

    async def _connect(self) -> Client:
        client = await self._connect_elsewhere()
        self.config.connect(client)
        return client


class _Answers(BaseMiddleware):
    """No request stays without an answer, whatever fails in or around its handler."""

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        try:
            return await call_next(msg)
        except Exception:  # noqa: BLE001 - the caller is told; what it was is logged by the handler's own code
            return NatsResponse(_FAILED_BODY, headers=dict(_FAILED_HEADERS))

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        """What failed outside the handler: parsing before it, publishing after it."""
        if (
            exc_type is None
            or not issubclass(exc_type, Exception)
            or not isinstance(self.msg, Msg)
            or not is_inbox(self.msg.reply)
        ):
            return False
        await self.msg._client.publish(self.msg.reply, _FAILED_BODY, headers=dict(_FAILED_HEADERS))
        return True


def _prepared(error: ErrorBody) -> tuple[bytes, dict[str, str]]:
    """An answer, ready to be sent."""
    headers = {
        Header.STATUS.value: Status.ERROR.value,
        Header.ERROR_CODE.value: error.code.value,
        Header.EXECUTED.value: error.executed.value,
    }
    return error.model_dump_json(exclude_none=True).encode(), headers


_FAILED_BODY, _FAILED_HEADERS = _prepared(
    ErrorBody(
        code=ErrorCode.INTERNAL,
        message="the worker failed to answer",
        hint="Its owners find the cause in their log.",
        executed=Executed.UNKNOWN,
    )
)
_BUSY_BODY, _BUSY_HEADERS = _prepared(
    ErrorBody(
        code=ErrorCode.BUSY,
        message="the worker has more requests than it can look at",
        hint="Try again in a moment.",
        executed=Executed.NO,
        retry_after_ms=500,
    )
)


def is_inbox(reply: str) -> bool:
    """Whether an answer may go there. A worker may answer wherever it is asked to, by the server's leave: a request
    with the reply subject ``audit.edge.completed`` would have it write the record for somebody else."""
    return reply.startswith("_INBOX.")


async def _raw(message: Any) -> Any:
    """A decoder that decodes nothing: the handler gets the message as it came, and answers for what is wrong in it."""
    return message.raw_message


class CallBroker:
    """The subscriptions that answer calls."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[QuickClient]],
        subjects: Sequence[str],
        queue_group: str,
        handler: Handler,
        *,
        at_once: int,
        middlewares: Sequence[Any] = (),
    ) -> None:
        """``at_once``: calls that run or wait; ``middlewares``: FastStream's, outermost first."""
        self._handler = handler
        self._traces = bool(middlewares)
        self._came: deque[tuple[Any, Msg]] = deque()
        self._came_bytes = 0
        self._turn = max(1, min(TURN, at_once // 4))
        self._calls: set[asyncio.Task[None]] = set()
        self._broker = _Broker(
            connect,
            logger=None,
            apply_types=False,
            decoder=_raw,
            middlewares=[*middlewares, _Answers],
        )

        async def handle(msg: Msg) -> NatsResponse | None:
            if not is_inbox(msg.reply):
                return None  # of those that came before ``_take`` got them
            body, headers = await self._answer(msg)
            return NatsResponse(body, headers=headers)

        self._subscribers = [
            self._broker.subscriber(subject, queue=queue_group, max_workers=at_once + HEADROOM) for subject in subjects
        ]
        for subscriber in self._subscribers:
            subscriber(handle)

    async def connect(self) -> QuickClient:
        """Connects without subscribing."""
        await self._broker.connect()
        return self._client

    async def start(self) -> None:
        """Subscribes; returns when the server knows it."""
        await self._broker.start()
        for subscriber in self._subscribers:
            if subscriber.subscription is not None:
                self._client.take_directly(subscriber.subscription, partial(self._take, subscriber))
        await flush_twice(self._client)

    def _take(self, subscriber: Any, msg: Msg) -> None:
        """A request came: it begins in one of the event loop's next turns."""
        if not is_inbox(msg.reply):
            return  # whoever cannot be answered is not served: an outcome must be told
        if not self._came:
            asyncio.get_running_loop().call_soon(self._begin)
        elif len(self._came) >= BACKLOG_MAX or self._came_bytes > BACKLOG_BYTES_MAX:
            self._run(self._say(msg, _BUSY_BODY, _BUSY_HEADERS))
            return
        self._came.append((subscriber, msg))
        self._came_bytes += len(msg.data)

    def _begin(self) -> None:
        """Begins with a turn's requests: through FastStream's pipeline where a trace is recorded, else straight on."""
        for _ in range(min(self._turn, len(self._came))):
            subscriber, msg = self._came.popleft()
            self._came_bytes -= len(msg.data)
            traced = self._traces and tracing.sampled(msg.headers or {})
            self._run(subscriber._put_msg(msg) if traced else self._serve(msg))
        if self._came:
            asyncio.get_running_loop().call_soon(self._begin)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _serve(self, msg: Msg) -> None:
        """What FastStream's pipeline does with ``_Answers``, for one call."""
        try:
            body, headers = await self._answer(msg)
        except Exception:  # noqa: BLE001 - as in _Answers
            body, headers = _FAILED_BODY, _FAILED_HEADERS
        await self._say(msg, body, headers)

    async def _say(self, msg: Msg, body: bytes, headers: dict[str, str]) -> None:
        try:
            await self._client.send(msg.reply, body, "", headers)
        except (errors.Error, ValueError):
            with suppress(errors.Error):  # the connection is gone, which nats_client.py's owner is told
                await self._client.send(msg.reply, _FAILED_BODY, "", _FAILED_HEADERS)

    async def _answer(self, msg: Msg) -> tuple[bytes, dict[str, str]]:
        body, headers = await self._handler(msg)
        if len(body) > BODY_BYTES_MAX:
            raise ValueError("a reply was not measured")
        return body, headers

    @property
    def _client(self) -> QuickClient:
        client: QuickClient = self._broker.config.connection_state.connection
        return client

    async def drain(self, timeout_s: float) -> bool:
        """Takes no more requests and waits until all that came are answered. False: the time was over before."""
        for subscriber in self._subscribers:
            subscription = subscriber.subscription
            if subscription is not None and not self._client.is_closed and self._client.is_connected:
                await self._client._send_unsubscribe(subscription._id)
        if self._client.is_connected:
            await flush_twice(self._client)
        return await self._answered(timeout_s)

    async def _answered(self, timeout_s: float) -> bool:
        """Waits until nothing is in nats-py's queue, in FastStream's, or in a handler."""
        ends = asyncio.get_running_loop().time() + timeout_s
        while self._came or self._calls or any(self._busy(subscriber) for subscriber in self._subscribers):
            if asyncio.get_running_loop().time() >= ends:
                return False
            await asyncio.sleep(0.01)  # FastStream has no event for it
        return True

    @staticmethod
    def _busy(subscriber: Any) -> bool:
        subscription = subscriber.subscription
        in_client = subscription is not None and bool(subscription._pending_queue.qsize())
        return (
            in_client
            or subscriber.send_stream.statistics().current_buffer_used > 0
            or subscriber.limiter.value < subscriber.max_workers
            or not subscriber.lock.empty
        )

    async def stop(self) -> None:
        """Stops the broker and closes the connection, after its last bytes were written."""
        client = self._client
        if client.is_connected:
            await client.flush()
        for subscriber in self._subscribers:
            if not client.is_connected:
                subscriber.subscription = None  # unsubscribing would raise, and leave FastStream's tasks running
            await subscriber.stop()
        self._broker.config.disconnect()
        await close(client)
