"""Announcements of workers that are not there: what the catalogue, and whoever keeps it, has to do for many of them."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from opsbus import tasks
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_contracts.streams import CATALOG

TOOLS_MAX = 1_000
"""Of one announcement, which has a bound of its own."""
_AT_ONCE = 50
_HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_STARTED = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


def tool(number: int, service: str) -> dict[str, Any]:
    """A tool as large as those of a platform are."""
    return {
        "name": f"get_thing_{number:05}",
        "description": f"Things of kind {number}: what they are, how they are, since when. The unhealthy ones first.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "namespace": {"type": "string", "description": "Where; all of them without it."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
            },
            "additionalProperties": False,
        },
        "annotations": _HINTS,
        "permission": f"{service}:read",
    }


def manifest(service: str, instance: str, tools: list[dict[str, Any]]) -> bytes:
    """An announcement."""
    facts = {"service": service, "instance": instance, "version": "1.0.0", "started_at": _STARTED, "tools": tools}
    return json.dumps(facts, separators=(",", ":")).encode()


def with_tools(count: int) -> dict[str, bytes]:
    """Announcements, by key, of services that have so many tools together."""
    found: dict[str, bytes] = {}
    for start in range(0, count, TOOLS_MAX):
        service = f"many{start // TOOLS_MAX}"
        tools = [tool(number, service) for number in range(start, min(count, start + TOOLS_MAX))]
        found[f"{service}.{service}-0"] = manifest(service, f"{service}-0", tools)
    return found


def instances(count: int, first: int = 0) -> dict[str, bytes]:
    """Announcements, by key, of so many instances of one service."""
    tools = [tool(number, "crowd") for number in range(3)]
    names = [f"crowd-{number:06}" for number in range(first, first + count)]
    return {f"crowd.{name}": manifest("crowd", name, tools) for name in names}


class Crowd:
    """Keeps announcements in the bucket as their workers would: put again three times in the time that they live.

    Args:
        client: Of an identity that may announce for everybody.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._announced: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._announced)

    async def join(self, announced: dict[str, bytes]) -> None:
        """These are there from now on."""
        self._announced |= announced
        for key, value in announced.items():
            await self._client.publish(f"$KV.{CATALOG.name}.{key}", value)
        await self._client.flush()
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def leave(self, count: int) -> None:
        """The oldest so many go."""
        for key in list(self._announced)[:count]:
            del self._announced[key]
            await self._client.publish(f"$KV.{CATALOG.name}.{key}", b"", headers={"KV-Operation": "DEL"})
        await self._client.flush()

    async def churn(self, per_s: int, first: int) -> None:
        """So many come, and as many go, each second; until cancelled."""
        number = first
        while True:
            await self.leave(1)
            await self.join(instances(1, number))
            number += 1
            await asyncio.sleep(1 / per_s)

    async def stop(self) -> None:
        """Nobody announces any more."""
        await tasks.end(self._task)

    async def _keep(self) -> None:
        every_s = CATALOG_TTL_S / 3
        while True:
            keys = list(self._announced)
            pause = every_s / max(1, len(keys) / _AT_ONCE)
            for start in range(0, len(keys), _AT_ONCE):  # spread over the time, as real ones are
                for key in keys[start : start + _AT_ONCE]:
                    if (value := self._announced.get(key)) is not None:
                        await self._client.publish(f"$KV.{CATALOG.name}.{key}", value)
                await asyncio.sleep(pause)
