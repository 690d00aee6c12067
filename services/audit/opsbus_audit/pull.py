"""Pulling from a durable consumer, without the client library's `fetch`: that one takes an event whose headers say
`Status` for
a message of the server's, and drops it or stops. Here a message of the stream is told by its `$JS.ACK` reply, which
none can forge."""

import asyncio
import json
from collections import deque
from contextlib import suppress

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

EXPIRES_S = 5.0
"""A request for messages stands this long at the server. Seconds."""

_GATHER_S = 0.02
"""After the first message of a batch, the wait for the next one. Seconds."""

_SLACK_S = 2.0
"""The server's word that a request has expired may be this late; then the request counts as forgotten. Seconds."""

_STORED = "$JS.ACK."

_BYTES_MAX = 16 * 1024 * 1024
"""Of one request: what may be on its way to this process."""

_OVER = frozenset({"404", "408", "409"})
"""The request has ended: nothing there, expired, or as much as it asked for."""


class PullError(Exception):
    """The consumer cannot be read: it is gone, or the server has no JetStream."""


class Pull:
    """A subscription that asks for messages. Open it with ``start``, end it with ``stop``."""

    def __init__(self, client: Client, stream: str, consumer: str, batch_max: int) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch_max = batch_max
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._due = 0
        """Messages that were asked for and have not come."""
        self._arrived: deque[Msg] = deque()
        self._came = asyncio.Event()

    async def start(self) -> None:
        """Subscribe; nothing is asked for yet."""
        self._inbox = self._client.new_inbox()
        # By callback: a `next_msg` for each costs more than all else that is done with a message here.
        self._subscription = await self._client.subscribe(self._inbox, cb=self._arrive)

    async def stop(self) -> None:
        """Unsubscribe, and give back what has arrived and was not taken: nobody need wait for it."""
        if self._subscription is None or self._client.is_closed:
            return
        with suppress(nats_errors.Error, TimeoutError):
            await self._subscription.drain()  # type: ignore[no-untyped-call]
        for message in self._arrived:
            if message.reply.startswith(_STORED):
                await message.nak()
        self._arrived.clear()

    async def batch(self) -> list[Msg]:
        """Messages in the order they came, as soon as there is one; empty when there was none for a while.

        Raises:
            PullError: there is no such consumer (any more).
        """
        # Asked for ahead: the next ones come while these are written.
        if self._due <= self._batch_max // 2:
            await self._ask()
        if not self._arrived and not await self._wait(EXPIRES_S + _SLACK_S):
            self._due = 0
            return []
        if len(self._arrived) < self._batch_max and self._due > 0:
            await self._gather()
        messages: list[Msg] = []
        while self._arrived and len(messages) < self._batch_max:
            message = self._arrived.popleft()
            if message.reply.startswith(_STORED):
                messages.append(message)
                continue
            try:
                self._ended(message)
            except PullError:
                self._arrived.extendleft(reversed(messages))
                raise
        return messages

    async def _ask(self) -> None:
        request = {"batch": self._batch_max, "expires": int(EXPIRES_S * 1e9), "max_bytes": _BYTES_MAX}
        self._due += self._batch_max
        await self._client.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)

    async def _arrive(self, message: Msg) -> None:
        self._arrived.append(message)
        if message.reply.startswith(_STORED):
            self._due -= 1
        self._came.set()

    async def _gather(self) -> None:
        """After the first of a batch, wait while more come."""
        before = 0
        while before < len(self._arrived) < self._batch_max and self._due > 0:
            before = len(self._arrived)
            if not await self._wait(_GATHER_S):
                return

    async def _wait(self, wait_s: float) -> bool:
        self._came.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._came.wait()
        except TimeoutError:
            return False
        return True

    def _ended(self, message: Msg) -> None:
        """What the server says in place of a message: a request is over, or it beats its heart, or worse."""
        headers = message.headers or {}
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        if status in _OVER and "deleted" not in description.lower():
            self._due = 0
            return
        raise PullError(f"the server ended the pull: {status or 'no status'} {description}".strip())
