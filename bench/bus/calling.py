"""Calls a tool over the bus from a process of its own: ``SUBJECT TOKEN SECONDS AT_ONCE``; prints what it measured.

One inbox for all, as the edge has it.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import uvloop
from nats.aio.msg import Msg

from opsbus import nats_client
from opsbus.settings import Settings

_BODY = b'{"arguments":{"text":"hello"},"client":{"name":"bench","version":"1"}}'
_DEADLINE_S = 60


async def main(subject: str, token: str, seconds: float, at_once: int) -> None:
    """Keep so many calls under way for so long."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"])
    client = await nats_client.connect(
        Settings(nats_url=os.environ["OPSBUS_NATS_URL"], nats_seed_file=seed), "edge", skip_subject_validation=True
    )
    inbox = client.new_inbox()
    waiting: dict[str, asyncio.Future[Msg]] = {}
    taken: list[float] = []
    loop = asyncio.get_running_loop()

    async def arrived(message: Msg) -> None:
        found = waiting.pop(message.subject.rpartition(".")[2], None)
        if found is not None and not found.done():
            found.set_result(message)

    await client.subscribe(f"{inbox}.*", cb=arrived)
    headers = {"Opsbus-Identity": token, "Opsbus-Attempt": "1"}
    headers["Opsbus-Deadline"] = str(int((time.time() + seconds + _DEADLINE_S) * 1_000))
    number = 0

    async def call() -> Msg:
        nonlocal number
        number += 1
        answer = waiting[str(number)] = loop.create_future()
        trace = f"00-{number:032x}-{number:016x}-{'00' if number % 100 else '01'}"  # as an edge samples
        own = headers | {"Opsbus-Call": f"{number:032x}", "traceparent": trace}
        await client.publish(subject, _BODY, reply=f"{inbox}.{number}", headers=own)
        found: Msg = await answer
        return found

    async def caller(ends: float) -> None:
        while time.perf_counter() < ends:
            began = time.perf_counter()
            answer = await call()
            taken.append(1_000 * (time.perf_counter() - began))
            if b'"structuredContent"' not in answer.data:
                raise SystemExit(f"{subject} answered {dict(answer.headers or {})} {answer.data[:200]!r}")

    async with asyncio.timeout(seconds + 30):
        began = time.perf_counter()
        await asyncio.gather(*(caller(began + seconds) for _ in range(at_once)))
    took = time.perf_counter() - began
    taken.sort()
    at = {f"p{share}_ms": taken[int(len(taken) * share / 100)] for share in (50, 95, 99)}
    print(json.dumps({"calls": len(taken), "seconds": took} | at))
    await client.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
