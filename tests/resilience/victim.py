"""A worker that writes down every execution, for tests that kill it."""

import asyncio
import os
from pathlib import Path

from opsbus import Context, Worker

worker = Worker("demo", version="1.0.0")
diary = Path(os.environ["VICTIM_DIARY"])


def note(ctx: Context, tool: str, phase: str) -> None:
    with diary.open("a") as file:
        file.write(f"{tool} {ctx.call_id} {phase}\n")


async def work(ctx: Context, tool: str, seconds: float) -> dict[str, str]:
    note(ctx, tool, "begin")
    if "VICTIM_FAST" not in os.environ:
        await asyncio.sleep(seconds)
    note(ctx, tool, "end")
    return {"call": ctx.call_id, "pid": str(os.getpid())}


@worker.tool(permission="demo:read", read_only=True, timeout_s=60)
async def look(ctx: Context, seconds: float = 0.0) -> dict[str, str]:
    """Reads."""
    return await work(ctx, "look", seconds)


@worker.tool(permission="demo:write", timeout_s=60)
async def change(ctx: Context, seconds: float = 0.0) -> dict[str, str]:
    """Writes."""
    return await work(ctx, "change", seconds)


@worker.tool(permission="demo:write", idempotent=True, timeout_s=60)
async def ensure(ctx: Context, seconds: float = 0.0) -> dict[str, str]:
    """Writes, and may be repeated."""
    return await work(ctx, "ensure", seconds)


if __name__ == "__main__":
    worker.run()
