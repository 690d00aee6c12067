"""A tool that is cut short says how far it came; other things it raises on its way out are nobody's matter."""

import asyncio
import secrets
from typing import Any

import pytest

from opsbus import Context, ErrorCode, Executed, ToolError, Worker

worker = Worker("test", version="1.0.0", description="For the tests of calls that are cut short.")
started = asyncio.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    global started
    started = asyncio.Event()


@worker.tool(permission="test:write")
async def move(ctx: Context[None], last: str = "told", wait: float = 60.0) -> str:
    """Moves one thing after the other."""
    try:
        started.set()
        await asyncio.sleep(wait)
    except asyncio.CancelledError:
        if last == "told":
            raise ToolError(
                ErrorCode.CANCELLED,
                "3 of 7 are moved",
                hint="The same call goes on.",
                details={"moved": 3},
                executed=Executed.YES,
            ) from None
        if last == "another error":
            raise ToolError(ErrorCode.FORBIDDEN, "no", executed=Executed.NO) from None
        if last == "a defect":
            raise ValueError("a defect") from None
        raise
    return "moved"


async def cut(caller: Any, last: str) -> Any:
    call_id = secrets.token_hex(16)
    call = asyncio.create_task(caller.call("test", "move", {"last": last}, call_id=call_id))
    await started.wait()
    await caller.cancel("test", call_id, "enough")
    return await call


async def test_a_cancelled_call_says_how_far_it_came(run_worker: Any, caller: Any) -> None:
    async with run_worker(worker):
        reply = await cut(caller, "told")
    assert reply.error.code is ErrorCode.CANCELLED
    assert reply.error.message == "the call was cancelled: enough; 3 of 7 are moved"
    assert (reply.error.hint, reply.error.details) == ("The same call goes on.", {"moved": 3})
    assert reply.executed == "yes"


async def test_a_call_out_of_time_says_how_far_it_came(run_worker: Any, caller: Any) -> None:
    async with run_worker(worker):
        reply = await caller.call("test", "move", {}, deadline_s=5.0)
    assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert "3 of 7 are moved" in reply.error.message
    assert reply.executed == "yes"


@pytest.mark.parametrize("last", ["nothing", "another error", "a defect"])
async def test_nothing_else_is_taken_for_it(run_worker: Any, caller: Any, last: str) -> None:
    async with run_worker(worker):
        reply = await cut(caller, last)
    assert reply.error.code is ErrorCode.CANCELLED
    assert reply.error.message == "the call was cancelled: enough"
    assert reply.executed == "unknown"
