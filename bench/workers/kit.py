"""A worker as a team writes it, on the kit."""

from opsbus import Context, Worker

worker = Worker("demo", version="1.0.0")


@worker.tool(permission="demo:read", read_only=True)
async def echo(ctx: Context[None], text: str) -> dict[str, str]:
    """The text again."""
    return {"text": text}


@worker.tool(permission="demo:write")
async def change(ctx: Context[None], text: str) -> dict[str, str]:
    """The text again, as a write."""
    return {"text": text}


if __name__ == "__main__":
    worker.run()
