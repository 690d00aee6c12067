"""A responder on bare nats-py: the least that can answer, so that what stands before it shows."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from nats.aio.msg import Msg

from opsbus import nats_client
from opsbus.settings import Settings

INSTANCE = "demo-bare"
_HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
_RESULT = {
    "resultType": "complete",
    "content": [{"type": "text", "text": "hello"}],
    "structuredContent": {"text": "hello"},
    "isError": False,
}
_HEADERS = {"Opsbus-Status": "ok", "Opsbus-Instance": INSTANCE, "Opsbus-Executed": "yes"}


def manifest() -> bytes:
    """Two tools: one reads, one writes."""
    writes = _HINTS | {"readOnlyHint": False, "idempotentHint": False}
    return json.dumps(
        {
            "service": "demo",
            "instance": INSTANCE,
            "version": "1.0.0",
            "started_at": datetime.now(UTC).isoformat(),
            "tools": [
                {"name": "echo", "inputSchema": _SCHEMA, "annotations": _HINTS, "permission": "demo:read"},
                {"name": "change", "inputSchema": _SCHEMA, "annotations": writes, "permission": "demo:write"},
            ],
        }
    ).encode()


async def main() -> None:
    """Answer until killed."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"])
    client = await nats_client.connect(Settings(nats_url=os.environ["OPSBUS_NATS_URL"], nats_seed_file=seed), "demo")
    bucket = await client.jetstream().key_value("CATALOG")
    body = json.dumps(_RESULT, separators=(",", ":")).encode()

    async def answer(message: Msg) -> None:
        await client.publish(message.reply, body, headers=_HEADERS)

    await client.subscribe("tool.demo.*", queue="demo", cb=answer)
    while True:
        await bucket.put(f"demo.{INSTANCE}", manifest())
        await asyncio.sleep(2)


if __name__ == "__main__":
    uvloop.run(main())
