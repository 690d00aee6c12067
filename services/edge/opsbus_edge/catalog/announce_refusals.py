"""Tells the event stream what the catalogue refused: ``event.edge.catalog_refused``, once per change."""

import asyncio
import hashlib
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from opsbus import logs, tasks
from opsbus_contracts.calls import Header
from opsbus_contracts.events import CatalogRefused, Event
from opsbus_contracts.subjects import event_subject
from opsbus_edge.catalog.entries import Refusal

log = logs.get("edge")

KIND = "catalog_refused"
WAITING_MAX = 1_000
_TIMEOUT_S = 3.0


class RefusalEvents:
    """A bounded queue and the task that publishes it."""

    def __init__(self, nc: Client, instance: str) -> None:
        self._js = nc.jetstream(timeout=_TIMEOUT_S)
        self._source = f"/opsbus/edge/{instance}"
        self._queue: asyncio.Queue[Refusal] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="catalog-refusals")

    async def stop(self) -> None:
        """End it; what still waits is in the log already."""
        await tasks.end(self._task)

    def tell(self, refusal: Refusal) -> None:
        """Publish soon."""
        try:
            self._queue.put_nowait(refusal)
        except asyncio.QueueFull:
            log.warning("catalogue: too many refusals, this one has no event", service=refusal.service)

    async def _run(self) -> None:
        while True:
            refusal = await self._queue.get()
            event = self._event(refusal)
            try:
                await self._js.publish(
                    event_subject("edge", KIND),
                    event.model_dump_json(exclude_none=True).encode(),
                    headers={Header.MSG_ID.value: event.id},
                )
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
                log.warning(
                    "catalogue: the event of a refusal was not stored", error=str(error) or type(error).__name__
                )

    def _event(self, refusal: Refusal) -> Event:
        said = "\n".join((refusal.service, refusal.instance, refusal.item, refusal.reason))
        data = CatalogRefused(
            service=refusal.service, instance=refusal.instance, item=refusal.item, reason=refusal.reason
        )
        return Event(
            # Every edge sees the same refusal: equal ids make one event of them.
            id=f"refused-{hashlib.sha256(said.encode()).hexdigest()[:32]}",
            source=self._source,
            type=f"opsbus.event.v1.{KIND}",
            subject=f"{refusal.service}.{refusal.instance}",
            time=datetime.now(UTC),
            data=data.model_dump(),
        )
