"""A worker as a team writes it, on the kit."""

import asyncio

from opsbus import Context, Worker

worker = Worker("demo", version="1.0.0")


@worker.tool(permission="demo:read", read_only=True, budget_bytes=500_000)
async def echo(ctx: Context[None], text: str) -> dict[str, str]:
    """The text again."""
    return {"text": text}


@worker.tool(permission="demo:write")
async def change(ctx: Context[None], text: str) -> dict[str, str]:
    """The text again, as a write."""
    return {"text": text}


@worker.tool(permission="demo:read", read_only=True, timeout_s=120)
async def wait(ctx: Context[None], seconds: float) -> dict[str, float]:
    """Answers after so many seconds."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


if __name__ == "__main__":
    worker.run()
