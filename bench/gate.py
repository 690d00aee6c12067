"""What the gate costs: the same calls through the whole edge and through one without its gate, in turns."""

import tempfile
from pathlib import Path

from bench import load, plan
from bench.calls import answers, request
from bench.estate import LIMITS, Estate, RunningEdge
from bench.measure import Measure, Round, measure

CONNECTIONS = 64
_EDGES = {"gate off": "bench.edges.no_gate", "gate on": "bench.edges.whole"}


async def run() -> list[Measure]:
    """Reads and writes, gate off and on."""
    now = plan.current()
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with estate.worker("bench.workers.bare") as worker:
                rounds: dict[str, list[Round]] = {}
                for number in range(now.rounds):
                    for name, module in _EDGES.items():
                        now.step(f"{name}, round {number + 1} of {now.rounds}")
                        async with estate.edge(module, None, **LIMITS) as edge:
                            for tool in ("demo_echo", "demo_change"):
                                rounds.setdefault(f"{tool} {name}", []).append(await _load(edge, worker, tool))
        finally:
            await estate.stop()
    rows: list[Measure] = []
    for tool in ("demo_echo", "demo_change"):
        off = measure(f"{tool} gate off", rounds[f"{tool} gate off"])
        rows += [off, measure(f"{tool} gate on", rounds[f"{tool} gate on"], off)]
    return rows


async def _load(edge: RunningEdge, worker: int, tool: str) -> Round:
    headers, body = request(edge.token, tool)
    await answers(edge.url, headers, body)
    pids = {"edge": edge.pid, "worker": worker}
    now = plan.current()
    await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=now.warm_s, pids=pids)
    return await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=now.seconds, pids=pids)
