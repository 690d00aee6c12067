"""How much memory the edge and the workers have: RSS now, and the most there ever was (VmHWM), of each process.

The edge with 10,000 tools of ten services in its catalogue and 1,000 clients, each a caller on a connection of its own,
who list and call. The workers that are shipped, idle, as ``opsbus up`` starts them; and the least worker of the kit.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench.calls import VERSION, answers, request
from bench.estate import Estate, RunningEdge
from bench.load import LoadError
from bench.measure import Asked, Measure
from bench.stress.generator import Plan, offer
from bench.stress.process import mb_of
from opsbus.testing.bus import ONLOOKER

EDGE_MB = 120.0
WORKER_MB = 80.0
SERVICES = 10
TOOLS = 10_000
CLIENTS = 1_000
IDLE_S = 20.0
UP_S = 120.0


def manifest(service: str, tools: int) -> bytes:
    """What a worker announces that has as many tools, each as large as the shipped ones' are."""

    def tool(number: int) -> dict[str, Any]:
        kinds = {"type": "string", "description": "Which of them, by name; a glob where it says so."}
        schema = {
            "type": "object",
            "properties": {
                "name": kinds,
                "namespace": kinds,
                "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
        return {
            "name": f"look_at_thing_{number:05}",
            "title": f"Look at thing {number}",
            "description": f"Thing number {number}: its state, what is wrong with it, and since when. Newest first.",
            "inputSchema": schema,
            "annotations": {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True},
            "permission": f"{service}:read",
        }

    facts = {
        "service": service,
        "instance": f"{service}-1",
        "version": "1.0.0",
        "started_at": datetime.now(UTC).isoformat(),
        "tools": [tool(number) for number in range(tools)],
    }
    return json.dumps(facts).encode()


@asynccontextmanager
async def announced(estate: Estate, services: int, tools: int) -> AsyncIterator[None]:
    """Workers' manifests in the catalogue, put again and again as workers do; nobody answers."""
    client = await estate.bus.connect(ONLOOKER)
    bodies = {f"many{n}": manifest(f"many{n}", tools // services) for n in range(services)}

    async def put() -> None:
        while True:
            for service, body in bodies.items():
                await client.publish(f"$KV.CATALOG.{service}.{service}-1", body)
                await client.flush()
            await asyncio.sleep(3.0)

    task = asyncio.create_task(put())
    try:
        yield
    finally:
        task.cancel()


async def run() -> list[Measure]:
    """The edge, then the workers."""
    rows: list[Measure] = []
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with estate.worker("bench.workers.kit") as worker:
                rows += await _edge(estate)
                rows.append(_row("the kit's least worker, after the calls", worker, WORKER_MB))
        finally:
            await estate.stop()
    return rows + await _shipped()


async def _edge(estate: Estate) -> list[Measure]:
    rows = []
    async with estate.edge() as edge:
        headers, body = request(edge.token, "demo_echo")
        await answers(edge.url, headers, body)
        rows.append(_row("edge, 2 tools, no clients", edge.pid))
        async with announced(estate, SERVICES, TOOLS):
            await _listed(edge, TOOLS)
            await asyncio.sleep(2.0)
            rows.append(_row(f"edge, {TOOLS:,} tools, listed whole", edge.pid))
            tokens = [estate.token(f"client{n}@lab") for n in range(CLIENTS)]
            plan = Plan(f"{edge.url}/mcp", headers, body.decode(), connections=CLIENTS, seconds=8.0, tokens=tokens)
            found: dict[str, Any] = await offer(plan)
            if found["kinds"]["served"]["number"] < CLIENTS:
                raise LoadError(f"not each of {CLIENTS:,} clients was served: {found['answers']}")
            await _listed(edge, TOOLS)
            rows.append(_row(f"edge, {TOOLS:,} tools and {CLIENTS:,} clients", edge.pid, EDGE_MB))
    return rows


async def _listed(edge: RunningEdge, tools: int) -> None:
    """Walk the list until it has as many."""
    meta = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/list",
        "Authorization": f"Bearer {edge.token}",
    }
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(60):
        while True:
            found, cursor = 0, None
            while found == 0 or cursor is not None:
                params = {"_meta": meta} | ({"cursor": cursor} if cursor else {})
                message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
                answer = (await client.post(f"{edge.url}/mcp", headers=headers, json=message)).json()
                if "result" not in answer:
                    break
                found, cursor = found + len(answer["result"]["tools"]), answer["result"].get("nextCursor")
            if found >= tools:
                return
            await asyncio.sleep(0.3)


async def _shipped() -> list[Measure]:
    """Every service that ``opsbus up`` starts, idle."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = Path(folder) / "data"
        command = [sys.executable, "-m", "opsbus", "up", "--data", str(data), "--port", str(port), "--no-color"]
        said = Path(folder) / "said"
        with said.open("wb") as out:
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=dict(os.environ))
        try:
            async with asyncio.timeout(UP_S):
                while "Ctrl-C stops" not in said.read_text(encoding="utf-8"):
                    if child.poll() is not None:
                        raise RuntimeError(f"opsbus up ended:\n{said.read_text(encoding='utf-8')[-2000:]}")
                    await asyncio.sleep(0.2)
            await asyncio.sleep(IDLE_S)
            pids: dict[str, int] = json.loads((data / "run.json").read_text(encoding="utf-8"))["pids"]
            workers = [name for name in pids if name not in ("nats-server", "edge", "sandbox")]
            return [
                _row(f"{name}, idle in opsbus up", pid, WORKER_MB if name in workers else None)
                for name, pid in sorted(pids.items())
            ]
        finally:
            child.terminate()
            child.wait(60)


def _row(name: str, pid: int, most: float | None = None) -> Measure:
    now, ever = mb_of(pid)
    asked = Asked(peak_mb=("the process", most)) if most is not None else None
    return Measure(
        name, 0.0, 0.0, 0.0, 0.0, 0.0, {}, peak_mb={"the process": ever}, asked=asked, note=f"{now:.1f} MB now"
    )
