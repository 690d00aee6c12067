"""Fills the database: history when the estate starts, then live samples and scrapes of the platform's own /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from opsbus_sandbox.metrics.estate import Objects, snapshot
from opsbus_sandbox.metrics.signals import METADATA, Signals
from opsbus_sandbox.metrics.traffic import TROUBLE_S
from opsbus_sandbox.promql.database import STALE, Database, Labels

HISTORY_S = 6 * 3600.0
HISTORY_STEP_S = 60.0
SCRAPE_BYTES_MAX = 8_000_000


class Target:
    """A /metrics address and how its last scrape went."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.labels: Labels = {"job": "opsbus", "instance": url.split("://", 1)[-1].split("/", 1)[0]}
        self.healthy = False
        self.error = "not scraped yet"
        self.scraped_at = 0.0
        self.seconds = 0.0
        self.seen: set[tuple[tuple[str, str], ...]] = set()


class Sampler:
    """One per estate. ``step_s`` is the live interval in seconds."""

    def __init__(
        self,
        objects: Objects,
        database: Database,
        *,
        targets: Sequence[str] = (),
        step_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.objects, self.database, self.step_s, self.clock = objects, database, step_s, clock
        self.targets = [Target(url) for url in targets]
        self.metadata = dict(METADATA)
        started = clock()
        self.signals = Signals(trouble_since=started - TROUBLE_S)
        self._last = started - HISTORY_S

    def backfill(self) -> None:
        """Write the history up to now."""
        state = snapshot(self.objects)
        now = self.clock()
        when = self._last + HISTORY_STEP_S
        while when < now:
            self._write(self.signals.sample(state, when, when - self._last, history=True), when)
            self._last = when
            when += HISTORY_STEP_S
        self.tick()

    def tick(self) -> None:
        """Write the live samples of this moment."""
        now = self.clock()
        readings = list(self.signals.sample(snapshot(self.objects), now, now - self._last))
        self._write(iter(readings), now)
        self._end_gone(now)
        self._last = now

    def _write(self, readings: object, when: float) -> None:
        for name, labels, value in readings:  # type: ignore[attr-defined]
            self.database.append({"__name__": name, **labels}, when, value)

    def _end_gone(self, now: float) -> None:
        """Series of pods that are gone, or of reasons that no longer hold, end now and not five minutes later."""
        for series in self.database:
            live = series.labels.get("job") != "opsbus"
            if live and series.times and series.times[-1] < now and series.values[-1] == series.values[-1]:
                self.database.append(series.labels, now, STALE)

    async def scrape(self, session: aiohttp.ClientSession) -> None:
        """Scrape every target once, side by side."""
        await asyncio.gather(*(self._scrape(session, target) for target in self.targets))

    async def _scrape(self, session: aiohttp.ClientSession, target: Target) -> None:
        begun = time.monotonic()
        now = self.clock()
        found: set[tuple[tuple[str, str], ...]] = set()
        try:
            async with session.get(target.url, timeout=aiohttp.ClientTimeout(total=4)) as answer:
                answer.raise_for_status()
                body = await answer.content.read(SCRAPE_BYTES_MAX)
            for family in text_string_to_metric_families(body.decode()):
                self.metadata[family.name] = (family.type, family.documentation)
                for sample in family.samples:
                    labels = {**sample.labels, **target.labels, "__name__": sample.name}
                    self.database.append(labels, now, float(sample.value))
                    found.add(tuple(sorted(labels.items())))
            target.healthy, target.error = True, ""
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            target.healthy, target.error = False, str(error) or type(error).__name__
        for key in target.seen - found:
            self.database.append(dict(key), now, STALE)
        target.seen = found
        target.scraped_at, target.seconds = now, time.monotonic() - begun
        self.database.append({"__name__": "up", **target.labels}, now, float(target.healthy))

    async def run(self, after: Callable[[], None]) -> None:
        """Sample, scrape and call ``after`` each step until cancelled."""
        async with aiohttp.ClientSession() as session:
            ticks = 0
            while True:
                await asyncio.sleep(self.step_s)
                self.tick()
                await self.scrape(session)
                after()
                ticks += 1
                if ticks % 60 == 0:
                    self.database.expire(self.clock())
