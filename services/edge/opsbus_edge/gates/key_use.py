"""When each API key was used last, written to the bucket KEYUSE at most once a minute a key."""

import asyncio
import time

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus import logs, tasks
from opsbus_contracts.access import KeyUse
from opsbus_contracts.streams import KEYUSE

log = logs.get("edge")

EVERY_S = 60
TICK_S = 1.0
_ERRORS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class KeyUses:
    """Uses seen at this edge. What cannot be written now is written by the next use that can."""

    def __init__(self, nc: Client) -> None:
        self._js = nc.jetstream(timeout=2.0)
        self._bucket: KeyValue | None = None
        self._written: dict[str, int] = {}
        self._due: dict[str, KeyUse] = {}
        self._task: asyncio.Task[None] | None = None

    def used(self, id: str, now: int, address: str) -> None:
        """A key was used. ``now``: Unix seconds. Costs a look-up."""
        if now - self._written.get(id, 0) >= EVERY_S and id not in self._due:
            self._due[id] = KeyUse(last_used=now, address=address)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="key-uses")

    async def stop(self) -> None:
        """Write what is due, and end."""
        await tasks.end(self._task)
        try:
            async with asyncio.timeout(2.0):
                await self._write()
        except _ERRORS as error:
            log.warning("uses of API keys not written", keys=len(self._due), error=type(error).__name__)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._write()
            except _ERRORS as error:
                log.warning("uses of API keys not written yet", keys=len(self._due), error=type(error).__name__)

    async def _write(self) -> None:
        if not self._due:
            return
        bucket = self._bucket = self._bucket or await self._js.key_value(KEYUSE.name)
        for id, use in list(self._due.items()):
            await _put(bucket, id, use)
            self._written[id] = int(time.time())
            del self._due[id]


async def _put(bucket: KeyValue, id: str, use: KeyUse) -> None:
    """Writes a use, unless another edge wrote one in this minute or does so right now."""
    revision = 0
    try:
        entry = await bucket.get(id)
        revision = entry.revision or 0
        if use.last_used - KeyUse.model_validate_json(entry.value or b"").last_used < EVERY_S:
            return
    except nats.js.errors.KeyNotFoundError as error:
        revision = getattr(getattr(error, "entry", None), "revision", 0) or 0
    except ValidationError:
        pass  # damaged: written anew
    try:
        await bucket.update(id, use.model_dump_json().encode(), last=revision)
    except nats.js.errors.KeyWrongLastSequenceError:
        return
