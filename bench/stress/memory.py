"""How much memory the edge and the workers have: RSS now, and the most there ever was (VmHWM), of each process.

The edge with 10,000 tools in its catalogue and 1,000 clients, each a caller on a connection of its own,
who list and call. The workers that are shipped, idle, as ``opsbus up`` starts them; and the least worker of the kit.
"""

import asyncio
import tempfile
from pathlib import Path

import httpx

from bench import calls
from bench.calls import answers, request
from bench.estate import Estate, RunningEdge
from bench.load import LoadError
from bench.measure import Asked, Measure
from bench.scale import crowd
from bench.stress.generator import Plan, offer
from bench.stress.platform import platform
from bench.stress.process import mb_of

EDGE_MB = 120.0
WORKER_MB = 80.0
TOOLS = 10_000
CLIENTS = 1_000
ROUNDS = 8
IDLE_S = 20.0


async def run() -> list[Measure]:
    """The edge, then the workers."""
    rows: list[Measure] = []
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with estate.worker("bench.workers.kit", {"OPSBUS_CONCURRENCY": "2048"}) as worker:
                rows += await _edge(estate)
                rows.append(_row("the kit's least worker, after the calls", worker, WORKER_MB))
        finally:
            await estate.stop()
    return rows + await _shipped()


async def _edge(estate: Estate) -> list[Measure]:
    rows = []
    async with estate.edge("bench.edges.whole", None, load_factor="1000") as edge:
        headers, body = request(edge.token, "demo_echo")
        await answers(edge.url, headers, body)
        rows.append(_row("edge, 2 tools, no clients", edge.pid))
        people = crowd.Crowd(await estate.bus.connect("provisioner"))
        try:
            await people.join(crowd.with_tools(TOOLS - 2))
            await _listed(edge, TOOLS)
            await asyncio.sleep(5.0)
            rows.append(_row(f"edge, {TOOLS:,} tools, listed whole", edge.pid))
            tokens = [estate.token(f"client{n}@lab") for n in range(CLIENTS)]
            plan = Plan(f"{edge.url}/mcp", headers, body.decode(), connections=CLIENTS, seconds=8.0, tokens=tokens)
            served = 0
            for _ in range(ROUNDS):
                served += (await offer(plan))["all"]["served"]
                if served >= 3 * CLIENTS:
                    break
            else:
                raise LoadError(f"{served} calls of {CLIENTS:,} clients were served: too few to tell")
            await _listed(edge, TOOLS)
            rows.append(_row(f"edge, {TOOLS:,} tools and {CLIENTS:,} clients", edge.pid, EDGE_MB))
        finally:
            await people.stop()
    return rows


async def _listed(edge: RunningEdge, tools: int) -> None:
    """Walk the list until it has as many."""
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(60):
        while True:
            found, cursor = 0, None
            while not found or cursor:
                headers, body = calls.listing(edge.token, cursor)
                answer = await client.post(f"{edge.url}/mcp", headers=headers, content=body)
                result = answer.raise_for_status().json()["result"]
                found, cursor = found + len(result["tools"]), result.get("nextCursor")
            if found >= tools:
                return
            await asyncio.sleep(0.3)


async def _shipped() -> list[Measure]:
    """Every service that ``opsbus up`` starts, idle."""
    async with platform() as facts:
        await asyncio.sleep(IDLE_S)
        pids: dict[str, int] = facts["pids"]
        workers = [name for name in pids if name not in ("nats-server", "edge", "sandbox")]
        return [
            _row(f"{name}, idle in opsbus up", pid, WORKER_MB if name in workers else None)
            for name, pid in sorted(pids.items())
        ]


def _row(name: str, pid: int, most: float | None = None) -> Measure:
    now, ever = mb_of(pid)
    asked = Asked(peak_mb=("the process", most)) if most is not None else None
    return Measure(
        name, 0.0, 0.0, 0.0, 0.0, 0.0, {}, peak_mb={"the process": ever}, asked=asked, note=f"{now:.1f} MB now"
    )
