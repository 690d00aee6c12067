"""2,000 calls at once that last 30 seconds each: every one is answered, and how much later than it could be."""

import asyncio
import re
import time

from bench import calls, clients, load, plan
from bench.load import LoadError
from bench.measure import Measure, Round, measure
from bench.scale.lab import lab

COUNT = 2_000
LASTS_S = 30
_MORE_S = 60.0
_CODE = re.compile(rb'"code":"([a-z_]+)"')


async def run() -> list[Measure]:
    """One round: half a minute is enough of it."""
    now = plan.current()
    lasts_s = 3 if now.trial else LASTS_S
    async with lab(concurrency=COUNT + 500) as it:
        pids = it.pids
        headers, body = calls.call(it.edge.token, "demo_wait", {"seconds": lasts_s})
        headers |= {"Connection": "close"}
        before = {name: load.cpu_s(pid) for name, pid in pids.items()}
        now.step(f"{COUNT:,} calls under way")
        began = time.perf_counter()

        async def call() -> float | str:
            asked = time.perf_counter()
            one = await clients.ask(f"{it.edge.url}/mcp", headers, body)
            try:
                said = await one.reader.read()
            finally:
                one.close()
            if b'"structuredContent"' not in said or b'"isError":true' in said:
                found = _CODE.search(said)
                return found[1].decode() if found else "no answer"
            return 1_000 * (time.perf_counter() - asked - lasts_s)

        async with asyncio.timeout(lasts_s + _MORE_S):
            ended = await asyncio.gather(*(call() for _ in range(COUNT)))
        if failed := [one for one in ended if isinstance(one, str)]:
            raise LoadError(f"{len(failed):,} of {COUNT:,} calls failed: {', '.join(sorted(set(failed)))}")
        late = sorted(one for one in ended if isinstance(one, float))
        took = time.perf_counter() - began
        cpu = {name: (load.cpu_s(pid) - before[name]) * 1e6 / COUNT for name, pid in pids.items()}
        peak = {name: load.peak_mb(pid) for name, pid in pids.items()}
    found = Round(COUNT / took, late[COUNT // 2], late[int(COUNT * 0.95)], late[int(COUNT * 0.99)], cpu, 0.0, peak)
    note = f"all answered; times are what they took beyond {lasts_s} s"
    return [measure(f"{COUNT:,} calls of {lasts_s} s", [found], note=note)]
