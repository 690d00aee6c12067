"""Search over a million events: milliseconds for each indexed field, on SQLite and PostgreSQL.

    .venv/bin/python -m bench.record.search [--events 1000000] [--rounds 20] [--keep FOLDER]

Fills a store of its own in bulk, then asks what ``audit_search`` asks: a page of 50 and a count of up to 10,000.
"""

import argparse
import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench import report
from bench.measure import Asked, Measure, measure, of_times
from bench.record.sample import BEGAN, BEGAN_NS, LIFE, event, subject
from opsbus_audit.record import Stored
from opsbus_audit.search import Question, search
from opsbus_audit.store import AuditStore
from opsbus_audit.summary import summarize

EVENTS = 1_000_000
ROUNDS = 20
ASKED = Asked(p95_ms=100.0)
_BATCH = 5_000
_STEP_NS = 2_000_000_000
_PAGES = 100
_NOTHING = ("caller, none such", "outcome, none such", "unreadable")
"""Questions to which nothing is the answer."""
_TOOLS = ["k8s_get_pods"] * 60 + ["monitoring_query"] * 25 + ["cmdb_query_assets"] * 14 + ["k8s_scale_deployment"]


def stored(number: int) -> Stored:
    """One of a few million plausible events: mostly reads that went well, and a few of everything else."""
    call = number // 2
    odd = call % 1_000
    stage = "requested" if number % 2 == 0 else "denied" if odd == 7 else "failed" if odd % 100 == 3 else "completed"
    if number % 2 and odd == 999:
        stage = "unknown"
    tool = _TOOLS[call % len(_TOOLS)]
    at_ns = BEGAN_NS + number * _STEP_NS
    payload = event(
        number,
        stage,
        at_ns,
        call=f"{call:032x}",
        actor=f"user-{call * 7919 % 2_000}@shop.example",
        tool=tool,
        service=tool.split("_")[0] if odd != 500 else "billing",
        mutating=tool == "k8s_scale_deployment",
    )
    return Stored(LIFE, number + 1, subject(stage), at_ns, {}, payload)


async def fill(stores: Sequence[AuditStore], count: int) -> None:
    """Events by the store's own way, in large batches, into all stores at once."""
    done: list[int] = []
    for store in stores:
        await store.create()
        done.append(await store.last_sequence(LIFE))
    for start in range(min(done), count, _BATCH):
        batch = [stored(number) for number in range(start, min(count, start + _BATCH))]
        rows = stores[0].prepare(batch)
        lacking = [store for store, has in zip(stores, done, strict=True) if has < start + _BATCH]
        await asyncio.gather(*(store.append(rows) for store in lacking))
    for store in stores:
        async with store.engine.connect() as connection:
            options = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await options.execute(text("ANALYZE" if store.engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))


