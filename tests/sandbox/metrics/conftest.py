"""The monitoring of a small estate on a free port, and a real Prometheus where the machine has one."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.metrics.app import build_app


class Api:
    """Short words for the tests."""

    def __init__(self, base: str, session: aiohttp.ClientSession, store: ObjectStore) -> None:
        self.base, self.session, self.store = base, session, store

    async def call(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, **given) as answer:
            text = await answer.text()
            return answer.status, (await answer.json() if "json" in answer.headers.get("Content-Type", "") else text)

    async def vector(self, expr: str) -> list[dict[str, Any]]:
        status, body = await self.call("GET", "/api/v1/query", params={"query": expr})
        assert status == 200, body
        found: list[dict[str, Any]] = body["data"]["result"]
        return found


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    store = ObjectStore(Clock())
    build_estate(store)
    runner = web.AppRunner(build_app(store, step_s=0.2))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield Api(f"http://127.0.0.1:{port}", session, store)
    await runner.cleanup()
