"""A background task ends, also where the cancellation meets a result."""

import asyncio
from contextlib import suppress

from opsbus import tasks


async def test_a_cancellation_that_is_swallowed_is_said_again(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(tasks, "_AGAIN_S", 0.05)
    queue: asyncio.Queue[int] = asyncio.Queue()
    got = []

    async def reader() -> None:
        while True:
            with suppress(TimeoutError):
                # What Python 3.11's wait_for does when the result is there already.
                try:
                    got.append(await asyncio.wait_for(queue.get(), 30))
                except asyncio.CancelledError:
                    if not got:
                        got.append(0)
                        continue
                    raise

    task = asyncio.create_task(reader())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.end(task, None)
    assert task.cancelled()


async def test_what_a_task_raised_is_not_raised_again() -> None:
    async def broken() -> None:
        raise ValueError("x")

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("y")

    first, second = asyncio.create_task(broken()), asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await tasks.end(first, second)
    assert first.done()
    assert second.done()
