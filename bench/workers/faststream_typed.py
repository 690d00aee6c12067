"""A bare FastStream worker, as its documentation has it: JSON in, checked by a model; JSON out. None of the kit."""

import asyncio
import os
from pathlib import Path
from typing import Any

import uvloop
from faststream.nats import NatsBroker
from pydantic import BaseModel

SERVICE = os.environ.get("OPSBUS_BENCH_SERVICE", "demo")


class Echo(BaseModel):
    """Arguments of the tool."""

    text: str


class Call(BaseModel):
    """What a caller sends."""

    arguments: Echo


async def main() -> None:
    """Answer until killed."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"]).read_text(encoding="ascii").strip()
    broker = NatsBroker(
        os.environ["OPSBUS_NATS_URL"],
        nkeys_seed_str=seed,
        inbox_prefix=f"_INBOX.{SERVICE}",
        logger=None,
    )

    @broker.subscriber(f"tool.{SERVICE}.echo", queue=SERVICE, max_workers=512)
    async def echo(call: Call) -> dict[str, Any]:
        result = {"text": call.arguments.text}
        return {
            "resultType": "complete",
            "content": [{"type": "text", "text": call.arguments.text}],
            "structuredContent": result,
            "isError": False,
        }

    async with broker:
        await broker.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
