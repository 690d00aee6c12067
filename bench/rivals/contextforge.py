"""ContextForge (PyPI: ``mcp-contextforge-gateway``) in front of a FastMCP server: one process, SQLite, as its quick
start has it, with the same server registered at it as a gateway.

It has a virtual environment of its own, outside the project's lock, made when it is first wanted.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt

from bench.calls import SESSION_VERSION
from bench.load import ID

PACKAGE = "mcp-contextforge-gateway"
FOLDER = Path(__file__).parents[2] / ".opsbus" / "bench" / "contextforge"
MADE_WITHIN_S = 240.0
_START_S = 180.0
_ADMIN = "admin@example.com"


class NotStartedError(Exception):
    """Why it cannot be measured, in one line."""


class Running(NamedTuple):
    """Where it answers, and how it is called."""

    url: str
    pid: int
    headers: dict[str, str]
    body: bytes
    version: str


def made() -> bool:
    """Whether its environment is there."""
    return (FOLDER / "made").exists()


def make() -> None:
    """Make its environment.

    Raises:
        NotStartedError: it cannot be had.
    """
    if made():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise NotStartedError("no uv to make its environment with")
    python = FOLDER / "venv" / "bin" / "python"
    commands = (
        [uv, "venv", "--quiet", "--python", sys.executable, str(FOLDER / "venv")],
        [uv, "pip", "install", "--quiet", "--python", str(python), PACKAGE],
    )
    try:
        for command in commands:
            environment = os.environ | {"UV_SYSTEM_CERTS": "true"}
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=MADE_WITHIN_S, text=True)
    except subprocess.TimeoutExpired:
        raise NotStartedError(f"its environment was not made within {MADE_WITHIN_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines() or ["no word why"]
        raise NotStartedError(f"its environment cannot be made: {last[-1][:120]}") from None
    (FOLDER / "made").touch()


@asynccontextmanager
async def running(backend: str) -> AsyncIterator[Running]:
    """ContextForge with a server behind it.

    Args:
        backend: The server's MCP endpoint.

    Raises:
        NotStartedError: in one line why not.
    """
    make()
    work = FOLDER / f"run-{secrets.token_hex(4)}"
    work.mkdir()
    secret, port = secrets.token_hex(32), _free_port()
    log = (work / "log").open("wb")
    child = subprocess.Popen(
        [str(FOLDER / "venv" / "bin" / "mcpgateway"), "--host", "127.0.0.1", "--port", str(port)],
        env=_environment(work, secret), cwd=work, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {_token(secret)}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            await _healthy(client, child, work)
            yield await _registered(client, backend, Running(url, child.pid, headers, b"", await _version(client)))
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        log.close()
        shutil.rmtree(work, ignore_errors=True)


def _environment(work: Path, secret: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPSBUS_", "OTEL_"))}
    return kept | {
        "DATABASE_URL": f"sqlite:///{work}/mcp.db",
        "JWT_SECRET_KEY": secret,
        "AUTH_ENCRYPTION_SECRET": secrets.token_hex(32),
        "PLATFORM_ADMIN_EMAIL": _ADMIN,
        "PLATFORM_ADMIN_PASSWORD": secrets.token_urlsafe(24) + "aA1!",
        "BASIC_AUTH_PASSWORD": secrets.token_urlsafe(24) + "aA1!",
        "AUTH_REQUIRED": "true",
        "MCPGATEWAY_UI_ENABLED": "false",
        "MCPGATEWAY_ADMIN_API_ENABLED": "true",
        "CACHE_TYPE": "memory",
        "LOG_LEVEL": "ERROR",
        "ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMITING_ENABLED": "false",  # it allows a hundred calls a minute, and then locks the account
    }


def _token(secret: str) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": _ADMIN, "username": _ADMIN, "iat": now, "exp": now + 3_600, "jti": secrets.token_hex(16),
        "iss": "mcpgateway", "aud": "mcpgateway-api", "is_admin": True, "teams": None, "token_use": "session",
        "user": {"email": _ADMIN, "full_name": "bench", "is_admin": True, "auth_provider": "local"},
    }  # fmt: skip
    return jwt.encode(claims, secret, "HS256")


async def _healthy(client: httpx.AsyncClient, child: subprocess.Popen[bytes], work: Path) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise NotStartedError(f"it ended while it started: {_last_word(work)}")
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.25)
    raise NotStartedError(f"it was not healthy within {_START_S:.0f} s")


async def _version(client: httpx.AsyncClient) -> str:
    try:
        return str((await client.get("/version", params={"fmt": "json"})).json()["app"]["version"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""


async def _registered(client: httpx.AsyncClient, backend: str, found: Running) -> Running:
    asked = {"name": "bench", "url": backend, "transport": "STREAMABLEHTTP"}
    answer = await client.post("/gateways", json=asked)
    if answer.status_code >= 300:
        raise NotStartedError(f"it does not take the server: {answer.status_code} {answer.text[:120]}")
    tool = await _tool(client)
    params = {"name": tool["name"], "arguments": {"text": "hello"}}
    body = json.dumps({"jsonrpc": "2.0", "id": ID, "method": "tools/call", "params": params}).encode()
    headers = found.headers | {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": SESSION_VERSION,
    }
    server = {"server": {"name": "bench", "description": "bench", "associated_tools": [tool["id"]]}}
    answer = await client.post("/servers", json=server)
    if answer.status_code >= 300:
        raise NotStartedError(f"it makes no virtual server: {answer.status_code} {answer.text[:120]}")
    url = f"{found.url}/servers/{answer.json()['id']}/mcp"
    answer = await client.post(url, headers=headers, content=body)
    if answer.status_code >= 300 or '"hello' not in answer.text.replace("\\", ""):
        raise NotStartedError(f"it does not answer the call: {answer.status_code} {answer.text[:120]}")
    return found._replace(url=url, headers=headers, body=body)


async def _tool(client: httpx.AsyncClient) -> dict[str, Any]:
    for _ in range(80):
        answer = await client.get("/tools")
        said: Any = answer.json() if answer.status_code == 200 else []
        tools: list[dict[str, Any]] = (said.get("tools") or said.get("data") or []) if isinstance(said, dict) else said
        for tool in tools:
            if str(tool.get("originalName") or tool.get("name")).endswith(("demo_echo", "demo-echo")):
                return dict(tool)
        await asyncio.sleep(0.25)
    raise NotStartedError("it does not list the server's tool")


def _last_word(work: Path) -> str:
    lines = (work / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no word why"]
    return lines[-1][:120].replace(str(FOLDER), "")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
