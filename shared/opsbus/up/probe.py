"""Is it ready? A service says so by its ready file and then by ``/ready``; a bus by its greeting."""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opsbus.up.folder import read_json
from opsbus.up.model import Ready

HTTP_TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 2_000_000

# A proxy in the environment is for the outside world, not for this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Its certificate names the host that clients know, not this machine's loopback.
_OF_OWN_CHILD = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323 - nothing secret is sent
)


def service_ready(ready_file: Path) -> Callable[[], Awaitable[Ready | None]]:
    """A probe: ready when the file is there and ``http_url``/ready answers 200."""

    async def probe() -> Ready | None:
        facts = read_json(ready_file)
        if facts is None:
            return None
        url = facts.get("http_url")
        if isinstance(url, str) and url:
            status, _ = await asyncio.to_thread(_get, f"{url.rstrip('/')}/ready", "", HTTP_TIMEOUT_S, _OF_OWN_CHILD)
            if status != 200:
                return None
        return Ready(str(url or "") or _addresses(facts), facts)

    return probe


def _addresses(facts: Mapping[str, Any]) -> str:
    """Of a process with several faces: the first at each port, ``kubernetes :36001 · prometheus :40121``."""
    found: dict[int | None, str] = {}
    for name, value in facts.items():
        if name.endswith("_url") and isinstance(value, str):
            found.setdefault(urlsplit(value).port, name.removesuffix("_url"))
    return " · ".join(f"{name} :{port}" for port, name in found.items())


def bus_ready(host: str, port: int) -> Callable[[], Awaitable[Ready | None]]:
    """A probe: ready when a NATS server greets with JetStream enabled."""

    async def probe() -> Ready | None:
        greeting = await nats_greeting(host, port)
        if greeting is None or not greeting.get("jetstream"):
            return None
        return Ready(f"nats://{host}:{port}", {"version": greeting.get("version", "")})

    return probe


async def nats_greeting(host: str, port: int) -> dict[str, Any] | None:
    """The INFO object a NATS server sends to whoever connects; None when there is none."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), HTTP_TIMEOUT_S)
    except (OSError, TimeoutError):
        return None
    try:
        line = await asyncio.wait_for(reader.readline(), HTTP_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        writer.close()
    try:
        value = json.loads(line.removeprefix(b"INFO "))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


async def http_get(url: str, token: str = "", timeout_s: float = HTTP_TIMEOUT_S) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answers."""
    return await asyncio.to_thread(_get, url, token, timeout_s)


def _get(url: str, token: str, timeout_s: float, opener: urllib.request.OpenerDirector = _OPENER) -> tuple[int, bytes]:
    if not url.startswith(("http://", "https://")):
        return 0, b""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https alone, checked above
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return int(answer.status), answer.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), error.read(ANSWER_BYTES_MAX)
    except (OSError, ValueError) as error:
        return 0, str(error).encode()
