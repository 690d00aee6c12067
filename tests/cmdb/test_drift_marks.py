"""Drift that is kept: marked when a fact or a record changes and when time passes, told once when it begins or ends,
shown by the tools and the resources; over the real bus with two workers of one store."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from opsbus import ToolError
from opsbus.logs import get as get_log
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.waiting import until
from opsbus_cmdb import keeper as keeping
from opsbus_cmdb import places, seed, tables
from opsbus_cmdb.app import build
from opsbus_cmdb.keeper import Keeper
from opsbus_cmdb.outbox import Telling
from opsbus_cmdb.query import AssetQuery, StatusChange, asset_query
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import, apply
from opsbus_cmdb.transfer.read import read_files
from opsbus_cmdb.workloads import Workload

CHECKOUT = "service:shop/checkout"
BATCH = "host:lab/batch-01"
ASSETS_URI = "enterprise://cmdb/assets"


def fact(name: str = "checkout", minutes: float = 0, **fields: Any) -> Workload:
    known = {"cluster": "lab", "namespace": "shop", "name": name, "images": ["shop/checkout:v2.4.1"], "replicas": 3}
    at = datetime.now(UTC) + timedelta(minutes=minutes - 60)
    return Workload.model_validate(known | {"seen_at": at} | fields)


async def judged(store: EmbeddedInventory) -> list[Telling]:
    """What is told of the drift after everything due was judged; taken out as told."""
    while await store.judge():
        pass
    waiting = await store.waiting()
    await store.told([item.id for item in waiting])
    return waiting


def drift_of(told: list[Telling]) -> list[tuple[str, str, str]]:
    return [(item.kind, item.data["ref"], item.data["kind"]) for item in told if item.kind.startswith("drift_")]


def uris(told: list[Telling]) -> set[str]:
    return {item.subject for item in told if item.kind == "resource_updated"}


async def marks(store: EmbeddedInventory, ref: str = CHECKOUT) -> dict[str, Any]:
    return {mark.kind: mark for mark in await store.marks_of_refs([ref])}


async def test_a_mark_from_its_begin_to_its_end(store: EmbeddedInventory) -> None:
    uri = f"{ASSETS_URI}/{seed.asset_id(CHECKOUT)}"
    first = fact(images=["shop/checkout:v2.4.0"], minutes=50)
    await store.learn([first])
    told = await judged(store)
    assert drift_of(told) == [("drift_found", CHECKOUT, "release")]
    data = told[0].data
    assert (data["severity"], data["recorded"], data["seen"]) == ("medium", "v2.4.1", "shop/checkout:v2.4.0")
    assert uris(told) == {ASSETS_URI, uri}
    mark = (await marks(store))["release"]
    assert mark.since == first.seen_at
    # The same again, and another wrong release: neither is another beginning.
    await store.learn([first])
    assert await judged(store) == []
    await store.learn([fact(images=["shop/checkout:v2.3.0"], minutes=51)])
    told = await judged(store)
    assert drift_of(told) == []
    assert uri in uris(told)
    changed = (await marks(store))["release"]
    assert (changed.seen, changed.since) == ("shop/checkout:v2.3.0", mark.since)
    await store.learn([fact(minutes=52)])
    assert drift_of(await judged(store)) == [("drift_gone", CHECKOUT, "release")]
    assert await marks(store) == {}


async def test_what_cannot_be_compared_any_more_is_not_over(store: EmbeddedInventory) -> None:
    await store.learn([fact(images=["shop/checkout:v2.4.0"])])
    await judged(store)
    await store.learn([fact(images=["registry/without-a-tag"], minutes=1)])
    assert drift_of(await judged(store)) == []
    assert set(await marks(store)) == {"release"}


async def test_a_changed_record_is_judged(store: EmbeddedInventory) -> None:
    await store.learn([fact(replicas=0)])
    assert drift_of(await judged(store)) == [("drift_found", CHECKOUT, "status")]
    change = StatusChange(field="status", value="down", expected_version=1, reason="nothing runs", actor="ada")
    await store.set_status(seed.asset_id(CHECKOUT), change)
    told = await judged(store)
    assert drift_of(told) == [("drift_gone", CHECKOUT, "status")]
    assert uris(told) == {ASSETS_URI, f"{ASSETS_URI}/{seed.asset_id(CHECKOUT)}"}


async def _import(store: EmbeddedInventory, path: Path, *lines: dict[str, Any]) -> None:
    await asyncio.to_thread(path.write_text, json.dumps({"assets": lines}), encoding="utf-8")
    async with store._engine.begin() as connection:
        await apply(connection, read_files([path]), Import("ada", "test"), lambda _what, _count: None)


async def test_a_workload_that_nobody_recorded(store: EmbeddedInventory, tmp_path: Path) -> None:
    await store.learn([fact("stowaway", images=["who/knows:1"])])
    told = await judged(store)
    assert drift_of(told) == [("drift_found", "lab/shop/stowaway", "not_recorded")]
    assert uris(told) == {ASSETS_URI}
    assert await store.marks_counted() == {"medium": 1}
    line = {
        "ref": "service:other/known", "lifecycle": "active", "status": "operational", "criticality": "low",
        "external_ids": {"kubernetes": "lab/shop/stowaway"},
    }  # fmt: skip
    await _import(store, tmp_path / "a.json", line)
    told = await judged(store)
    assert drift_of(told) == [("drift_gone", "lab/shop/stowaway", "not_recorded")]
    assert len(uris(told)) == 2
    # Its record says something else now, and the workload is nobody's again.
    await _import(store, tmp_path / "b.json", line | {"external_ids": {"kubernetes": "lab/shop/elsewhere"}})
    assert drift_of(await judged(store)) == [("drift_found", "lab/shop/stowaway", "not_recorded")]
    await store.learn([fact("stowaway", minutes=1, gone=True)])
    assert drift_of(await judged(store)) == [("drift_gone", "lab/shop/stowaway", "not_recorded")]


async def test_time_alone_makes_stale(store: EmbeddedInventory, start: datetime) -> None:
    assert await store.sweep() == 1
    assert drift_of(await judged(store)) == [("drift_found", BATCH, "stale")]
    assert (await marks(store, BATCH))["stale"].since == start - timedelta(days=2)
    assert await store.sweep() == 0
    async with store._engine.begin() as connection:
        chosen = update(tables.asset).where(tables.asset.c.ref == BATCH)
        await connection.execute(chosen.values(last_seen=datetime.now(UTC)))
    assert await store.sweep() == 1
    assert drift_of(await judged(store)) == [("drift_gone", BATCH, "stale")]


async def test_assets_by_their_drift(store: EmbeddedInventory) -> None:
    await store.sweep()
    await store.learn([fact(images=["shop/checkout:v2.4.0"], replicas=0), fact("cart", gone=True)])
    await judged(store)

    async def found(value: str | list[str], **more: Any) -> set[str]:
        query = asset_query(None, {"drift": value, **more})
        return {asset.ref for asset in (await store.find_assets(query, 50, None)).items}

    assert await found("any") == {CHECKOUT, BATCH, "service:shop/cart"}
    assert await found("gone") == {"service:shop/cart"}
    assert await found(["stale", "release"]) == {CHECKOUT, BATCH}
    assert await found("medium", namespace="shop") == {CHECKOUT}
    with pytest.raises(ToolError, match="no value"):
        asset_query(None, {"drift": "relase"})
    with pytest.raises(ToolError, match="not as it was"):
        asset_query(None, {"drift": "any"}, datetime.now(UTC))
    assert (await store.find_assets(AssetQuery(), 1, None)).total == 26


async def test_a_change_while_another_is_judged_is_judged_too(store: EmbeddedInventory) -> None:
    names = ["checkout", "cart", "catalog", "frontend"]
    wrong = [[fact(name, images=["x:0"], minutes=place)] for place, name in enumerate(names)]
    right = [[fact(name, gone=True, minutes=9)] for name in names]
    await asyncio.gather(*(store.learn(seen) for seen in wrong), *(store.judge() for _ in range(4)))
    await asyncio.gather(*(store.learn(seen) for seen in right), *(store.judge() for _ in range(4)))
    told = drift_of(await judged(store))
    for name in names:
        kept = await marks(store, f"service:shop/{name}")
        assert set(kept) == {"gone"}
        found = [kind for kind, ref, which in told if (ref, which) == (f"service:shop/{name}", "gone")]
        assert found == ["drift_found"]


async def test_who_dies_before_telling_leaves_it_to_the_next(sqlite_store: EmbeddedInventory, bus: Bus) -> None:
    store = sqlite_store
    await store.learn([fact(images=["shop/checkout:v2.4.0"])])
    assert await store.judge() == 1
    left = await store.waiting()
    client = await bus.connect("cmdb")
    # Told, but not taken out: the next one tells it again under the same id, and the stream keeps one.
    dying = Keeper(client, store, get_log("cmdb"))
    for item in left:
        await dying._publish(item)
    await Keeper(client, store, get_log("cmdb")).work()
    assert await store.waiting() == []
    js = await bus.jetstream()
    assert len([message for message in await _stream(js) if message["type"].endswith("drift_found")]) == 1


async def _stream(js: Any) -> list[dict[str, Any]]:
    last = (await js.stream_info("EVENTS")).state.last_seq
    found = [await js.get_msg("EVENTS", seq) for seq in range(1, last + 1)]
    return [json.loads(message.data) for message in found]


async def test_updates_of_a_resource_are_gathered(
    sqlite_store: EmbeddedInventory, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "UPDATED_EVERY_S", 600.0)
    store = sqlite_store
    keeper = Keeper(await bus.connect("cmdb"), store, get_log("cmdb"))
    for round_ in range(5):
        await store.learn([fact(images=[f"shop/checkout:v{round_}"], minutes=round_)])
        rest = await keeper.work()
    assert rest > 0
    js = await bus.jetstream()
    told = [item["subject"] for item in await _stream(js) if item["type"].endswith("resource_updated")]
    assert sorted(told) == sorted({ASSETS_URI, f"{ASSETS_URI}/{seed.asset_id(CHECKOUT)}"})
    assert {item.kind for item in await store.waiting()} == {"resource_updated"}
    monkeypatch.setattr(keeping, "UPDATED_EVERY_S", 0.0)  # and that has passed
    assert await keeper.work() == 0
    assert await store.waiting() == []
    told = [item["subject"] for item in await _stream(js) if item["type"].endswith("resource_updated")]
    assert len(told) == 4


async def test_two_workers_tell_once_what_events_change(
    bus: Bus, run_worker: Any, database_url: str, caller: Caller
) -> None:
    js = (await bus.connect("k8s")).jetstream()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(run_worker(build(), database_url=database_url, seed="shop"))
        await stack.enter_async_context(run_worker(build(), database_url=database_url, seed="shop"))
        told: list[tuple[str, str]] = []

        async def heard(message: Any) -> None:
            data = json.loads(message.data)["data"]
            told.append((message.subject.rpartition(".")[2], data.get("kind") or data["uri"]))

        operator = await bus.connect("operator")
        await operator.subscribe("event.cmdb.>", cb=heard)
        await operator.flush()
        await _publish(js, images=["shop/checkout:v2.4.0"])
        await until(lambda: ("drift_found", "release") in told, 40)
        rows = (await caller.call("cmdb", "query_assets", {"filters": {"drift": "any"}, "limit": 5})).structured
        drift = {row["ref"]: row["drift"] for row in rows["items"]}
        assert drift[CHECKOUT] == "medium: release"
        found = (await caller.call("cmdb", "detect_drift", {"service": CHECKOUT})).structured
        assert found["items"][0]["since"] is not None
        uri = f"{ASSETS_URI}/{seed.asset_id(CHECKOUT)}"
        record = json.loads((await caller.read("cmdb", uri)).result["contents"][0]["text"])
        assert [mark["kind"] for mark in record["drift"]] == ["release"]
        overview = json.loads((await caller.read("cmdb", ASSETS_URI)).result["contents"][0]["text"])
        assert overview["drift"]["medium"] >= 1
        await until(lambda: ("resource_updated", uri) in told, 30)
        await _publish(js, images=["shop/checkout:v2.4.1"])
        await until(lambda: ("drift_gone", "release") in told, 40)
        # Two may tell it at once, under one id: what counts is the stream.
        kept = [item for item in await _stream(await bus.jetstream()) if item["data"].get("kind") == "release"]
        assert [item["type"].rpartition(".")[2] for item in kept] == ["drift_found", "drift_gone"]


async def _publish(js: Any, **data: Any) -> None:
    now = datetime.now(UTC)
    body = {
        "specversion": "1.0", "id": f"seen-{now.timestamp()}", "source": "/opsbus/k8s/k8s-1",
        "type": "opsbus.k8s.v1.workload_seen", "time": now.isoformat(),
        "data": {"cluster": "lab", "namespace": "shop", "name": "checkout", "replicas": 3, "ready": 3} | data,
    }  # fmt: skip
    await js.publish("event.k8s.workload_seen", json.dumps(body).encode())


async def test_a_cmdb_that_marks_nothing_refuses_the_filter(run_worker: Any, http_url: str, caller: Caller) -> None:
    async with run_worker(build(), url=http_url, api_key="test-key"):
        refused = (await caller.call("cmdb", "query_assets", {"filters": {"drift": "any"}})).error
        assert "marks no drift" in refused.message


async def test_places_are_found_by_indexes(store: EmbeddedInventory) -> None:
    dialect = store._engine.dialect.name
    asked = {
        "cmdb_asset_place": f"SELECT id FROM cmdb_asset WHERE {places._EXTERNAL[dialect]} = 'shop/cart'",
        "cmdb_workload_place": f"SELECT kind FROM cmdb_workload WHERE {places._WORKLOAD} = 'shop/cart'",
    }
    async with store._engine.connect() as connection:
        if dialect == "postgresql":
            await connection.execute(text("SET LOCAL enable_seqscan = off"))  # of so few rows it would read all
        explain = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
        for index, statement in asked.items():
            plan = (await connection.execute(text(explain + statement))).all()
            assert index in str(plan)


async def test_what_nobody_judges_takes_no_more_room(store: EmbeddedInventory) -> None:
    for replicas in range(5):
        await store.learn(
            [fact(replicas=replicas, minutes=replicas), fact("cart", replicas=replicas, minutes=replicas)]
        )
    async with store._engine.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(tables.due))).scalar_one() == 2
