"""Feeds the catalogue from the bucket CATALOG and keeps doing so through reconnects and lost watches."""

import asyncio
import time

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue

from opsbus import logs, tasks
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_contracts.streams import CATALOG
from opsbus_edge.catalog.parse import parse_manifest
from opsbus_edge.catalog.store import Catalog

log = logs.get("edge")

LATE_S = 0.2
"""How long entries of a bucket that seems empty are waited for."""
TICK_S = 0.5
"""How often reconnects and silence are looked for."""
SETTLE_S = 0.02
"""Changes that arrive within this long are made visible together."""
STALE_AFTER_S = 2 * CATALOG_TTL_S
"""An instance not heard of for this long, though the bucket is being watched, is gone: its expiry was missed."""
IN_LOOP_BYTES_MAX = 16_384
"""Manifests up to this size are parsed in the event loop."""
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class CatalogWatch:
    """One task that owns the watch."""

    def __init__(self, nc: Client, catalog: Catalog) -> None:
        self._nc = nc
        self._catalog = catalog
        self._seen: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._read_once = asyncio.Event()
        self._dirty = False
        self.healthy = False
        """Whether the watch runs; false while it is being set up again."""

    async def start(self, timeout_s: float = 10.0) -> None:
        """Begin, and return once the bucket has been read.

        Raises:
            TimeoutError: no answer in time; the watch goes on trying.
        """
        self._task = asyncio.create_task(self._run(), name="catalog-watch")
        async with asyncio.timeout(timeout_s):
            await self._read_once.wait()

    async def stop(self) -> None:
        """End the watch."""
        await tasks.end(self._task)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
                delay = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                log.warning("catalogue: the watch ended", error=f"{type(error).__name__}: {error}", again_in_s=delay)
                await asyncio.sleep(delay)
            finally:
                self.healthy = False

    async def _follow(self) -> None:
        """Read the bucket and follow it until the connection was renewed or the watch went silent."""
        connection = self._nc.stats["reconnects"]
        bucket = await self._nc.jetstream(timeout=5.0).key_value(CATALOG.name)
        watcher = await bucket.watchall()
        try:
            await self._snapshot(watcher)
            self.healthy = True
            log.info("catalogue: watching", instances=len(self._catalog.keys()))
            heard = time.monotonic()
            while self._nc.stats["reconnects"] == connection:
                if await self._batch(watcher):
                    heard = time.monotonic()
                elif self._nc.is_connected and self._catalog.keys() and time.monotonic() - heard > CATALOG_TTL_S:
                    log.warning("catalogue: no news, watching anew", silent_s=CATALOG_TTL_S)
                    return
                self._drop_stale()
        finally:
            await _stop(watcher)

    async def _snapshot(self, watcher: KeyValue.KeyWatcher) -> None:
        """The whole bucket replaces what is known."""
        found: set[str] = set()
        while (entry := await _next(watcher, 5.0)) is not None:
            if await self._apply(entry):
                found.add(entry.key)
        if not found:
            await self._latecomers(watcher, found)
        for key in set(self._catalog.keys()) - found:
            self._seen.pop(key, None)
            self._catalog.remove(key)
        self._dirty = False
        self._catalog.rebuild()
        self._catalog.ready = True
        self._read_once.set()

    async def _latecomers(self, watcher: KeyValue.KeyWatcher, found: set[str]) -> None:
        """An empty bucket is not believed at once: nats-py's end mark can overtake the entries that it follows."""
        while True:
            try:
                entry = await _next(watcher, LATE_S)
            except nats.errors.TimeoutError:
                return
            if entry is not None and await self._apply(entry):
                found.add(entry.key)

    async def _batch(self, watcher: KeyValue.KeyWatcher) -> bool:
        """Take the next changes, and those that come right after; False: none came within a tick."""
        until = time.monotonic() + TICK_S
        timeout_s = TICK_S
        heard = False
        while time.monotonic() < until:
            try:
                entry = await _next(watcher, timeout_s)
            except nats.errors.TimeoutError:
                break
            heard, timeout_s = True, SETTLE_S
            if entry is not None:
                await self._apply(entry)
        if self._dirty:
            self._dirty = False
            self._catalog.rebuild()
        return heard

    async def _apply(self, entry: KeyValue.Entry) -> bool:
        """True when the key is alive after this entry."""
        key, value = entry.key, entry.value or b""
        if entry.operation in ("DEL", "PURGE"):
            self._seen.pop(key, None)
            self._dirty = self._catalog.remove(key) or self._dirty
            return False
        self._seen[key] = time.monotonic()
        if self._catalog.is_new(key, value):
            # A large manifest takes long enough to parse that calls under way would feel it.
            parsed = await asyncio.to_thread(parse_manifest, key, value) if len(value) > IN_LOOP_BYTES_MAX else None
            self._dirty = self._catalog.put(key, value, parsed) or self._dirty
        return True

    def _drop_stale(self) -> None:
        if not self._nc.is_connected:
            return
        limit = time.monotonic() - STALE_AFTER_S
        stale = [key for key, seen in self._seen.items() if seen < limit]
        for key in stale:
            log.warning("catalogue: not heard of, dropped", key=key, silent_s=STALE_AFTER_S)
            self._seen.pop(key, None)
            self._catalog.remove(key)
        if stale:
            self._catalog.rebuild()


async def _next(watcher: KeyValue.KeyWatcher, timeout_s: float) -> KeyValue.Entry | None:
    """The next change; None marks the end of the bucket's present content. Raises nats' TimeoutError."""
    return await watcher.updates(timeout=timeout_s)  # type: ignore[no-untyped-call, no-any-return]


async def _stop(watcher: KeyValue.KeyWatcher) -> None:
    try:
        async with asyncio.timeout(1.0):
            await watcher.stop()  # type: ignore[no-untyped-call]
    except (nats.errors.Error, TimeoutError, OSError):
        pass  # the connection is gone, and the watch with it
