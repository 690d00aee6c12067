"""Publishes events into the stream AUDIT and hears which of them it has. When, and what becomes of the others: log.py.

One subscription takes all acknowledgements, and none is parsed that says nothing but "stored": nats-py's own way, with
a future and a JSON document for each event, was a tenth of what a call cost the edge.
"""

import asyncio
import json
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from opsbus.nats_client import flush_twice
from opsbus.nats_quick import QuickClient
from opsbus_contracts.calls import Header
from opsbus_contracts.streams import AUDIT
from opsbus_edge.audit.event import Event

ERRORS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
_MSG_ID = Header.MSG_ID.value
_STORED = b'{"stream":"' + AUDIT.name.encode() + b'"'


class _Sent:
    """Events that are published together, by their places: those that are open, and those that were refused."""

    __slots__ = ("done", "error", "open", "refused")

    def __init__(self, count: int) -> None:
        self.open = set(range(count))
        self.refused: list[int] = []
        self.error: BaseException | None = None
        """What went wrong first."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, place: int, refusal: BaseException | None) -> None:
        """JetStream has an event, or has said why not."""
        self.open.discard(place)
        if refusal is not None:
            self.refused.append(place)
            self.error = self.error or refusal
        if not self.open and not self.done.done():
            self.done.set_result(None)


class Sender:
    """Of one edge's connection."""

    def __init__(self, nc: QuickClient, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._prefix = ""
        self._number = 0
        self._waiting: dict[str, tuple[_Sent, int]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Hear acknowledgements. Raises nats.errors.Error."""
        inbox = self._nc.new_inbox()
        self._prefix = f"{inbox}."
        self._subscription = await self._nc.subscribe_directly(f"{inbox}.*", self._answered)
        await flush_twice(self._nc)

    async def stop(self) -> None:
        """Hear no more."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()

    async def send(self, events: Sequence[Event]) -> tuple[list[int], BaseException | None]:
        """Publish events, in order, and wait for their acknowledgements.

        Returns:
            The places of those that have none, in order, and what went wrong first. Whether the stream has them is not
            known: under their ids it keeps them once.
        """
        sent = _Sent(len(events))
        first = self._number + 1
        try:
            unsent = await self._publish(events, sent)
            sent.open.difference_update(unsent)
            if sent.open:
                await asyncio.wait((sent.done,), timeout=self._timeout_s)
        finally:
            for number in range(first, first + len(events)):
                self._waiting.pop(str(number), None)
        if sent.open:
            sent.error = sent.error or TimeoutError("no acknowledgement")
        return sorted((*sent.open, *sent.refused, *unsent)), sent.error

    async def _publish(self, events: Sequence[Event], sent: _Sent) -> range:
        """Publish events; the places of those that could not be."""
        number, self._number = self._number, self._number + len(events)
        place = 0
        try:
            for place, event in enumerate(events):
                if not self._nc.is_connected:
                    raise nats.errors.ConnectionReconnectingError
                token = str(number + 1 + place)
                self._waiting[token] = (sent, place)
                await self._nc.send(event.subject, event.body, self._prefix + token, {_MSG_ID: event.id})
        except ERRORS as error:
            sent.error = sent.error or error
            return range(place, len(events))
        return range(0)

    def _answered(self, msg: Msg) -> None:
        found = self._waiting.pop(msg.subject[len(self._prefix) :], None)
        if found is None:
            return  # too late: it is sent again, under its id
        sent, place = found
        taken = msg.data.startswith(_STORED) and b'"error"' not in msg.data
        sent.answered(place, None if taken else _refusal(msg))


def _refusal(msg: Msg) -> BaseException:
    """Why an event was not taken, as JetStream said it, or that there is none."""
    if not msg.data:
        return nats.js.errors.NoStreamResponseError()
    try:
        nats.js.errors.APIError.from_error(json.loads(msg.data)["error"])
    except nats.js.errors.APIError as error:
        return error
    except (ValueError, KeyError, TypeError):
        pass
    return nats.js.errors.Error(f"JetStream answered {msg.data[:100]!r}")
