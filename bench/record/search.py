"""Search over a million events: milliseconds for each indexed field, on SQLite and PostgreSQL.

    .venv/bin/python -m bench.record.search [--events 1000000] [--rounds 20] [--keep FOLDER]

Fills a store of its own in bulk, then asks what ``audit_search`` asks: a page of 50 and a count of up to 10,000.
"""

import argparse
import asyncio
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from opsbus_audit.record import Stored
from opsbus_audit.search import Found, Question, search
from opsbus_audit.store import AuditStore
from opsbus_audit.summary import summarize

LEAST_MS = 100.0
BATCH = 5_000
BEGAN = datetime(2026, 10, 1, tzinfo=UTC)
STEP_NS = 2_000_000_000
LIFE = "AUDIT@20261001T000000.000000Z"
TOOLS = ["k8s_get_pods"] * 60 + ["monitoring_query"] * 25 + ["cmdb_query_assets"] * 14 + ["k8s_scale_deployment"]


def stored(number: int) -> Stored:
    """One of a few million plausible events: mostly reads that went well, and a few of everything else."""
    call = number // 2
    odd = call % 1_000
    stage = "requested" if number % 2 == 0 else "denied" if odd == 7 else "failed" if odd % 100 == 3 else "completed"
    if number % 2 and odd == 999:
        stage = "unknown"
    tool = TOOLS[call % len(TOOLS)]
    service = tool.split("_")[0] if odd != 500 else "billing"
    data = {
        "stage": stage, "seq": number, "call": f"{call:032x}", "actor": f"user-{call * 7919 % 2_000}@shop.example",
        "roles": ["operator"], "auth": "jwt", "client": "assistant 1.4", "tool": tool, "service": service,
        "mutating": tool == "k8s_scale_deployment", "duration_ms": 12.3, "arguments": {"namespace": "shop"},
    }  # fmt: skip
    stored_ns = int(BEGAN.timestamp()) * 1_000_000_000 + number * STEP_NS
    event = {
        "specversion": "1.0", "id": f"edge-1-{number}", "source": "/opsbus/edge/edge-1",
        "type": f"opsbus.audit.v1.{stage}", "time": datetime.fromtimestamp(stored_ns / 1e9, UTC).isoformat(),
        "data": data,
    }  # fmt: skip
    return Stored(LIFE, number + 1, f"audit.edge.{stage}", stored_ns, {}, json.dumps(event).encode())


async def fill(store: AuditStore, count: int) -> float:
    """Events a second by the store's own way, in large batches."""
    await store.create()
    done = await store.last_sequence(LIFE)
    began = time.perf_counter()
    for start in range(done, count, BATCH):
        batch = [stored(number) for number in range(start, min(count, start + BATCH))]
        await store.append(store.prepare(batch))
    async with store.engine.connect() as connection:
        options = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await options.execute(text("ANALYZE" if store.engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
    return (count - done) / max(1e-9, time.perf_counter() - began)


def questions(count: int) -> dict[str, Callable[[int], Question]]:
    """By name; the number makes each a little different."""
    end = BEGAN + timedelta(seconds=2 * count)

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
        "one hour": lambda n: Question(since=end - timedelta(hours=100 + n), until=end - timedelta(hours=99 + n)),
        "ten days": lambda n: Question(since=end - timedelta(days=12, minutes=n), until=end - timedelta(days=2)),
        "time + caller": lambda n: Question(since=end - timedelta(days=3), actor=user(n)),
        "time + caller + tool": lambda n: Question(since=end - timedelta(days=9), actor=user(n), tool="k8s_get_pods"),
    }


async def timed(store: AuditStore, ask: Callable[[int], Question], rounds: int) -> tuple[list[float], Found]:
    taken, found = [], None
    for number in range(rounds + 1):
        began = time.perf_counter()
        found = await search(store.engine, ask(number), 50)
        taken.append((time.perf_counter() - began) * 1000)
    assert found is not None
    return taken[1:], found  # the first one warms


async def deep(store: AuditStore, pages: int) -> list[float]:
    """Pages of one caller's service, one after another by cursor."""
    taken, cursor = [], None
    for _ in range(pages):
        began = time.perf_counter()
        found = await search(store.engine, Question(service="k8s"), 200, cursor)
        taken.append((time.perf_counter() - began) * 1000)
        cursor = found.cursors[-1]
    return taken


def show(name: str, taken: list[float], rows: object) -> bool:
    ordered = sorted(taken)
    p50, p95 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    fine = p50 < LEAST_MS
    print(f"{name:<24} {rows!s:>8} {p50:>9.1f} {p95:>9.1f}{'' if fine else '   over 100 ms'}", flush=True)
    return fine


async def table(kind: str, url: str, count: int, rounds: int) -> bool:
    store = AuditStore(url, timeout_s=25.0)
    try:
        rate = await fill(store, count)
        print(f"\n{kind}: {count:,} events ({rate:,.0f} events/s filled)")
        print(f"{'field':<24} {'rows':>8} {'ms p50':>9} {'ms p95':>9}", flush=True)
        fine = True
        for name, ask in questions(count).items():
            taken, found = await timed(store, ask, rounds)
            fine &= show(name, taken, found.total if found.total is not None else ">10000")
        taken = await deep(store, 100)
        fine &= show("service, page 1 to 10", taken[:10], 200)
        fine &= show("service, page 91 to 100", taken[90:], 200)
        for days in (1, 20):
            began = time.perf_counter()
            since = BEGAN + timedelta(seconds=2 * count) - timedelta(days=days)
            groups = await summarize(store.engine, Question(since=since), ("service", "tool", "outcome"), 50)
            took = (time.perf_counter() - began) * 1000
            print(f"{f'(summarize, {days} d)':<24} {sum(group.calls for group in groups):>8} {took:>9.1f}")
        return fine
    finally:
        await store.close()


async def main(count: int, rounds: int, keep: str | None) -> bool:
    with ExitStack() as stack:
        folder = keep or stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder).mkdir(parents=True, exist_ok=True)
        fine = await table("SQLite", f"sqlite:///{folder}/search.sqlite3", count, rounds)
        sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "cmdb"))
        server: Any = importlib.import_module("postgres_server")  # the tests' own server
        if server.binaries() is None:
            print("\nPostgreSQL: not installed, left out")
            return fine
        running = stack.enter_context(server.server())
        return await table("PostgreSQL", await running.database(), count, rounds) and fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keep", help="Keep the SQLite file in this folder and use it again.")
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.events, given.rounds, given.keep)) else 1)
