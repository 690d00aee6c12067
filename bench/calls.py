"""The tool call that the load repeats."""

import asyncio
import json

import httpx

VERSION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}


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


async def answers(url: str, headers: dict[str, str], body: bytes) -> None:
    """Wait until the edge knows the tool."""
    async with httpx.AsyncClient() as client, asyncio.timeout(30):
        while True:
            answer = await client.post(f"{url}/mcp", headers=headers, content=body)
            if answer.status_code == 200 and not answer.json().get("error"):
                return
            await asyncio.sleep(0.1)
