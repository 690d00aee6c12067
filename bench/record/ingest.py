"""Events per second from the stream AUDIT into the store, against what nats-py alone can pull and acknowledge."""

import asyncio
import importlib
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.measure import Asked, Measure, Round, measure
from bench.record.sample import event, message_id, subject
from opsbus import tasks
from opsbus.logs import get
from opsbus.testing.bus import Bus
from opsbus_audit.consumer import StreamConsumer
from opsbus_audit.metrics import ConsumerMetrics
from opsbus_audit.settings import AuditSettings
from opsbus_audit.store import AuditStore

EVENTS = 20_000
ROUNDS = 3
BATCH: int = AuditSettings.model_fields["batch_max"].default
ASKED = Asked(ratio=0.50)
_POSTGRES = Path(__file__).parents[2] / "tests" / "cmdb"


async def fill(bus: Bus, count: int) -> None:
    """Put events into the stream."""
    js = await bus.jetstream()
    for number in range(1, count + 1):
        await js.publish_async(subject(), event(number), headers={"Nats-Msg-Id": message_id(number)})
    await js.publish_async_completed()


async def run(count: int = EVENTS) -> list[Measure]:
    """A bare pull, SQLite, and PostgreSQL where it is installed; in turns."""
    sys.path.insert(0, str(_POSTGRES))
    postgres_server = importlib.import_module("postgres_server")  # the tests' own server

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bus = Bus(folder / "bus")
        bus.start()
        stack.callback(bus.stop)
        postgres = None
        if postgres_server.binaries() is None:
            print("no row of PostgreSQL: it is not installed")
        else:
            postgres = stack.enter_context(postgres_server.server())
        rounds: dict[str, list[Round]] = {}
        for number in range(ROUNDS):
            rounds.setdefault("bare", []).append(await _bare(bus, count))
            rounds.setdefault("SQLite", []).append(await _stored(bus, f"sqlite:///{folder}/{number}.sqlite3", count))
            if postgres is not None:
                rounds.setdefault("PostgreSQL", []).append(await _stored(bus, await postgres.database(), count))
        await bus.close()
    bare = measure("nats-py, pull and acknowledge", rounds.pop("bare"))
    return [bare, *(measure(f"into {name}", found, bare, ASKED) for name, found in rounds.items())]


async def _bare(bus: Bus, count: int) -> Round:
    await bus.reset()
    await fill(bus, count)
    subscription = await (await bus.jetstream()).pull_subscribe_bind("audit-sink", "AUDIT")
    left, started = count, time.perf_counter()
    while left:
        for message in await subscription.fetch(BATCH, timeout=5):
            await message.ack()
            left -= 1
    return Round(count / (time.perf_counter() - started))


async def _stored(bus: Bus, url: str, count: int) -> Round:
    await bus.reset()
    await fill(bus, count)
    store = AuditStore(url)
    await store.create()
    metrics = ConsumerMetrics()
    consumer = StreamConsumer(await bus.connect("audit"), store, metrics, get("audit"), BATCH)
    started = time.perf_counter()
    task = asyncio.create_task(consumer.run())
    try:
        while metrics.stored._value.get() < count:
            await asyncio.sleep(0.005)
        return Round(count / (time.perf_counter() - started))
    finally:
        await tasks.end(task)
        await store.close()
