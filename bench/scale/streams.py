"""1,000 clients that listen and hear nothing (``subscriptions/listen``): what they cost the edge, what a call costs
meanwhile, and how long it takes to tell all of them that a tool has come."""

import asyncio
import itertools
import time
from collections.abc import Awaitable
from dataclasses import replace

from bench import calls, clients, load, plan
from bench.measure import Asked, Measure, measure, of_times
from bench.scale import crowd
from bench.scale.lab import Lab, lab

COUNT = 1_000
EACH = 10
"""Streams of one person."""
GROWN = 0.10
_TOLD_WITHIN_S = 30.0
_TOLD = b"notifications/tools/list_changed"
_ACKNOWLEDGED = b"notifications/subscriptions/acknowledged"


async def run() -> list[Measure]:
    """Calls without them, calls with them, and how all are told."""
    now = plan.current()
    async with lab() as it:
        without = measure("no streams", await it.rounds("no streams"))
        before_mb = load.peak_mb(it.edge.pid)
        now.step("streams open")
        people = itertools.cycle([it.estate.token(f"person-{number}@lab") for number in range(COUNT // EACH)])

        def stream() -> Awaitable[clients.Waiting]:
            return clients.ask(f"{it.edge.url}/mcp", *calls.listening(next(people)))

        streams = await clients.many(COUNT, stream)
        try:
            await asyncio.gather(*(one.until(_ACKNOWLEDGED) for one in streams))
            share = await _idle(it, 2.0)
            name = f"{COUNT:,} idle streams"
            found = await it.rounds(name)
            grown_kb = (load.peak_mb(it.edge.pid) - before_mb) * 1024 / COUNT
            note = f"{grown_kb:.0f} kB of memory a stream; {share:.1%} of a core without calls"
            asked = Asked(cpu_grown=(without.name, "edge", without.cpu_us["edge"], GROWN))
            with_them = measure(name, found, without, asked, note)
            heard = await _told(it, streams)
            at_the_end = replace(of_times(heard), per_s=1_000 * COUNT / max(heard))
            told = measure(f"{COUNT:,} streams told of a tool", [at_the_end])
        finally:
            for one in streams:
                one.close()
    return [without, with_them, told]


async def _idle(it: Lab, seconds: float) -> float:
    before = load.cpu_s(it.edge.pid)
    await asyncio.sleep(seconds)
    return (load.cpu_s(it.edge.pid) - before) / seconds


async def _told(it: Lab, streams: list[clients.Waiting]) -> list[float]:
    """Milliseconds from the announcement until each has heard of it."""
    people = crowd.Crowd(await it.estate.bus.connect("provisioner"))
    began = time.perf_counter()

    async def heard(one: clients.Waiting) -> float:
        await one.until(_TOLD)
        return 1_000 * (time.perf_counter() - began)

    waiting = [asyncio.create_task(heard(one)) for one in streams]
    await people.join(crowd.instances(1))
    try:
        async with asyncio.timeout(_TOLD_WITHIN_S):
            return await asyncio.gather(*waiting)
    finally:
        await people.stop()
