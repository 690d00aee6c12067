"""Watches the bucket CATALOG for instances that appear and go. What is kept and told of them: known.py.

A manifest is put again every two seconds: only what differs from the last one is looked at.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import orjson
from nats.aio.client import Client
from sqlalchemy.exc import SQLAlchemyError

from opsbus.bucket_watch import BucketWatch, Gone
from opsbus.logs import Log
from opsbus.platform_audit import NotRecordedError
from opsbus_audit.workers.known import KnownWorkers, Seen
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_contracts.streams import CATALOG

GRACE_S = 2 * CATALOG_TTL_S
"""Whose manifest expired is gone after this long; a worker comes back within it when only the bus was away. Seconds."""
CURRENT_S = 3.0
"""Nobody is gone while nobody knows what the bucket holds."""
TICK_S = 0.5
WAITING_MAX = 1_000
"""Changes that wait for store or stream; beyond it the bucket is compared with the store."""
_BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 5.0)
_ERRORS = (NotRecordedError, SQLAlchemyError, OSError, TimeoutError)

Change = Callable[[], Awaitable[None]]


class WorkerWatch:
    """One task that watches, and tells ``known`` one change after the other.

    Args:
        client: Of an identity that may watch the bucket.
        grace_s: See GRACE_S.
    """

    def __init__(self, client: Client, known: KnownWorkers, log: Log, grace_s: float = GRACE_S) -> None:
        self._known = known
        self._log = log
        self._grace_s = grace_s
        self._watch = BucketWatch(client, CATALOG.name, self._put, self._keys, self._gone)
        self._there: dict[str, tuple[bytes, Seen]] = {}
        """Digest of the last manifest, and what it says, by key."""
        self._recorded: dict[str, str] = {}
        self._absent: dict[str, tuple[str, float]] = {}
        """Why and since when, of those that may come back."""
        self._changes: asyncio.Queue[Change] = asyncio.Queue(WAITING_MAX)
        self._overrun = False

    async def run(self) -> None:
        """Watch for ever; what goes wrong is logged and tried again."""
        await self._until_done(self._begin)
        try:
            try:
                await self._watch.start()
            except TimeoutError:
                self._log.warning("the catalogue cannot be watched yet, trying on")
            while True:
                try:
                    await self._step()
                except Exception as bug:  # noqa: BLE001 - a watch that ended here would record nobody any more
                    self._log.exception("a worker's coming or going could not be recorded", bug)
        finally:
            await self._watch.stop()

    async def _begin(self) -> None:
        self._recorded = await self._known.present()
        await self._known.publish()

    async def _step(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                change = await self._changes.get()
            await self._until_done(change)
        if self._overrun and self._changes.empty():
            self._overrun = False
            await self._until_done(self._compare)
        if self._watch.age_s < CURRENT_S:
            self._give_up()

    async def _until_done(self, change: Change) -> None:
        attempt = 0
        while True:
            try:
                return await change()
            except _ERRORS as error:
                wait_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                attempt += 1
                self._log.warning(
                    "a worker's coming or going is not recorded yet, trying again",
                    error=str(error) if isinstance(error, NotRecordedError) else type(error).__name__,
                    wait_s=wait_s,
                )
                await asyncio.sleep(wait_s)

    def _keys(self) -> list[str]:
        return list({*self._there, *self._recorded})

    def _put(self, key: str, value: bytes | None) -> None:
        body = value or b""
        digest = blake2b(body, digest_size=16).digest()
        self._absent.pop(key, None)
        before = self._there.get(key)
        if before is not None and before[0] == digest:
            return
        seen = read_manifest(key, body)
        self._there[key] = (digest, seen)
        if before is None or before[1].started != seen.started:
            self._recorded[key] = seen.started
            self._later(lambda: self._known.joined(seen))

    def _gone(self, key: str, how: Gone) -> None:
        self._there.pop(key, None)
        if key not in self._recorded:
            return
        if how is Gone.DELETED:
            self._absent.pop(key, None)
            self._leave(key, "drained")
        else:
            self._absent.setdefault(key, (how.value, time.monotonic()))

    def _give_up(self) -> None:
        """Those that did not come back have left."""
        limit = time.monotonic() - self._grace_s
        for key, (why, since) in list(self._absent.items()):
            if since <= limit:
                del self._absent[key]
                self._leave(key, why)

    def _leave(self, key: str, why: str) -> None:
        gone = _named(key, self._recorded.pop(key, ""))
        self._later(lambda: self._known.left(gone, why))

    def _later(self, change: Change) -> None:
        try:
            self._changes.put_nowait(change)
        except asyncio.QueueFull:
            self._overrun = True

    async def _compare(self) -> None:
        """Too much happened at once: what is there now and what is known are made equal."""
        self._log.warning("many workers came and went at once; those that did both are not all recorded")
        there = {key: seen for key, (_, seen) in self._there.items()}
        for key, started in (await self._known.present()).items():
            if key not in there and key not in self._absent:
                await self._known.left(_named(key, started), Gone.UNSEEN.value)
        for seen in there.values():
            await self._known.joined(seen)


def _named(key: str, started: str = "") -> Seen:
    service, _, instance = key.partition(".")
    return Seen(service[:64], instance[:128], started=started)


def read_manifest(key: str, body: bytes) -> Seen:
    """What the record tells of a manifest. The key is believed: only the service may write under its name."""
    seen = _named(key)
    try:
        manifest: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        manifest = None
    if not isinstance(manifest, dict):
        return replace(seen, problem="the manifest is no JSON object")
    tools = manifest.get("tools")
    return replace(
        seen,
        version=_text(manifest.get("version")),
        started=_text(manifest.get("started_at")),
        tools=len(tools) if isinstance(tools, list) else 0,
    )


def _text(value: Any) -> str:
    return value[:64].replace("\x00", "") if isinstance(value, str) else ""
