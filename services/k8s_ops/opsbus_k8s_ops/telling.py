"""Puts facts on the stream of events: at a bounded pace, each once however many workers see it, until it is stored."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError

from opsbus.events import publish, source
from opsbus.logs import Log
from opsbus_contracts.events import Event
from opsbus_contracts.subjects import event_subject
from opsbus_k8s_ops.watchfacts import Fact

PENDING_MAX = 20_000
"""Facts that wait. The bus may be away while clusters go on; of each object the newest fact alone waits."""

RETRY_FIRST_S, RETRY_MAX_S = 0.5, 15.0

BURST = 20
"""Published at once before the pace holds."""


class Telling:
    """What waits to be told, and the task that tells it.

    Two lines: what changed goes before what a first listing found. Of two facts about the same object the newer one
    takes the other's place.

    Args:
        per_s: Facts a second, at most.
        told: Called with the kind of each that was stored.
        lost: Called with the kind of each that found no place to wait.
    """

    def __init__(
        self,
        js: JetStreamContext,
        service: str,
        instance: str,
        log: Log,
        *,
        per_s: float,
        told: Callable[[str], None],
        lost: Callable[[str], None],
    ) -> None:
        self._js = js
        self._service = service
        self._source = source(service, instance)
        self._log = log
        self._pause_s = 1 / per_s
        self._told = told
        self._lost = lost
        self._changes: OrderedDict[tuple[str, ...], Fact] = OrderedDict()
        self._listed: OrderedDict[tuple[str, ...], Fact] = OrderedDict()
        self._some = asyncio.Event()
        self._failing = ""

    @property
    def pending(self) -> int:
        """Facts that wait."""
        return len(self._changes) + len(self._listed)

    def add(self, facts: list[Fact], *, first: bool = False) -> None:
        """Takes facts to tell.

        Args:
            first: They are of a first listing: they can wait.
        """
        for fact in facts:
            older = self._changes.pop(fact.about, None) or self._listed.pop(fact.about, None)
            if older is None and self.pending >= PENDING_MAX:
                self._lost(fact.kind)
                continue
            (self._listed if first else self._changes)[fact.about] = fact
        if facts:
            self._some.set()

    async def run(self) -> None:
        """Tells for ever."""
        wait_s, free_at = RETRY_FIRST_S, time.monotonic()
        while True:
            while not self.pending:
                self._some.clear()
                await self._some.wait()
            # A burst is what was not used of the pace, up to a bound.
            free_at = max(free_at, time.monotonic() - BURST * self._pause_s) + self._pause_s
            await asyncio.sleep(max(0.0, free_at - time.monotonic()))
            line = self._changes or self._listed
            if not line:
                continue
            about, fact = next(iter(line.items()))
            if await self._tell(fact):
                wait_s = RETRY_FIRST_S
                if line.get(about) is fact:  # not replaced by a newer one meanwhile
                    del line[about]
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)

    async def _tell(self, fact: Fact) -> bool:
        event = Event(
            id=fact.id,
            source=self._source,
            type=f"opsbus.event.v1.{fact.kind}",
            subject=fact.subject,
            time=fact.at,
            data=fact.data,
        )
        try:
            await publish(self._js, event_subject(self._service, fact.kind), event, event.id)
        except NoStreamResponseError:
            self._failed("no_stream", "the stream EVENTS is missing: run `opsbus provision`")
            return False
        except (errors.Error, TimeoutError, OSError) as error:
            self._failed(type(error).__name__, "what clusters do is not told; it waits")
            return False
        if self._failing:
            self._log.info("events_stored_again", pending=self.pending)
            self._failing = ""
        self._told(fact.kind)
        return True

    def _failed(self, why: str, said: str) -> None:
        """Says it once, until it is well again or fails otherwise."""
        if why != self._failing:
            self._failing = why
            self._log.error("event_not_stored", error=why, hint=said, pending=self.pending)
