"""One edge with everything on, one worker on the kit: what each suite of this folder puts more of something to."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from bench import calls, load, plan
from bench.collector import Collector, collecting
from bench.estate import LIMITS, Estate, RunningEdge
from bench.measure import Round

CONNECTIONS = 64


class Lab(NamedTuple):
    """What runs."""

    estate: Estate
    edge: RunningEdge
    worker: int
    collector: Collector

    @property
    def pids(self) -> dict[str, int]:
        """Of what is measured."""
        return {"edge": self.edge.pid, "worker": self.worker, "nats": self.estate.server_pid}

    async def load(self, connections: int = CONNECTIONS, text: str = "hello", seconds: int = 0) -> Round:
        """A round of calls."""
        headers, body = calls.request(self.edge.token, "demo_echo", text)
        seconds = seconds or plan.current().seconds
        return await load.post(
            f"{self.edge.url}/mcp", headers, body, connections=connections, seconds=seconds, pids=self.pids
        )

    async def rounds(self, name: str, connections: int = CONNECTIONS, text: str = "hello") -> list[Round]:
        """As many as the plan has."""
        now = plan.current()
        found = []
        for number in range(now.rounds):
            now.step(f"{name}, round {number + 1} of {now.rounds}")
            found.append(await self.load(connections, text))
        return found

    def http(self) -> httpx.AsyncClient:
        """A client who is signed in."""
        return httpx.AsyncClient(
            base_url=self.edge.url, headers={"Authorization": f"Bearer {self.edge.token}"}, timeout=30
        )


@asynccontextmanager
async def lab(concurrency: int = 2_048) -> AsyncIterator[Lab]:
    """Everything started and warm.

    Args:
        concurrency: Calls that the worker runs at once.
    """
    now = plan.current()
    now.step("starts")
    with tempfile.TemporaryDirectory() as folder, collecting() as collector:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            at_once = {"OPSBUS_CONCURRENCY": str(concurrency)}
            async with (
                estate.worker("bench.workers.kit", collector.settings | at_once) as worker,
                estate.edge("bench.edges.whole", collector.settings, **LIMITS) as edge,
            ):
                found = Lab(estate, edge, worker, collector)
                await calls.answers(edge.url, *calls.request(edge.token, "demo_echo"))
                await found.load(16, seconds=now.warm_s)
                yield found
        finally:
            await estate.stop()
