"""The front door beside others: the same tool call through each of them, in turns, in one run."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bench import load
from bench.calls import answers, request
from bench.estate import Estate, RunningEdge
from bench.measure import Measure, Round, measure

CONNECTIONS = 64
ROUNDS = 3


class Door(NamedTuple):
    """One way in."""

    name: str
    module: str
    worker: str
    seconds: float
    backend: str = ""
    """A server behind it that is no worker on the bus."""
    settings: Mapping[str, str] = MappingProxyType({})


DOORS = (
    Door("1 bare relay", "bench.rivals.relay", "bare", 4),
    Door("2 opsbus, all on", "bench.edges.whole", "bare", 4),
    Door("2 opsbus, all on, kit worker", "bench.edges.whole", "kit", 4),
    Door("3 opsbus, gate off", "bench.edges.no_gate", "bare", 4),
    Door("6 mcp SDK's low-level server", "bench.rivals.sdk", "bare", 4),
    Door("7 FastMCP server, no bus", "bench.rivals.fastmcp_server", "", 3),
    Door("8 FastMCP proxy", "bench.rivals.fastmcp_proxy", "", 10, backend="bench.rivals.fastmcp_server"),
)


async def run() -> list[Measure]:
    """All doors, in turns."""
    rounds: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            for _ in range(ROUNDS):
                for door in DOORS:
                    rounds.setdefault(door.name, []).append(await _round(estate, door))
        finally:
            await estate.stop()
    first = measure(DOORS[0].name, rounds[DOORS[0].name])
    return [first, *(measure(door.name, rounds[door.name], first) for door in DOORS[1:])]


async def _round(estate: Estate, door: Door) -> Round:
    async with _opened(estate, door) as (edge, worker):
        headers, body = request(edge.token, "demo_echo")
        await answers(edge.url, headers, body)
        pids = {"door": edge.pid} | ({"behind": worker} if worker else {})
        await load.post(f"{edge.url}/mcp", headers, body, connections=4, seconds=1, pids=pids)
        return await load.post(
            f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=door.seconds, pids=pids
        )


@asynccontextmanager
async def _opened(estate: Estate, door: Door) -> AsyncIterator[tuple[RunningEdge, int]]:
    async with AsyncExitStack() as stack:
        worker = 0
        environment = {}
        if door.worker:
            worker = await stack.enter_async_context(estate.worker(f"bench.workers.{door.worker}"))
        if door.backend:
            behind = await stack.enter_async_context(estate.edge(door.backend))
            worker = behind.pid
            environment["OPSBUS_BENCH_BACKEND"] = f"{behind.url}/mcp"
        edge = await stack.enter_async_context(estate.edge(door.module, environment, **door.settings))
        yield edge, worker
