"""The monitoring worker on the bus, before the estate's Prometheus, Alertmanager and Grafana."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus.testing.caller import Caller, Reply
from opsbus.testing.plugin import RunWorker
from opsbus_monitoring.app import build
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.metrics.app import build_app

Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def estate() -> AsyncIterator[str]:
    """Where the estate's monitoring answers."""
    store = ObjectStore(Clock())
    build_estate(store)
    runner = web.AppRunner(build_app(store, step_s=5.0))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def ask(estate: str, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Ask]:
    """Calls a tool of a worker that looks at the estate."""

    async def call(tool: str, options: dict[str, Any] | None = None, **arguments: Any) -> Reply:
        return await caller.call("monitoring", tool, arguments, **(options or {}))

    where = {
        "prometheus_url": estate,
        "alertmanager_url": f"{estate}/alertmanager",
        "grafana_url": f"{estate}/grafana",
    }
    async with run_worker(build(), **where):
        yield call


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client, to arrange things behind the worker's back."""
    async with aiohttp.ClientSession() as session:
        yield session
