"""A responder on bare nats-py: the least that can answer, so that what stands before it shows.

``OPSBUS_BENCH_SERVICE`` names its service, ``OPSBUS_BENCH_BYTES`` says how long the text in its answer is.
"""

import asyncio
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from nats.aio.msg import Msg

from opsbus import nats_client
from opsbus.settings import Settings

SERVICE = os.environ.get("OPSBUS_BENCH_SERVICE", "demo")
INSTANCE = f"{SERVICE}-{secrets.token_hex(4)}"
CONCURRENCY = 10_000
"""Calls that it says it runs at once: it waits for nothing."""
_HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
_TEXT = "hello".ljust(int(os.environ.get("OPSBUS_BENCH_BYTES", "5")), "o")
_RESULT = {
    "resultType": "complete",
    "content": [{"type": "text", "text": _TEXT[:100]}],
    "structuredContent": {"text": _TEXT},
    "isError": False,
}
_STARTED = datetime.now(UTC).isoformat()
_HEADERS = {"Opsbus-Status": "ok", "Opsbus-Instance": INSTANCE, "Opsbus-Executed": "yes"}


def manifest() -> bytes:
    """Two tools: one reads, one writes."""
    writes = _HINTS | {"readOnlyHint": False, "idempotentHint": False}
    return json.dumps(
        {
            "service": SERVICE,
            "instance": INSTANCE,
            "version": "1.0.0",
            "started_at": _STARTED,
            "concurrency": CONCURRENCY,
            "tools": [
                {"name": "echo", "inputSchema": _SCHEMA, "annotations": _HINTS, "permission": f"{SERVICE}:read"},
                {"name": "change", "inputSchema": _SCHEMA, "annotations": writes, "permission": f"{SERVICE}:write"},
            ],
        }
    ).encode()


async def main() -> None:
    """Answer until killed."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"])
    client = await nats_client.connect(Settings(nats_url=os.environ["OPSBUS_NATS_URL"], nats_seed_file=seed), SERVICE)
    bucket = await client.jetstream().key_value("CATALOG")
    body = json.dumps(_RESULT, separators=(",", ":")).encode()

    async def answer(message: Msg) -> None:
        await client.publish(message.reply, body, headers=_HEADERS)

    await client.subscribe(f"tool.{SERVICE}.*", queue=SERVICE, cb=answer)
    while True:
        await bucket.put(f"{SERVICE}.{INSTANCE}", manifest())
        await asyncio.sleep(2)


if __name__ == "__main__":
    uvloop.run(main())
