"""1, 10, 100 and 1,000 instances of workers: what the catalogue costs the edge while nothing changes, and while they
come and go; and what a call costs meanwhile. The instances are announcements; one real worker answers the calls."""

import asyncio
import time

from bench import load, plan
from bench.measure import Asked, Measure, measure
from bench.scale import crowd
from bench.scale.lab import Lab, lab
from opsbus import tasks

COUNTS = (1, 10, 100, 1_000)
CHURN_PER_S = 10
GROWN = 0.10
_SEEN_WITHIN_S = 60.0


async def run() -> list[Measure]:
    """For each count a row of calls, and with the most one while ten come and go each second."""
    now = plan.current()
    rows: list[Measure] = []
    async with lab() as it:
        people = crowd.Crowd(await it.estate.bus.connect("provisioner"))
        try:
            first: Measure | None = None
            for count in COUNTS:
                name = f"{count:,} instance{'s' if count > 1 else ''}"
                now.step(f"{name} come")
                began = time.perf_counter()
                await people.join(crowd.instances(count - len(people), len(people)))
                await _seen(it, count)
                seen_s = time.perf_counter() - began
                share = await _idle(it, 2.0)
                asked = Asked(cpu_grown=(first.name, "edge", first.cpu_us["edge"], GROWN)) if first else None
                note = f"seen after {seen_s:.1f} s; without calls the edge uses {share:.1%} of a core"
                rows.append(measure(name, await it.rounds(name), first, asked, note))
                first = first or rows[0]
            name = f"{COUNTS[-1]:,}, {CHURN_PER_S} a second change"
            churn = asyncio.create_task(people.churn(CHURN_PER_S, COUNTS[-1]))
            try:
                share = await _idle(it, 2.0)
                note = f"without calls the edge uses {share:.1%} of a core"
                rows.append(measure(name, await it.rounds(name), first, note=note))
            finally:
                await tasks.end(churn)
        finally:
            await people.stop()
    return rows


async def _seen(it: Lab, count: int) -> None:
    async with it.http() as client, asyncio.timeout(_SEEN_WITHIN_S):
        while True:
            answer = await client.get("/api/v1/catalog/services")
            known = answer.raise_for_status().json()["services"].get("crowd", {"instances": {}})
            if len(known["instances"]) >= count:
                return
            await asyncio.sleep(0.05)


async def _idle(it: Lab, seconds: float) -> float:
    """Share of a core that the edge uses while nobody calls."""
    before = load.cpu_s(it.edge.pid)
    await asyncio.sleep(seconds)
    return (load.cpu_s(it.edge.pid) - before) / seconds
