"""The requests that the load repeats, in each of the protocols."""

import asyncio
import json
from typing import Any

import httpx

from bench.load import ID

VERSION = "2026-07-28"
SESSION_VERSION = "2025-11-25"
_CLIENT = {"name": "bench", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
_BOTH = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
_START_S = 90.0


def request(token: str, tool: str, text: str = "hello") -> tuple[dict[str, str], bytes]:
    """Headers and body of a modern ``tools/call``."""
    return call(token, tool, {"text": text})


def call(token: str, tool: str, arguments: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a modern ``tools/call``, with any arguments. Without a token nobody signs in."""
    return _modern(token, "tools/call", {"name": tool, "arguments": arguments}, tool)


def listing(token: str, cursor: str | None = None) -> tuple[dict[str, str], bytes]:
    """Headers and body of a modern ``tools/list``."""
    return _modern(token, "tools/list", {"cursor": cursor} if cursor else {}, "")


def listening(token: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a ``subscriptions/listen``, which is told when the tools change."""
    return _modern(token, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, "")


def rest(token: str, text: str = "hello") -> tuple[dict[str, str], bytes]:
    """Headers and body of ``POST /api/v1/tools/{name}/execute``."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return headers, json.dumps({"arguments": {"text": text}}).encode()


def in_session(token: str, tool: str, text: str = "hello") -> tuple[dict[str, str], bytes]:
    """Headers, but for ``Mcp-Session-Id``, and body of a ``tools/call`` of the session era."""
    headers = _BOTH | {"MCP-Protocol-Version": SESSION_VERSION, "Authorization": f"Bearer {token}"}
    params = {"name": tool, "arguments": {"text": text}}
    return headers, json.dumps({"jsonrpc": "2.0", "id": ID, "method": "tools/call", "params": params}).encode()


async def open_sessions(url: str, token: str, count: int) -> list[str]:
    """Ids of initialized sessions at an endpoint."""
    headers = _BOTH | {"Authorization": f"Bearer {token}"}
    params = {"protocolVersion": SESSION_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    found: list[str] = []
    async with httpx.AsyncClient(timeout=_START_S) as client:
        for _ in range(count):
            answer = await client.post(url, headers=headers, json=hello)
            answer.raise_for_status()
            found.append(answer.headers["mcp-session-id"])
            its = headers | {"MCP-Protocol-Version": SESSION_VERSION, "Mcp-Session-Id": found[-1]}
            done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            (await client.post(url, headers=its, json=done)).raise_for_status()
    return found


async def answers(url: str, headers: dict[str, str], body: bytes, path: str = "/mcp") -> None:
    """Wait until what is asked is answered: the edge knows the tool."""
    said = "nothing"
    async with httpx.AsyncClient() as client:
        try:
            async with asyncio.timeout(_START_S):
                while True:
                    answer = await client.post(f"{url}{path}", headers=headers, content=body)
                    said = f"{answer.status_code} {answer.text[:200]}"
                    if answer.status_code == 200 and not _error(answer):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"{path} did not answer the call in {_START_S:.0f} s, but: {said}") from None


def _error(answer: httpx.Response) -> bool:
    try:
        said = answer.json()
    except ValueError:
        return '"error"' in answer.text or '"isError":true' in answer.text
    result = said.get("result")
    return bool(said.get("error")) or (isinstance(result, dict) and bool(result.get("isError")))


def _modern(token: str, method: str, params: dict[str, Any], name: str) -> tuple[dict[str, str], bytes]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": _META}}
    headers = _BOTH | {"MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    if name:
        headers["Mcp-Name"] = name
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers, json.dumps(body, separators=(",", ":")).encode()  # as clients on the SDKs write it
