"""The least that a FastStream worker can do: bytes in, the same bytes out each time; nothing is read or checked."""

import asyncio
import os
from pathlib import Path
from typing import Any

import uvloop
from faststream.nats import NatsBroker, NatsResponse

SERVICE = os.environ.get("OPSBUS_BENCH_SERVICE", "demo")
_ANSWER = b'{"resultType":"complete","content":[],"structuredContent":{"text":"hello"},"isError":false}'


async def _as_it_came(message: Any) -> Any:
    return message.raw_message


async def main() -> None:
    """Answer until killed."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"]).read_text(encoding="ascii").strip()
    broker = NatsBroker(
        os.environ["OPSBUS_NATS_URL"],
        nkeys_seed_str=seed,
        inbox_prefix=f"_INBOX.{SERVICE}",
        logger=None,
        apply_types=False,
        decoder=_as_it_came,
    )

    @broker.subscriber(f"tool.{SERVICE}.echo", queue=SERVICE, max_workers=512)
    async def echo(_: Any) -> NatsResponse:
        return NatsResponse(_ANSWER)

    async with broker:
        await broker.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
