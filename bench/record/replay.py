"""Replay beside a bare ordered consumer, in one run: events a second, and the ratio.

    .venv/bin/python bench/record/replay.py [--events 100000] [--rounds 3]

Starts a nats-server of its own. "Bare" is nats-py's ordered consumer with a callback that only counts, the fastest way
it has to read a stream; replay writes every event to /dev/null in the given form.
"""

import argparse
import asyncio
import io
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from nats.aio.client import Client

from opsbus.testing.bus import Bus
from opsbus_audit.access import Access, Source
from opsbus_audit.replay.command import write
from opsbus_audit.replay.forms import Form
from opsbus_audit.replay.pace import Pace
from opsbus_audit.search import Question

LEAST = 0.70


def event(number: int) -> bytes:
    """About what an edge writes for a call."""
    stage = "requested" if number % 2 == 0 else "completed"
    record = {
        "stage": stage, "seq": number + 1, "call": f"{number // 2:032x}", "actor": f"user-{number % 50}@shop.example",
        "roles": ["operator"], "auth": "jwt", "client": "assistant 1.4.2", "protocol": "2026-07-28",
        "method": "tools/call", "tool": "k8s_get_pods", "service": "k8s", "trace_id": f"{number:032x}",
        "arguments": {"namespace": "shop", "limit": 50}, "arguments_digest": "0" * 64, "duration_ms": 12.345,
    }  # fmt: skip
    return json.dumps(
        {
            "specversion": "1.0", "id": f"edge-1-{number}", "source": "/opsbus/edge/edge-1",
            "type": f"opsbus.audit.v1.{stage}", "time": datetime.now(UTC).isoformat(), "data": record,
        }
    ).encode()  # fmt: skip


async def fill(client: Client, count: int) -> None:
    js = client.jetstream(publish_async_max_pending=4_000)
    for number in range(count):
        stage = "requested" if number % 2 == 0 else "completed"
        await js.publish_async(
            f"audit.edge.{stage}", event(number), wait_stall=30.0, headers={"Nats-Msg-Id": f"e-{number}"}
        )
    await js.publish_async_completed()


async def bare(client: Client, count: int) -> float:
    js, seen, done = client.jetstream(), 0, asyncio.Event()

    async def count_it(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    began = time.perf_counter()
    subscription = await js.subscribe("audit.>", stream="AUDIT", ordered_consumer=True, cb=count_it)
    await done.wait()
    rate = count / (time.perf_counter() - began)
    await subscription.unsubscribe()
    return rate


async def replayed(client: Client, form: Form, question: Question, count: int) -> float:
    access = Access(client, None, Source.STREAM)
    with open("/dev/null", "wb") as out:  # noqa: ASYNC230
        began = time.perf_counter()
        seen = await write(access, question, Pace(0.0), form, False, io.BufferedWriter(out.raw), colour=False)
        rate = count / (time.perf_counter() - began)
    if question == Question() and seen != count:
        raise SystemExit(f"{form}: {seen} of {count} events")
    return rate


async def main(count: int, rounds: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        bus = Bus(Path(folder))
        bus.start()
        try:
            await bus.reset()
            await fill(await bus.connect("edge"), count)
            client = await bus.connect("auditor")
            forms = {
                "replay --format ndjson": (Form.NDJSON, Question()),
                "replay --format cloudevents": (Form.CLOUDEVENTS, Question()),
                "replay --format timeline": (Form.TIMELINE, Question()),
                "replay ndjson, one caller of 50": (Form.NDJSON, Question(actor="user-7@shop.example")),
            }
            rates: dict[str, list[float]] = {"bare ordered consumer": []}
            for _ in range(rounds):
                rates["bare ordered consumer"].append(await bare(client, count))
                for name, (form, question) in forms.items():
                    rates.setdefault(name, []).append(await replayed(client, form, question, count))
        finally:
            await bus.close()
            bus.stop()
    yardstick = statistics.median(rates["bare ordered consumer"])
    print(f"{count} events, median of {rounds}\n{'':<34} {'events/s':>9} {'ratio':>6}")
    for name, found in rates.items():
        print(f"{name:<34} {statistics.median(found):>9,.0f} {statistics.median(found) / yardstick:>6.2f}")
    ratio = statistics.median(rates["replay --format ndjson"]) / yardstick
    print(f"replay at least {LEAST:.0%} of a bare ordered consumer: {'yes' if ratio >= LEAST else 'NO'}")
    return ratio >= LEAST


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    raise SystemExit(0 if asyncio.run(main(given.events, given.rounds)) else 1)
