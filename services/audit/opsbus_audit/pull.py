"""Pulling from a durable consumer, without the client library's `fetch`: that one takes an event whose headers say
`Status` for
a message of the server's, and drops it or stops. Here a message of the stream is told by its `$JS.ACK` reply, which
none can forge."""

import json

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
        self._taken: list[Msg] = []

    async def start(self) -> None:
        """Subscribe; nothing is asked for yet."""
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox)

    async def stop(self) -> None:
        """Unsubscribe, and give back what has arrived and was not taken: nobody need wait for it."""
        if self._subscription is None or self._client.is_closed:
            return
        await self._subscription.unsubscribe()
        for message in self._taken:
            await message.nak()
        while self._subscription.pending_msgs:
            left = await self._next(_GATHER_S)
            if left is not None and left.reply.startswith(_STORED):
                await left.nak()

    async def batch(self) -> list[Msg]:
        """Messages in the order they came, as soon as there is one; empty when there was none for a while.

        Raises:
            PullError: there is no such consumer (any more).
        """
        if self._due <= 0:
            await self._ask()
        # Kept where `stop` finds it: whoever waits here may be cancelled with messages in hand.
        messages: list[Msg] = []
        self._taken = messages
        wait = EXPIRES_S + _SLACK_S
        while len(messages) < self._batch_max:
            message = await self._next(wait)
            if message is None:
                if not messages:
                    self._due = 0
                break
            if message.reply.startswith(_STORED):
                self._due -= 1
                messages.append(message)
                wait = _GATHER_S
            elif self._ended(message):
                self._due = 0
                break
            if self._due <= 0:
                break
        self._taken = []
        return messages

    async def _ask(self) -> None:
        request = {"batch": self._batch_max, "expires": int(EXPIRES_S * 1e9), "max_bytes": _BYTES_MAX}
        self._due = self._batch_max
        await self._client.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)

    async def _next(self, wait_s: float) -> Msg | None:
        if self._subscription is None:
            raise RuntimeError("the pull is used before start")
        try:
            return await self._subscription.next_msg(timeout=wait_s)
        except TimeoutError:
            return None

    def _ended(self, message: Msg) -> bool:
        headers = message.headers or {}
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return False
        if status in _OVER and "deleted" not in description.lower():
            return True
        raise PullError(f"the server ended the pull: {status or 'no status'} {description}".strip())
