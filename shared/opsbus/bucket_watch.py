"""A whole bucket followed through reconnects and lost watches, and the time up to which it is known to be current.

What the entries mean is the reader's matter. The edge's catalogue has its own watch, since its entries expire.
"""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from opsbus import logs, tasks

log = logs.get("bus")

CONFIRM_EVERY_S = 1.0
"""How often the bucket's last sequence is compared with what has arrived."""
ANSWER_WITHIN_S = 2.0
LATE_S = 2.0
"""A watch that stays behind the bucket for this long is set up anew."""
TICK_S = 0.05
"""How soon an answer to the question is looked at."""
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)

Apply = Callable[[str, bytes | None], None]
"""Told a key and its value; None: it is gone."""


class Gone(StrEnum):
    """How a key left the bucket."""

    DELETED = "deleted"
    """Somebody deleted it."""
    EXPIRED = "expired"
    """Its time ran out, or it was purged."""
    UNSEEN = "unseen"
    """It is not there, and nobody was watching when it went."""


Left = Callable[[str, Gone], None]
"""Told a key that is gone, and how it went."""

_ERRORS = (errors.Error, js_errors.Error, OSError, TimeoutError)


class BucketWatch:
    """One task that owns the watch.

    A watch may go silent without an error. So the server is asked once a second for the bucket's last sequence, and the
    watch counts as current up to the moment of the last question whose answer held nothing new.

    Args:
        nc: A connection whose identity may watch the bucket.
        bucket: Its name.
        apply: Told every change, and all that is there at the start and after each reconnect. Must not raise.
        keys: The keys the reader knows; after a reconnect those that are no more are taken from it.
        left: Told instead of ``apply`` of keys that are gone, where it matters how they went. Must not raise.
    """

    def __init__(
        self, nc: Client, bucket: str, apply: Apply, keys: Callable[[], list[str]], left: Left | None = None
    ) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=ANSWER_WITHIN_S)
        self._bucket = bucket
        self._apply = apply
        self._keys = keys
        self._left: Left = left or (lambda key, _: apply(key, None))
        self._task: asyncio.Task[None] | None = None
        self._current = asyncio.Event()
        self._confirmed_at = float("-inf")
        self._seen = 0

    @property
    def age_s(self) -> float:
        """For how long nobody knows whether the bucket has changed; infinite before it was read. Seconds."""
        return time.monotonic() - self._confirmed_at

    async def start(self, timeout_s: float = 10.0) -> None:
        """Begin, and return once the bucket has been read.

        Raises:
            TimeoutError: not in time; the watch goes on trying.
        """
        self._task = asyncio.create_task(self._run(), name=f"watch-{self._bucket}")
        async with asyncio.timeout(timeout_s):
            await self._current.wait()

    async def stop(self) -> None:
        """End the watch."""
        await tasks.end(self._task)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except _ERRORS as error:
                delay = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                problem = f"{type(error).__name__}: {error}"[:200]
                log.warning("bucket watch ended", bucket=self._bucket, error=problem, again_in_s=delay)
                await asyncio.sleep(delay)
            except Exception as bug:  # a watch that ended here would never be current again
                log.exception("bucket watch failed", bug, bucket=self._bucket)
                await asyncio.sleep(BACKOFF_S[-1])

    async def _follow(self) -> None:
        """Follow the bucket until the connection was renewed or the watch fell behind."""
        connection = self._nc.stats["reconnects"]
        bucket = await self._js.key_value(self._bucket)
        watcher = await bucket.watchall()
        confirming: asyncio.Task[bool] | None = None
        try:
            self._seen = 0
            found: set[str] | None = set()
            behind_since = time.monotonic()
            asked_at = float("-inf")
            while self._nc.stats["reconnects"] == connection:
                ask_again_s = (CONFIRM_EVERY_S if found is None else TICK_S) - (time.monotonic() - asked_at)
                entry = await _next(watcher, TICK_S if confirming else max(TICK_S, ask_again_s))
                if entry is not None:
                    self._take(entry, found)
                if confirming is None and ask_again_s <= TICK_S:
                    asked_at = time.monotonic()
                    confirming = asyncio.create_task(self._is_current(watcher))
                elif confirming is not None and confirming.done():
                    current, confirming = confirming.result(), None
                    if current:
                        behind_since = time.monotonic()
                        self._confirmed(found, asked_at)
                        found = None
                    elif time.monotonic() - behind_since > LATE_S:
                        log.warning("bucket watch is behind, watching anew", bucket=self._bucket)
                        return
        finally:
            await tasks.end(confirming)
            await _stop(watcher)

    def _confirmed(self, found: set[str] | None, asked_at: float) -> None:
        """All that was in the bucket at ``asked_at`` has arrived."""
        if found is not None:
            for key in set(self._keys()) - found:
                self._left(key, Gone.UNSEEN)
            log.debug("bucket watched", bucket=self._bucket, keys=len(found))
        self._confirmed_at = asked_at
        self._current.set()

    def _take(self, entry: KeyValue.Entry, found: set[str] | None) -> None:
        self._seen = max(self._seen, entry.revision or 0)
        gone = entry.operation in ("DEL", "PURGE")
        if found is not None:
            (found.discard if gone else found.add)(entry.key)
        if gone:
            self._left(entry.key, Gone.DELETED if entry.operation == "DEL" else Gone.EXPIRED)
        else:
            self._apply(entry.key, entry.value or b"")

    async def _is_current(self, watcher: KeyValue.KeyWatcher) -> bool:
        """Whether all that is in the bucket now has been seen. Entries that come meanwhile are waited for a moment."""
        info = await self._js.stream_info(f"KV_{self._bucket}")
        last = info.state.last_seq if info.state.messages else 0
        for _ in range(20):
            if self._seen >= last:
                return True
            await asyncio.sleep(0.01)
        # The last entry may have expired before it could be seen: then the watch itself has nothing more to send.
        subscription: Any = watcher._sub
        consumer = await subscription.consumer_info()
        sent = consumer.delivered.stream_seq if consumer.delivered is not None else 0
        return consumer.num_pending == 0 and (sent or 0) <= self._seen


async def _next(watcher: KeyValue.KeyWatcher, within_s: float) -> KeyValue.Entry | None:
    """The next change, if one comes. nats-py's own mark of the present content's end, None, can come too early."""
    try:
        return await watcher.updates(timeout=within_s)  # type: ignore[no-untyped-call, no-any-return]
    except errors.TimeoutError:
        return None


async def _stop(watcher: KeyValue.KeyWatcher) -> None:
    try:
        async with asyncio.timeout(1.0):
            await watcher.stop()  # type: ignore[no-untyped-call]
    except _ERRORS:
        return  # the connection is gone, and the watch with it
