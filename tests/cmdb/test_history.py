"""The past: what was recorded at a time, on every backend; what is not known of it is said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import insert, select, text

from opsbus import ErrorCode, ToolError
from opsbus.database import open_engine
from opsbus.testing.caller import Caller
from opsbus_cmdb import history, seed, tables
from opsbus_cmdb.app import build
from opsbus_cmdb.http_inventory import HttpInventory
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.migrations.versions import r0001_baseline
from opsbus_cmdb.model import Asset, Status
from opsbus_cmdb.query import AssetQuery, Direction, StatusChange, TopologyQuery, asset_query
from opsbus_cmdb.store import EmbeddedInventory

CHECKOUT = "service:shop/checkout"


async def changed(inventory: Inventory, value: str, ref: str = CHECKOUT) -> Asset:
    before = await inventory.get_asset(ref)
    wanted = StatusChange(
        field="status", value=value, expected_version=before.version, reason="test", actor="ada", call_id="c"
    )
    return await inventory.set_status(before.id, wanted)


async def at(inventory: Inventory, moment: datetime, ref: str = CHECKOUT) -> Asset:
    (asset,) = (await inventory.find_assets(asset_query(None, {"ref": ref}, moment), 5, None)).items
    return asset


async def test_each_version_is_seen_at_its_time(inventory: Inventory) -> None:
    first = await inventory.get_asset(CHECKOUT)
    degraded = await changed(inventory, "degraded")
    down = await changed(inventory, "down")
    instant = timedelta(microseconds=1)
    assert await at(inventory, degraded.updated_at - instant) == first
    assert await at(inventory, degraded.updated_at) == degraded
    assert await at(inventory, down.updated_at - instant) == degraded
    assert await at(inventory, down.updated_at) == down == await inventory.get_asset(CHECKOUT)


async def test_filters_counts_and_pages_are_of_the_past_too(inventory: Inventory) -> None:
    whole = (await inventory.find_assets(AssetQuery(), 500, None)).items
    down = await changed(inventory, "down")
    before = down.updated_at - timedelta(microseconds=1)
    then = asset_query(None, {"status": "down"}, before)
    assert (await inventory.find_assets(then, 5, None)).total == 0
    assert CHECKOUT in {
        a.ref for a in (await inventory.find_assets(asset_query(None, {"status": "down"}), 5, None)).items
    }
    counts = {g.value: g.count for g in await inventory.count_assets(AssetQuery(as_of=before), "status")}
    assert counts == {s.value: n for s in Status if (n := sum(a.status is s for a in whole))}
    paged: list[Asset] = []
    cursor = None
    while True:
        page = await inventory.find_assets(AssetQuery(as_of=before), 7, cursor)
        assert page.as_of == before
        paged += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole


async def test_topology_then_and_before_anything_was_there(inventory: Inventory, start: datetime) -> None:
    down = await changed(inventory, "down", "service:shop/cart")
    query = TopologyQuery(direction=Direction.DEPENDENCIES, depth=1)
    now = await inventory.topology(CHECKOUT, query)
    then = await inventory.topology(
        CHECKOUT, query.model_copy(update={"as_of": down.updated_at - timedelta(microseconds=1)})
    )
    statuses = [{n.asset.name: n.asset.status.value for n in found.nodes} for found in (now, then)]
    assert statuses[0] == statuses[1] | {"cart": "down"}
    assert then.undated == len(then.edges) == len(now.edges)
    with pytest.raises(ToolError) as nothing:
        await inventory.topology(CHECKOUT, query.model_copy(update={"as_of": start - timedelta(days=400)}))
    assert nothing.value.code is ErrorCode.NOT_FOUND
    assert "as of" in nothing.value.message


async def test_a_relationship_that_is_gone_or_new_is_where_it_was(database_url: str, start: datetime) -> None:
    store = EmbeddedInventory(database_url)
    await store.create()
    await store.load(seed.shop(start))
    cart, catalog = await store.get_asset("service:shop/cart"), await store.get_asset("service:shop/catalog")
    engine = open_engine(database_url)
    moment = datetime.now(UTC)
    async with engine.begin() as connection:
        edges = select(tables.relationship.c.id).where(tables.relationship.c.from_id == cart.id)
        ids = list((await connection.execute(edges)).scalars())
        await history.end_relationships(connection, ids, moment, gone=True)
        new = {
            "id": "rel-new", "from_id": cart.id, "to_id": catalog.id, "type": "depends_on", "impact": "hard",
            "redundancy": "none", "source": "test", "last_seen": None, "valid_from": moment,
        }  # fmt: skip
        await connection.execute(insert(tables.relationship), [new])
    await engine.dispose()
    query = TopologyQuery(direction=Direction.DEPENDENCIES, depth=1)
    then = await store.topology(cart.id, query.model_copy(update={"as_of": moment - timedelta(microseconds=1)}))
    assert {node.asset.name for node in then.nodes} == {"cart", "redis", "lab"}
    for as_of in (None, moment):
        now = await store.topology(cart.id, query.model_copy(update={"as_of": as_of}))
        assert {node.asset.name for node in now.nodes} == {"cart", "catalog"}
        assert now.undated == 0
    await store.close()


async def test_history_from_before_it_was_kept_is_made_from_the_writes(database_url: str, start: datetime) -> None:
    """A database of the first schema, in which two writes were made."""
    engine = open_engine(database_url)
    estate = seed.shop(start)
    asset = next(a for a in estate.assets if a.ref == CHECKOUT)
    changes = [(2, timedelta(hours=3), "operational", "degraded"), (3, timedelta(hours=1), "degraded", "down")]
    old = r0001_baseline.metadata
    async with engine.begin() as connection:
        await connection.run_sync(old.create_all)
        row = asset.model_dump() | {"status": "down", "version": 3, "updated_at": start - timedelta(hours=1)}
        await connection.execute(insert(old.tables["cmdb_asset"]), [row])
        rows = [
            {"asset_id": asset.id, "version": version, "at": start - ago, "actor": "ada", "field": "status",
             "before": before, "after": after, "reason": "test", "change_id": "", "call_id": ""}
            for version, ago, before, after in changes
        ]  # fmt: skip
        await connection.execute(insert(old.tables["cmdb_asset_history"]), rows)
    await engine.dispose()
    store = EmbeddedInventory(database_url)
    await store.create()
    seen = [await at(store, start - timedelta(hours=ago)) for ago in (5, 2, 0.5)]
    assert [(a.status.value, a.version) for a in seen] == [("operational", 1), ("degraded", 2), ("down", 3)]
    assert (await store.find_assets(AssetQuery(), 5, None)).items[0].status is Status.DOWN
    await store.close()


async def test_a_cmdb_that_ignores_the_time_is_not_believed(sqlite_store: EmbeddedInventory) -> None:
    async def present(_request: web.Request) -> web.Response:
        found = await sqlite_store.find_assets(AssetQuery(), 5, None)
        return web.json_response(text=found.model_dump_json(exclude={"as_of"}))

    app = web.Application()
    app.add_routes([web.get("/api/v1/assets", present)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with HttpInventory(f"http://{host}:{port}", "key") as remote:
        assert (await remote.find_assets(AssetQuery(), 5, None)).items
        with pytest.raises(ToolError) as refused:
            await remote.find_assets(AssetQuery(as_of=datetime.now(UTC)), 5, None)
    assert "no history" in refused.value.message
    await runner.cleanup()


async def test_a_broken_order_cannot_be_written(sqlite_store: EmbeddedInventory, tmp_path: Path) -> None:
    await changed(sqlite_store, "down")
    found = await sqlite_store.find_assets(AssetQuery(), 3, None)
    assert found.items[0].ref == CHECKOUT
    engine = open_engine(f"sqlite:///{tmp_path}/only.sqlite3")
    async with engine.connect() as connection:
        ranks = (await connection.execute(text("SELECT rank, status, criticality FROM cmdb_asset"))).all()
    await engine.dispose()
    assert all(row.rank == history.rank(row.status, row.criticality) for row in ranks)


@pytest.fixture
async def cmdb(run_worker: Any, database_url: str) -> Any:
    async with run_worker(build(), database_url=database_url, seed="shop") as running:
        yield running


async def test_the_tools_say_of_when_they_speak(cmdb: Any, caller: Caller) -> None:
    given = {"id": CHECKOUT, "status": "down", "reason": "errors"}
    asked = (await caller.call("cmdb", "update_asset_status", given)).error
    before = datetime.now(UTC).isoformat()
    await caller.call("cmdb", "update_asset_status", {**given, "confirm": asked.details["confirm"]})
    now = (await caller.call("cmdb", "get_service_topology", {"service": CHECKOUT})).structured
    reply = await caller.call("cmdb", "get_service_topology", {"service": CHECKOUT, "as_of": before})
    then = reply.structured
    assert CHECKOUT in now["unhealthy"]
    assert CHECKOUT not in then["unhealthy"]
    assert datetime.fromisoformat(then["as_of"]) == datetime.fromisoformat(before)
    assert "not as it is now" in reply.text
    assert any("beginning is not recorded" in warning for warning in then["warnings"])
    one = (await caller.call("cmdb", "query_assets", {"filters": {"ref": CHECKOUT}, "as_of": before})).structured
    assert (one["items"][0]["status"], one["match"]) == ("operational", "one")
    assert one["neighbours"]
    early = (await caller.call("cmdb", "query_assets", {"filters": {"ref": CHECKOUT}, "as_of": "now-2d"})).structured
    assert any("first recorded" in warning for warning in early["warnings"])


@pytest.mark.parametrize("tool", ["query_assets", "get_service_topology"])
@pytest.mark.parametrize("as_of", ["now+1h", "2999-01-01T00:00:00Z", "yesterday", "2026-01-01T10:00:00"])
async def test_what_is_no_past_time_is_refused(
    run_worker: Any, tmp_path: Path, caller: Caller, tool: str, as_of: str
) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/cmdb.sqlite3", seed="shop"):
        given = {"as_of": as_of} | ({"service": CHECKOUT} if tool == "get_service_topology" else {})
        error = (await caller.call("cmdb", tool, given)).error
        assert error.code is ErrorCode.INVALID_ARGUMENTS
        assert "as_of" in error.message
