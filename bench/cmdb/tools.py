"""Each reading tool of the CMDB over the bus, on an embedded store of 100,000 assets and 300,000 relationships."""

import gc
import importlib
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench.cmdb.estate import estate, facts, workloads
from bench.load import LoadError
from bench.measure import Asked, Measure, measure, of_times
from opsbus.database import open_engine
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.running import running
from opsbus_cmdb import tables
from opsbus_cmdb.app import build
from opsbus_cmdb.seed import Estate
from opsbus_cmdb.store import EmbeddedInventory

ASSETS, RELATIONSHIPS = 100_000, 300_000
ASKED = Asked(p95_ms=200)
TIMES = 40
_POSTGRES = Path(__file__).parents[2] / "tests" / "cmdb"

Question = tuple[str, dict[str, Any]]


def questions(made: Estate, times: int = TIMES) -> dict[str, list[Question]]:
    """By name; each asks something a little different every time."""
    services = [asset for asset in made.assets if asset.kind == "service"]
    stores = [asset for asset in made.assets if asset.asset_class == "data"]
    clusters = [asset for asset in made.assets if asset.kind == "cluster"]
    some = [services[n * 997 % len(services)] for n in range(times)]
    needed = _most_needed(made)
    then = "now-1h"

    def query(**arguments: Any) -> Question:
        return "query_assets", arguments

    def walk(service: str, direction: str, depth: int = 5, **more: Any) -> Question:
        return "get_service_topology", {
            "service": service, "direction": direction, "depth": depth, "node_limit": 200, **more
        }  # fmt: skip

    return {
        "query: one by ref": [query(filters={"ref": asset.ref}) for asset in some],
        "query: one by name": [query(filters={"name": asset.name}) for asset in some],
        "query: everything": [query(limit=50)] * times,
        "query: a team": [query(filters={"owner_team": asset.owner_team}) for asset in some],
        "query: down or degraded": [query(filters={"status": ["down", "degraded"]})] * times,
        "query: half of it": [query(filters={"environment": "production"}, group_by="owner_team")] * times,
        "query: kind and environment": [query(filters={"kind": "database", "environment": "staging"})] * times,
        "query: a label": [query(filters={"label.app": asset.name}) for asset in some],
        "query: a rare word": [query(text=asset.name) for asset in some],
        "query: common words": [query(text="cart team-01")] * times,
        "query: a word of everything": [query(text="people")] * times,
        "query: no such word": [query(text=f"nobody{n}") for n in range(times)],
        "query: drift": [query(filters={"drift": "any"})] * TIMES,
        "query: an hour ago, a team": [query(filters={"owner_team": asset.owner_team}, as_of=then) for asset in some],
        "topology: what it needs": [walk(asset.id, "dependencies") for asset in some],
        "topology: both ways": [walk(asset.id, "both") for asset in some],
        "topology: what needs a store": [walk(asset.id, "dependents") for asset in stores[:times]],
        "topology: what needs a hub": [walk(key, "dependents") for key in (needed * times)[:times]],
        "topology: a cluster": [walk(asset.id, "dependents") for asset in (clusters * times)[:times]],
        "topology: an hour ago": [walk(asset.id, "both", as_of=then) for asset in some],
        "impact: a service": [("get_impact", {"asset": asset.id, "depth": 5, "node_limit": 200}) for asset in some],
        "impact: a hub": [
            ("get_impact", {"asset": key, "depth": 5, "node_limit": 200}) for key in (needed * times)[:times]
        ],
        "impact: a host": [
            ("get_impact", {"asset": f"ast-host-{n:05}", "depth": 5, "node_limit": 200}) for n in range(times)
        ],
    }


def _most_needed(made: Estate) -> list[str]:
    counted: dict[str, int] = {}
    for edge in made.relationships:
        if edge.type == "depends_on":
            counted[edge.to_id] = counted.get(edge.to_id, 0) + 1
    return sorted(counted, key=lambda key: -counted[key])[:10]


async def run(assets: int = ASSETS, relationships: int = RELATIONSHIPS, times: int = TIMES) -> list[Measure]:
    """SQLite, and PostgreSQL where it is installed."""
    sys.path.insert(0, str(_POSTGRES))
    postgres_server = importlib.import_module("postgres_server")  # the tests' own server
    made = estate(assets, relationships)
    gc.freeze()  # a collection that goes through half a million records of our own is not the tools' time
    print(f"{len(made.assets):,} assets, {len(made.relationships):,} relationships", flush=True)
    with ExitStack() as stack:
        folder = Path(os.environ.get("OPSBUS_BENCH_CMDB") or stack.enter_context(tempfile.TemporaryDirectory()))
        bus = Bus(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bus")
        bus.start()
        stack.callback(bus.stop)
        found = await _of(bus, "SQLite", f"sqlite:///{folder}/cmdb.sqlite3", made, times)
        if postgres_server.binaries() is None:
            print("no rows of PostgreSQL: it is not installed")
        else:
            server = stack.enter_context(postgres_server.server())
            found += await _of(bus, "PostgreSQL", await server.database(), made, times)
        await bus.close()
    return found


async def _of(bus: Bus, kind: str, url: str, made: Estate, times: int) -> list[Measure]:
    await bus.reset()
    await _fill(kind, url, made)
    caller = Caller(await bus.connect("edge"), bus.signer)
    await caller.start()
    async with running(bus, build(), database_url=url):
        return [await _asked(caller, f"{kind}: {name}", asked) for name, asked in questions(made, times).items()]


async def _fill(kind: str, url: str, made: Estate) -> None:
    began = time.perf_counter()
    store = EmbeddedInventory(url, 120)
    try:
        await store.create()
        if await store.load(made):
            await _learned(url, made)
            await store.analyze()
            print(f"{kind}: filled in {time.perf_counter() - began:.0f} s", flush=True)
    finally:
        await store.close()


async def _learned(url: str, made: Estate) -> None:
    """What events would have told: of every workload, and alerts that fire."""
    now = datetime.now(UTC)
    engine = open_engine(url, 120)
    try:
        async with engine.begin() as connection:
            await connection.execute(insert(tables.workload), [known.model_dump() for known in workloads(made, now)])
            await connection.execute(insert(tables.health), [fact.model_dump() for fact in facts(made, now)])
    finally:
        await engine.dispose()


async def _asked(caller: Caller, name: str, asked: list[Question]) -> Measure:
    taken = []
    for tool, arguments in [asked[0], *asked]:
        began = time.perf_counter()
        reply = await caller.call("cmdb", tool, arguments)
        taken.append(1_000 * (time.perf_counter() - began))
        if reply.status != "ok":
            raise LoadError(f"{name}: {reply.error.message}")
    return measure(name, [of_times(taken[1:])], asked=ASKED)  # the first one warms
