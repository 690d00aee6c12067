"""What the gate costs: the same calls through the whole edge and through one without its gate, in turns."""

import asyncio
import json
import tempfile
from pathlib import Path

import httpx

from bench import load
from bench.estate import Estate, RunningEdge
from bench.measure import Measure, Round, measure

SECONDS = 5.0
CONNECTIONS = 64
ROUNDS = 3
VERSION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
_EDGES = {"gate off": "bench.edges.no_gate", "gate on": "bench.edges.whole"}


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
                        async with estate.edge(module) as edge:
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
    await _answers(edge.url, headers, body)
    pids = {"edge": edge.pid, "worker": worker}
    await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=1, pids=pids)
    return await load.post(f"{edge.url}/mcp", headers, body, connections=CONNECTIONS, seconds=SECONDS, pids=pids)


def request(token: str, tool: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a modern ``tools/call``."""
    params = {"name": tool, "arguments": {"text": "hello"}, "_meta": _META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        "Authorization": f"Bearer {token}",
    }
    return headers, body


async def _answers(url: str, headers: dict[str, str], body: bytes) -> None:
    """Wait until the edge knows the tool."""
    async with httpx.AsyncClient() as client, asyncio.timeout(30):
        while True:
            answer = await client.post(f"{url}/mcp", headers=headers, content=body)
            if answer.status_code == 200 and not answer.json().get("error"):
                return
            await asyncio.sleep(0.1)
