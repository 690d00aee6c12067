"""Tokens that this edge has leased and not yet spent. A call that finds one makes no round trip.

Never are more admitted over all edges than the rate allows: every token comes out of the shared bucket (clocks that
differ by ``d`` seconds can add ``d`` times the rate, once). Fewer may be, by what other edges hold and do not spend:
``held_max`` for each edge, which goes back after IDLE_S.

While the bus is away each edge admits ``offline_share`` of the rate by itself.
"""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from opsbus import logs, tasks
from opsbus_edge.limits.rate import Rate
from opsbus_edge.limits.shared import SharedBuckets

log = logs.get("edge")

HELD_MAX = 50_000
"""Buckets of which this edge remembers something."""
IDLE_S = 2.0
SWEEP_S = 0.5
_SHARE = 8
"""A lease is at most this part of the burst."""
_QUICK_S = 0.5
"""Whoever comes back for more within this long gets twice as much."""
_ROUNDS_MAX = 20
_ERRORS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


def chunk_max(rate: Rate) -> int:
    """Tokens of one lease at most, but for those that calls are waiting for."""
    return max(1, rate.burst // _SHARE)


def held_max(rate: Rate) -> int:
    """Tokens that one edge holds unspent at most: a lease, and the half of one that was left when it came."""
    return chunk_max(rate) + math.ceil(chunk_max(rate) / 2)


@dataclass(slots=True)
class _Held:
    """What this edge has of one bucket."""

    limit: str
    key: str
    rate: Rate
    tokens: float = 0.0
    chunk: int = 1
    empty_until: float = 0.0
    """Monotonic; before it nobody need be asked."""
    leased_at: float = 0.0
    used_at: float = 0.0
    offline_at: float = 0.0
    asking: asyncio.Task[None] | None = None
    waiting: int = 0
    """Calls that wait for a lease."""


class Leases:
    """Leases of one edge."""

    def __init__(self, nc: Client, offline_share: float = 0.25) -> None:
        self._shared = SharedBuckets(nc)
        self._offline_share = offline_share
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()
        self._failing = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to give back what is not used."""
        self._task = asyncio.create_task(self._run(), name="limits")

    async def stop(self) -> None:
        """Give everything back."""
        await tasks.end(self._task)
        held = list(self._held.values())
        self._held.clear()
        for one in held:
            await tasks.end(one.asking)
        await asyncio.gather(*(self._give_back(one) for one in held))

    @property
    def failing(self) -> str:
        """Why nothing is leased now; empty: all is well."""
        return self._failing

    async def take(self, limit: str, key: str, rate: Rate, cost: float = 1.0) -> float:
        """Spend tokens. 0.0: they were there; else nothing is spent and it is the seconds to wait."""
        held = self._look_up(limit, key, rate)
        for _ in range(_ROUNDS_MAX):
            now = time.monotonic()
            held.used_at = now
            if held.tokens >= cost:
                held.tokens -= cost
                if held.tokens < held.chunk / 2 and held.asking is None and now >= held.empty_until:
                    held.asking = asyncio.create_task(self._lease(held))
                return 0.0
            if now < held.empty_until:
                return held.empty_until - now
            if held.asking is None:
                held.asking = asyncio.create_task(self._lease(held))
            held.waiting += 1
            try:
                await asyncio.shield(held.asking)
            finally:
                held.waiting -= 1
        return max(0.05, (cost - held.tokens) / rate.per_s)

    def give_back(self, limit: str, key: str, cost: float = 1.0) -> None:
        """A call that was let in by one limit was refused by another."""
        held = self._held.get((limit, key))
        if held is not None:
            held.tokens += cost

    def charge(self, limit: str, key: str, rate: Rate, cost: float) -> None:
        """Spend tokens without waiting, also such as are not there: the next calls pay."""
        held = self._look_up(limit, key, rate)
        held.tokens -= cost
        held.used_at = time.monotonic()

    def _look_up(self, limit: str, key: str, rate: Rate) -> _Held:
        name = (limit, key)
        held = self._held.get(name)
        if held is None or held.rate != rate:
            held = self._held[name] = _Held(limit, key, rate)
            if len(self._held) > HELD_MAX:
                self._held.popitem(last=False)  # what it held comes back as the bucket fills
        else:
            self._held.move_to_end(name)
        return held

    async def _lease(self, held: _Held) -> None:
        now = time.monotonic()
        quick = now - held.leased_at < _QUICK_S
        held.chunk = min(chunk_max(held.rate), held.chunk * 2 if quick else max(1, held.chunk // 2))
        # Whoever waits gets a token too, if there is one: a burst at the start is no flood.
        wanted = max(held.chunk, held.waiting) + max(0, math.ceil(-held.tokens))
        try:
            got, wait_s = await self._shared.lease(held.limit, held.key, held.rate, wanted)
        except _ERRORS as error:
            self._offline(held, f"{type(error).__name__} {error}".strip())
        else:
            self._failing, held.offline_at = "", 0.0
            held.leased_at = time.monotonic()
            held.tokens += got
            if not got:
                held.empty_until = held.leased_at + wait_s
        finally:
            held.asking = None

    def _offline(self, held: _Held, why: str) -> None:
        """Without the bus: a share of the rate, by this edge's own clock."""
        if not self._failing:
            log.error("rates are not leased, a share of each is admitted", error=why[:200], share=self._offline_share)
        self._failing = why
        now = time.monotonic()
        since = now - held.offline_at if held.offline_at else 1.0 / max(held.rate.per_s, 1e-9)
        held.offline_at = now
        most = max(1.0, held.rate.burst * self._offline_share) if self._offline_share else 0.0
        held.tokens = min(most, held.tokens + since * held.rate.per_s * self._offline_share)
        if held.tokens < 1:
            share = held.rate.per_s * self._offline_share
            held.empty_until = now + (min(60.0, (1 - held.tokens) / share) if share else 1.0)

    async def _give_back(self, held: _Held) -> None:
        whole = int(held.tokens)
        if whole < 1 or held.offline_at:
            return
        held.tokens -= whole
        try:
            await self._shared.give_back(held.limit, held.key, held.rate, whole)
        except _ERRORS as error:
            log.debug("tokens were not given back", error=type(error).__name__)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            before = time.monotonic() - IDLE_S
            idle = [name for name, held in self._held.items() if held.used_at < before and held.asking is None]
            for name in idle:
                held = self._held[name]
                if held.tokens < 0:
                    continue  # what was charged is still owed
                del self._held[name]
                await self._give_back(held)
