"""A worker in the test's own process, on the real bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from opsbus import settings
from opsbus.runtime import Runtime
from opsbus.testing.bus import Bus
from opsbus.worker import Worker


@asynccontextmanager
async def running(bus: Bus, worker: Worker, **given: Any) -> AsyncIterator[Runtime]:
    """Runs a worker until the block ends: it is ready inside, and drained after.

    ``given``: settings; ``tracer_provider`` gets the spans. The Runtime has ``instance``, ``http_url``, ``metrics``.
    """
    tracer_provider = given.pop("tracer_provider", None)
    connection = {"nats_url": bus.url, "nats_seed_file": bus.credentials(worker.name)}
    loaded = settings.load(worker.settings_class, worker.name, **(connection | given))
    runtime = Runtime(worker, loaded, tracer_provider=tracer_provider)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()
