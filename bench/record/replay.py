"""Replay beside a bare ordered consumer, in one run: events a second, and the ratio.

    .venv/bin/python -m bench.record.replay [--events 100000] [--rounds 3]

Starts a nats-server of its own. "Bare" is nats-py's ordered consumer with a callback that only counts, the fastest way
it has to read a stream; replay writes every event to /dev/null in the given form.
"""

import argparse
import asyncio
import io
import sys
import tempfile
import time
from pathlib import Path

from nats.aio.client import Client

from bench import report
from bench.measure import Asked, Measure, Round, measure
from bench.record.sample import event, message_id, subject
from opsbus.testing.bus import Bus
from opsbus_audit.access import Access, Source
from opsbus_audit.replay.command import write
from opsbus_audit.replay.forms import Form
from opsbus_audit.replay.pace import Pace
from opsbus_audit.search import Question

EVENTS = 100_000
ROUNDS = 3
ASKED = Asked(ratio=0.70)
_WAIT_S = 120.0
_FORMS: dict[str, tuple[Form, Question, Asked | None]] = {
    "replay --format ndjson": (Form.NDJSON, Question(), ASKED),
    "replay --format cloudevents": (Form.CLOUDEVENTS, Question(), ASKED),
    "replay --format timeline": (Form.TIMELINE, Question(), None),
    "replay ndjson, one caller of 50": (Form.NDJSON, Question(actor="user-7@shop.example"), None),
}
"""Asked where every event is written as it is; a timeline is made for people, a filter reads each event."""


async def fill(client: Client, count: int) -> None:
    """Put events into the stream: each call is two of them."""
    js = client.jetstream(publish_async_max_pending=4_000)
    for number in range(count):
        stage = "completed" if number % 2 else "requested"
        payload = event(number, stage, call=f"{number // 2:032x}")
        await js.publish_async(subject(stage), payload, wait_stall=30.0, headers={"Nats-Msg-Id": message_id(number)})
    await js.publish_async_completed()


async def bare(client: Client, count: int) -> Round:
    """An ordered consumer that only counts."""
    js, seen, done = client.jetstream(), 0, asyncio.Event()

    async def count_it(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    began = time.perf_counter()
    subscription = await js.subscribe("audit.>", stream="AUDIT", ordered_consumer=True, cb=count_it)
    await asyncio.wait_for(done.wait(), _WAIT_S)
    took = time.perf_counter() - began
    await subscription.unsubscribe()
    return Round(count / took)


async def replayed(client: Client, form: Form, question: Question, count: int) -> Round:
    """A replay of all events in a form."""
    access = Access(client, None, Source.STREAM)
    with open("/dev/null", "wb") as out:  # noqa: ASYNC230
        began = time.perf_counter()
        seen = await write(access, question, Pace(0.0), form, False, io.BufferedWriter(out.raw), colour=False)
        took = time.perf_counter() - began
    if seen != (count if question == Question() else count // 50):
        raise RuntimeError(f"{form}: {seen} of {count} events")
    return Round(count / took)


async def run(count: int = EVENTS, rounds: int = ROUNDS) -> list[Measure]:
    """A bare consumer and each form, in turns."""
    found: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bus = Bus(Path(folder))
        bus.start()
        try:
            await bus.reset()
            await fill(await bus.connect("edge"), count)
            client = await bus.connect("auditor")
            for _ in range(rounds):
                found.setdefault("", []).append(await bare(client, count))
                for name, (form, question, _asked) in _FORMS.items():
                    found.setdefault(name, []).append(await replayed(client, form, question, count))
            await bus.close()
        finally:
            bus.stop()
    yardstick = measure("bare ordered consumer", found[""])
    return [yardstick, *(measure(name, found[name], yardstick, asked) for name, (*_, asked) in _FORMS.items())]


def main(count: int, rounds: int) -> bool:
    """Print the table; whether what is asked holds."""
    rows = asyncio.run(run(count, rounds))
    report.show(f"{count:,} events replayed: events per second", rows)
    return all(row.met for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    sys.exit(0 if main(given.events, given.rounds) else 1)
