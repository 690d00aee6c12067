"""What the gate costs: the same calls through the whole edge and through one without its gate, in turns."""

import tempfile
from pathlib import Path

from bench import load
from bench.calls import answers, request
from bench.estate import Estate, RunningEdge
from bench.measure import Measure, Round, measure

SECONDS = 5.0
CONNECTIONS = 64
ROUNDS = 3
_EDGES = {"gate off": "bench.edges.no_gate", "gate on": "bench.edges.whole"}

_SETTINGS = {
    "rate_global": "10000000/second",
    "rate_caller": "10000000/second",
    "rate_address": "10000000/second",
    "rate_tools": '{"demo_*": "10000000/second"}',
    "rate_tool_callers": '{"demo_*": "10000000/second"}',
    "load_factor": "1000",
}
"""Every limit is on, and none is reached."""


async def run() -> list[Measure]:
    """Reads and writes, gate off and on."""
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with estate.worker("bench.workers.bare") as worker:
                rounds: dict[str, list[Round]] = {}
                for _ in range(ROUNDS):
                    for name, module in _EDGES.items():
                        async with estate.edge(module, None, **_SETTINGS) as edge:
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
    await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=1, pids=pids)
    return await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=SECONDS, pids=pids)
