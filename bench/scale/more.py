"""One edge and two, one worker and two, on the cores that there are."""

import asyncio
import time

from bench import calls, load, plan
from bench.estate import LIMITS, RunningEdge
from bench.measure import Measure, Round, measure
from bench.scale.lab import CONNECTIONS, Lab, lab


async def run() -> list[Measure]:
    """Edges in turns, with one worker and then with two."""
    rounds: dict[str, list[Round]] = {}
    async with lab() as it, it.estate.edge("bench.edges.whole", it.collector.settings, **LIMITS) as other:
        await calls.answers(other.url, *calls.request(other.token, "demo_echo"))
        await _turns(rounds, it, other, {"worker": it.worker}, "1 worker")
        async with it.estate.worker("bench.workers.kit", it.collector.settings) as second:
            await asyncio.sleep(1.0)  # it is in its queue group before the edges have heard of it
            await _turns(rounds, it, other, {"worker": it.worker, "worker 2": second}, "2 workers")
    first = measure(next(iter(rounds)), next(iter(rounds.values())))
    return [measure(name, found, first) for name, found in rounds.items()]


async def _turns(
    rounds: dict[str, list[Round]], it: Lab, other: RunningEdge, workers: dict[str, int], name: str
) -> None:
    now = plan.current()
    for number in range(now.rounds):
        for edges in ([it.edge], [it.edge, other]):
            row = f"{len(edges)} edge{'s' if len(edges) > 1 else ''}, {name}"
            now.step(f"{row}, round {number + 1} of {now.rounds}")
            rounds.setdefault(row, []).append(await _together(edges, workers, it.estate.server_pid, now.seconds))


async def _together(edges: list[RunningEdge], workers: dict[str, int], nats: int, seconds: int) -> Round:
    """The same load, spread over the edges; CPU of all edges, and of all workers, together."""
    pids = {"edges": [one.pid for one in edges], "workers": list(workers.values()), "nats": [nats]}
    before = {name: sum(map(load.cpu_s, some)) for name, some in pids.items()}
    began = time.perf_counter()
    found = await asyncio.gather(
        *(
            load.post(
                f"{edge.url}/mcp", *calls.request(edge.token, "demo_echo"),
                connections=CONNECTIONS // len(edges), seconds=seconds, pids={},
            )
            for edge in edges
        )
    )  # fmt: skip
    took = time.perf_counter() - began
    per_s = sum(one.per_s for one in found)
    cpu = {name: sum(map(load.cpu_s, some)) - before[name] for name, some in pids.items()}
    return Round(
        per_s=per_s,
        p50_ms=sum(one.p50_ms * one.per_s for one in found) / per_s,
        p95_ms=max(one.p95_ms for one in found),
        p99_ms=max(one.p99_ms for one in found),
        cpu_us={name: used * 1e6 / (per_s * took) for name, used in cpu.items()},
        peak_mb={name: sum(map(load.peak_mb, some)) for name, some in pids.items()},
    )
