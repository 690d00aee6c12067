"""All suites: what each measures, how long it takes, and how it is made short enough for a run of all of them."""

from collections.abc import Callable, Coroutine
from typing import NamedTuple

from bench import door, gate, plan
from bench.bus import worker
from bench.cmdb import tools as cmdb
from bench.measure import Measure
from bench.record import ingest, replay, search, verify
from bench.scale import clients, instances, long, more, payloads, streams, tools
from bench.stress import memory, overload

Suite = Callable[[], Coroutine[None, None, list[Measure]]]

EVENTS_BRIEF = 50_000
"""Events of the record's suites in a run of all."""
_SHORT = "rounds of 1 s instead of 2 s"


class Entry(NamedTuple):
    """A suite."""

    title: str
    run: Suite
    takes_s: int
    """About, in a run of all, on two processors."""
    brief: str = ""
    """What is less in a run of all than when the suite is named."""
    apart: bool = False
    """It runs when it is named, and not in a run of all: it takes too long."""


async def _replay() -> list[Measure]:
    return await (replay.run(EVENTS_BRIEF) if plan.current().brief else replay.run())


async def _verify() -> list[Measure]:
    return await (verify.run(2 * EVENTS_BRIEF) if plan.current().brief else verify.run())


async def _search() -> list[Measure]:
    return await (search.run(2 * EVENTS_BRIEF, 10) if plan.current().brief else search.run())


async def _ingest() -> list[Measure]:
    return await (ingest.run(10_000) if plan.current().brief else ingest.run())


async def _cmdb() -> list[Measure]:
    return await (cmdb.run(10_000, 30_000, 10) if plan.current().brief else cmdb.run())


SUITES: dict[str, Entry] = {
    "door": Entry("The front door beside others: calls per second, 64 clients", door.run, 212),
    "clients": Entry("Clients at once", clients.run, 32, _SHORT),
    "worker": Entry("The kit over a bare FastStream handler, 64 calls at once", worker.run, 30, _SHORT),
    "payloads": Entry("Bytes: arguments that come back in the result, 16 clients", payloads.run, 16, _SHORT),
    "tools": Entry("Tools in the catalogue, 64 clients; lists by one client", tools.run, 46, _SHORT),
    "instances": Entry("Worker instances in the catalogue, 64 clients", instances.run, 38, _SHORT),
    "streams": Entry("Idle subscription streams, 64 clients", streams.run, 22, _SHORT),
    "long": Entry("Calls that last", long.run, 42),
    "more": Entry("Edges and workers, 64 clients", more.run, 24, _SHORT),
    "gate": Entry("The gate: calls per second with it on, against off, 64 clients", gate.run, 26, _SHORT),
    "ingest": Entry(
        "The record: events per second from the stream into the store, against a bare pull", _ingest, 15,
        "10,000 events instead of 20,000",
    ),
    "replay": Entry(
        "The record: events per second replayed, against a bare ordered consumer", _replay, 20,
        f"{EVENTS_BRIEF:,} events instead of 100,000",
    ),
    "verify": Entry(
        "The record: events per second verified in an export, against bare hashlib", _verify, 20,
        f"{2 * EVENTS_BRIEF:,} events instead of a million",
    ),
    "search": Entry(
        "The record: a search for each field, one after the other", _search, 22,
        f"{2 * EVENTS_BRIEF:,} events instead of a million, ten searches of each kind instead of twenty",
    ),
    "cmdb": Entry(
        "The CMDB: its reading tools over the bus", _cmdb, 22,
        "10,000 assets and 30,000 relationships instead of ten times as many, ten questions of each kind instead of 40",
    ),
    "overload": Entry("Three times what the edge can take", overload.run, 60, apart=True),
    "memory": Entry("Memory: the edge with tools and clients, the workers idle", memory.run, 90, apart=True),
}  # fmt: skip
"""In the order of a run of all; what does not fit into its time any more is left out, from the end."""
