"""What runs beside the tools: judges what is due, tells what came of it, and looks from time to time at what only grew
older. Every instance runs one; the store lets them take turns, and what one leaves another finds."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC

from nats import errors
from nats.aio.client import Client
from nats.js.errors import APIError

from opsbus import ToolError
from opsbus.events import publish, source
from opsbus.logs import Log
from opsbus_cmdb.outbox import UPDATED, Telling
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_contracts import Event
from opsbus_contracts.subjects import event_subject

SWEEP_S = 60.0
UPDATED_EVERY_S = 1.0
"""A resource is told as updated so often at most; what happens between is gathered."""
_RETRY_FIRST_S, _RETRY_MAX_S = 0.5, 15.0
_SERVICE = "cmdb"


class Keeper:
    """Keeps a store's marks current, and tells of them.

    Args:
        client: A connection of the service's own identity.
        store: Whose marks; its ``on_change`` is taken.
        sweep_s: How often it is looked for what the time changed.
    """

    def __init__(self, client: Client, store: EmbeddedInventory, log: Log, sweep_s: float = SWEEP_S) -> None:
        self._js = client.jetstream(timeout=5.0)
        self._store = store
        self._log = log
        self._sweep_s = sweep_s
        self._some = asyncio.Event()
        self._told_at: dict[str, float] = {}
        self._source = source(_SERVICE, f"{_SERVICE}-keeper")
        store.on_change = self._some.set

    async def run(self) -> None:
        """For ever. What goes wrong is logged and tried again; what was stored before waits in the store."""
        wait, swept = _RETRY_FIRST_S, float("-inf")
        while True:
            try:
                self._some.clear()
                if time.monotonic() - swept >= self._sweep_s:
                    await self._store.sweep()
                    swept = time.monotonic()
                rest = await self.work() or max(0.05, swept + self._sweep_s - time.monotonic())
                wait = _RETRY_FIRST_S
            except (errors.Error, APIError, TimeoutError, OSError, ToolError) as error:
                self._log.warning("keeping marks failed, trying again", error=type(error).__name__, wait_s=wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY_MAX_S)
                continue
            except Exception as bug:  # noqa: BLE001 - marks that were judged no more would grow old unseen
                self._log.exception("keeping marks failed", bug)
                await asyncio.sleep(_RETRY_MAX_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), rest)

    async def work(self) -> float:
        """Judge all that is due and tell all that may be told now. For how long something waits to be told; 0: nothing
        does. Seconds."""
        while await self._store.judge():
            await self._tell()
        return await self._tell()

    async def _tell(self) -> float:
        rest = 0.0
        while waiting := await self._store.waiting():
            now = time.monotonic()
            self._told_at = {uri: at for uri, at in self._told_at.items() if now - at < UPDATED_EVERY_S}
            early = {item.id for item in waiting if item.kind == UPDATED and item.subject in self._told_at}
            ready = [item for item in waiting if item.id not in early]
            if early:
                rest = UPDATED_EVERY_S
            for item in ready:
                if item.kind == UPDATED and item.subject in self._told_at:
                    continue  # told a moment ago, after this was stored
                if item.kind == UPDATED:
                    self._told_at[item.subject] = now
                await self._publish(item)
            await self._store.told([item.id for item in ready])
            if not ready:
                break
        return rest

    async def _publish(self, item: Telling) -> None:
        event = Event(
            id=item.id,
            source=self._source,
            type=f"opsbus.event.v1.{item.kind}",
            subject=item.subject[:400],
            time=item.at.astimezone(UTC),
            data=item.data,
        )
        await publish(self._js, event_subject(_SERVICE, item.kind), event, item.id)
