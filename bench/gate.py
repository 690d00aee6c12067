"""What the gate costs: the same calls through the whole edge and through one without its gate, in turns."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench import load, plan
from bench.calls import answers, request
from bench.estate import LIMITS, Estate, RunningEdge
from bench.measure import Measure, Round, measure

CONNECTIONS = 64
_TOOLS = ("demo_echo", "demo_change")
_EDGES = {"gate off": "bench.edges.no_gate", "gate on": "bench.edges.whole"}


async def run() -> list[Measure]:
    """Reads and writes, gate off and on."""
    now = plan.current()
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with AsyncExitStack() as stack:
                worker = await stack.enter_async_context(estate.worker("bench.workers.bare"))
                edges = {
                    name: await stack.enter_async_context(estate.edge(module, None, **LIMITS))
                    for name, module in _EDGES.items()
                }
                rounds: dict[str, list[Round]] = {}
                for number in range(now.rounds):
                    for name, edge in edges.items():
                        now.step(f"{name}, round {number + 1} of {now.rounds}")
                        for tool in _TOOLS:
                            found = await _load(edge, worker, tool, warm=not number)
                            rounds.setdefault(f"{tool} {name}", []).append(found)
        finally:
            await estate.stop()
    rows: list[Measure] = []
    for tool in _TOOLS:
        off = measure(f"{tool} gate off", rounds[f"{tool} gate off"])
        rows += [off, measure(f"{tool} gate on", rounds[f"{tool} gate on"], off)]
    return rows


async def _load(edge: RunningEdge, worker: int, tool: str, *, warm: bool) -> Round:
    now = plan.current()
    headers, body = request(edge.token, tool)
    pids = {"edge": edge.pid, "worker": worker}
    if warm:
        await answers(edge.url, headers, body)
        await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=now.warm_s, pids=pids)
    return await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=now.seconds, pids=pids)