def questions(count: int) -> dict[str, Callable[[int], Question]]:
    """By name; the number makes each a little different."""
    span = timedelta(seconds=2 * count)
    end, middle = BEGAN + span, BEGAN + span / 2

    def user(number: int) -> str:
        return f"user-{number * 37 % 2_000}@shop.example"

    return {
        "newest": lambda _: Question(),
        "caller": lambda n: Question(actor=user(n)),
        "caller, none such": lambda n: Question(actor=f"nobody-{n}"),
        "tool, common": lambda _: Question(tool="k8s_get_pods"),
        "tool, rare": lambda _: Question(tool="k8s_scale_deployment"),
        "service, common": lambda _: Question(service="k8s"),
        "service, rare": lambda _: Question(service="billing"),
        "stage, common": lambda _: Question(stage="completed"),
        "stage, rare": lambda _: Question(stage="unknown"),
        "call": lambda n: Question(call=f"{n * 997 % (count // 2):032x}"),
        "outcome, common": lambda _: Question(outcome="success"),
        "outcome, rare": lambda _: Question(outcome="denied"),
        "outcome, none such": lambda _: Question(outcome="cancelled"),
        "writes": lambda _: Question(mutating=True),
        "unreadable": lambda _: Question(unreadable=True),
        "sequence range": lambda n: Question(first=count // 2 + n, last=count // 2 + n + 500),
        "one hour": lambda n: Question(since=middle + timedelta(minutes=n), until=middle + timedelta(minutes=n + 60)),
        "ten days": lambda n: Question(since=end - timedelta(days=12, minutes=n), until=end - span / 12),
        "time + caller": lambda n: Question(since=end - timedelta(days=3), actor=user(n)),
        "time + caller + tool": lambda n: Question(since=end - timedelta(days=9), actor=user(n), tool="k8s_get_pods"),
    }


async def timed(
    store: AuditStore, ask: Callable[[int], Question], rounds: int, *, nothing: bool = False
) -> list[float]:
    """Milliseconds of each question. Nothing is found quickly: some of the answers must hold something."""
    taken, items = [], 0
    for number in range(rounds + 1):
        began = time.perf_counter()
        found = await search(store.engine, ask(number), 50)
        taken.append((time.perf_counter() - began) * 1000)
        items += len(found.entries)
    if bool(items) == nothing:
        raise RuntimeError(f"a search found {items} events: {ask(0)}")
    return taken[1:]  # the first one warms


async def deep(store: AuditStore, pages: int) -> list[float]:
    """Milliseconds of each page of a service, one after another by cursor."""
    taken, cursor = [], None
    for _ in range(pages):
        began = time.perf_counter()
        found = await search(store.engine, Question(service="k8s"), 200, cursor)
        taken.append((time.perf_counter() - began) * 1000)
        cursor = found.cursors[-1] if found.more else None  # from the start again where there is no more
    return taken


async def summed(store: AuditStore, count: int, days: int) -> list[float]:
    """Milliseconds of a summary over the last days."""
    since = BEGAN + timedelta(seconds=2 * count) - timedelta(days=days)
    began = time.perf_counter()
    await summarize(store.engine, Question(since=since), ("service", "tool", "outcome"), 50)
    return [(time.perf_counter() - began) * 1000]


async def rows_of(kind: str, store: AuditStore, count: int, rounds: int) -> list[Measure]:
    """A row for each field."""
    taken = {name: await timed(store, ask, rounds, nothing=name in _NOTHING) for name, ask in questions(count).items()}
    pages = await deep(store, _PAGES)
    taken |= {"service, page 1 to 10": pages[:10], f"service, page {_PAGES - 9} to {_PAGES}": pages[-10:]}
    fields = [measure(f"{kind}: {name}", [of_times(some)], asked=ASKED) for name, some in taken.items()]
    # A summary reads every event of its time: nothing is asked of it.
    sums = {days: of_times(await summed(store, count, days)) for days in (1, 20)}
    return fields + [measure(f"{kind}: (summary, {days} d)", [took]) for days, took in sums.items()]


async def run(count: int = EVENTS, rounds: int = ROUNDS, keep: str | None = None) -> list[Measure]:
    """SQLite, and PostgreSQL where it is installed."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "cmdb"))
    server: Any = importlib.import_module("postgres_server")  # the tests' own server
    async with AsyncExitStack() as stack:
        folder = keep or stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder).mkdir(parents=True, exist_ok=True)
        urls = {"SQLite": f"sqlite:///{folder}/search.sqlite3"}
        if server.binaries() is None:
            print("no row of PostgreSQL: it is not installed")
        else:
            urls["PostgreSQL"] = await stack.enter_context(server.server()).database()
        stores = {kind: AuditStore(url, timeout_s=60.0) for kind, url in urls.items()}
        for store in stores.values():
            stack.push_async_callback(store.close)
        await fill(list(stores.values()), count)
        return [row for kind, store in stores.items() for row in await rows_of(kind, store, count, rounds)]


def main(count: int, rounds: int, keep: str | None) -> bool:
    """Print the table; whether what is asked holds."""
    rows = asyncio.run(run(count, rounds, keep))
    report.show(f"Search over {count:,} events, one question after the other", rows)
    return all(row.met for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keep", help="Keep the SQLite file in this folder and use it again.")
    given = parser.parse_args()
    sys.exit(0 if main(given.events, given.rounds, given.keep) else 1)
