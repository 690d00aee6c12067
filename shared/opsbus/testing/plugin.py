"""The pytest plugin: fixtures ``bus``, ``run_worker`` and ``caller``. Installed with the kit; needs pytest-asyncio.

Imports are inside the fixtures, so that a test run that uses none of them pays nothing.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest

try:
    import pytest_asyncio
except ImportError:  # the plugin is installed wherever the kit is; only its users need pytest-asyncio
    pytest_asyncio = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from opsbus.runtime import Runtime
    from opsbus.testing.bus import Bus
    from opsbus.testing.caller import Caller

RunWorker = Callable[..., "AbstractAsyncContextManager[Runtime]"]


@pytest.fixture(scope="session")
def opsbus_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Bus]":
    """The server of this test process; stopped at the end, also after a failure."""
    from opsbus.testing.bus import Bus

    made = Bus(tmp_path_factory.mktemp("bus"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def bus(opsbus_server: "Bus") -> "AsyncIterator[Bus]":
        """A real bus, provisioned and empty."""
        opsbus_server.start()  # a test may have stopped it
        try:
            await opsbus_server.reset()
            yield opsbus_server
        finally:
            await opsbus_server.close()

    @pytest_asyncio.fixture
    async def run_worker(bus: "Bus") -> "AsyncIterator[RunWorker]":
        """``async with run_worker(worker, **settings) as running:`` a worker on the bus, ready."""
        from functools import partial

        from opsbus.testing.running import running

        yield partial(running, bus)

    @pytest_asyncio.fixture
    async def caller(bus: "Bus") -> "AsyncIterator[Caller]":
        """Calls workers as an edge does."""
        from opsbus.testing.caller import Caller

        made = Caller(await bus.connect("edge"), bus.signer, bus.errors)
        await made.start()
        yield made
