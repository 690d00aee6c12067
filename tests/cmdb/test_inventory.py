"""The port's promises, kept by every backend: SQLite, PostgreSQL, and a CMDB over HTTP."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from opsbus import ErrorCode, ToolError
from opsbus.database import open_engine
from opsbus_cmdb import asset_store
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import ChangeState, Criticality, RelationType, Status
from opsbus_cmdb.query import AssetQuery, ChangeQuery, Direction, StatusChange, TopologyQuery, asset_query
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import
from opsbus_cmdb.transfer.commands import import_into
from opsbus_cmdb.transfer.read import read_files

CHECKOUT = "service:shop/checkout"


def wanted(value: str = "degraded", version: int = 1, **more: str) -> StatusChange:
    field = "lifecycle" if value in {"retiring", "retired", "active"} else "status"
    return StatusChange(
        field=field, value=value, expected_version=version, reason="errors", actor="ada", **{"call_id": "c1", **more}
    )


async def test_the_unhealthy_and_critical_come_first(inventory: Inventory) -> None:
    found = await inventory.find_assets(AssetQuery(), 100, None)
    ranks = [(list(Status).index(a.status), list(Criticality).index(a.criticality), a.ref) for a in found.items]
    assert ranks == sorted(ranks)
    assert found.items[0].status is Status.UNKNOWN
    assert found.total == len(found.items) > 20
    assert found.next_cursor is None


async def test_pages_give_every_asset_once(inventory: Inventory) -> None:
    whole = [asset.ref for asset in (await inventory.find_assets(AssetQuery(), 500, None)).items]
    paged: list[str] = []
    cursor = None
    while True:
        page = await inventory.find_assets(AssetQuery(), 4, cursor)
        assert len(page.cursors) == len(page.items) <= 4
        paged += [asset.ref for asset in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole


async def test_a_cursor_of_another_question_or_of_nobody_is_refused(inventory: Inventory) -> None:
    cursor = (await inventory.find_assets(AssetQuery(), 4, None)).next_cursor
    assert cursor is not None
    for query, given in ((asset_query("shop", None), cursor), (AssetQuery(), "nonsense!"), (AssetQuery(), "bnVsbA")):
        with pytest.raises(ToolError) as refused:
            await inventory.find_assets(query, 4, given)
        assert refused.value.code is ErrorCode.INVALID_ARGUMENTS
        assert "cursor" in refused.value.message


@pytest.mark.parametrize(
    ("text", "filters", "refs"),
    [
        ("payments", {"kind": "service", "criticality": "critical"}, {"payments-api", "ledger"}),
        ("CHECKOUT", {"environment": "production", "kind": ["service"]}, {"checkout", "cart", "gift-cards"}),
        (None, {"label.app": "redis"}, {"redis"}),
        (None, {"ref": CHECKOUT}, {"checkout"}),
        ("lab/payments/ledger", None, {"ledger", "ledger-postgres"}),
        (None, {"status": ["down", "unknown"], "kind": "host"}, {"batch-01"}),
        ("100%", None, set()),
        ("_", {"kind": "cache"}, set()),
    ],
)
async def test_text_and_filters(
    inventory: Inventory, text: str | None, filters: dict[str, str] | None, refs: set[str]
) -> None:
    found = await inventory.find_assets(asset_query(text, filters), 100, None)
    assert {asset.name for asset in found.items} == refs


async def test_a_label_of_any_characters(store: EmbeddedInventory, database_url: str, tmp_path: Path) -> None:
    odd = 'größe "50%"\\ _ö'
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"assets": [{"ref": "service:shop/odd", "labels": {"sp ace.x": odd, "app": "x"}}]}))
    engine = open_engine(database_url)
    await import_into(engine, read_files([file]), Import("ada", "test"), lambda *_: None)
    await engine.dispose()
    for filters in ({"label.sp ace.x": odd}, {"label.sp ace.x": ["other", odd]}):
        assert [a.name for a in (await store.find_assets(asset_query(None, filters), 5, None)).items] == ["odd"]
    assert (await store.find_assets(asset_query(None, {"label.app": odd}), 5, None)).total == 0


async def test_counts_add_up(inventory: Inventory) -> None:
    groups = await inventory.count_assets(AssetQuery(), "environment")
    assert {group.value for group in groups} == {"production", "staging"}
    assert sum(group.count for group in groups) == (await inventory.find_assets(AssetQuery(), 1, None)).total
    assert [group.count for group in groups] == sorted((group.count for group in groups), reverse=True)


async def test_an_asset_is_found_by_id_ref_and_unique_name(inventory: Inventory) -> None:
    by_ref = await inventory.get_asset(CHECKOUT)
    assert (await inventory.get_asset(by_ref.id)) == by_ref
    assert (await inventory.get_asset("payments-api")).ref == "service:payments/payments-api"
    assert by_ref.attributes["release"] == "v2.4.1"
    assert by_ref.labels == {"app": "checkout", "team": "checkout"}
    assert by_ref.last_seen is not None
    assert by_ref.last_seen.tzinfo is not None


async def test_a_name_of_two_and_of_none_are_told_apart(inventory: Inventory) -> None:
    with pytest.raises(ToolError) as shared:
        await inventory.get_asset("checkout")
    assert shared.value.code is ErrorCode.CONFLICT
    assert set(shared.value.did_you_mean) == {CHECKOUT, "service:shop-staging/checkout"}
    with pytest.raises(ToolError) as missing:
        await inventory.get_asset("payment-apis")
    assert missing.value.code is ErrorCode.NOT_FOUND
    assert "service:payments/payments-api" in missing.value.did_you_mean


async def test_what_checkout_needs(inventory: Inventory) -> None:
    query = TopologyQuery(
        direction=Direction.DEPENDENCIES, depth=4, types=[RelationType.DEPENDS_ON, RelationType.STORES_IN]
    )
    found = await inventory.topology(CHECKOUT, query)
    depths = {node.asset.name: node.depth for node in found.nodes}
    assert depths == {"checkout": 0, "cart": 1, "payments-api": 1, "redis": 2, "ledger": 2, "ledger-postgres": 3}
    assert not found.truncated
    ids = {node.asset.id for node in found.nodes}
    assert all(edge.from_id in ids and edge.to_id in ids for edge in found.edges)


async def test_who_needs_the_ledger(inventory: Inventory) -> None:
    found = await inventory.topology("ledger-postgres", TopologyQuery(direction=Direction.DEPENDENTS, depth=5))
    assert [node.asset.name for node in found.nodes] == [
        "ledger-postgres", "ledger", "payments-api", "checkout", "frontend", "ingress-nginx-controller",
    ]  # fmt: skip


async def test_a_node_limit_keeps_the_nearest_and_says_so(inventory: Inventory) -> None:
    found = await inventory.topology("lab", TopologyQuery(direction=Direction.BOTH, depth=3, nodes_max=5))
    assert found.truncated
    assert len(found.nodes) == 5
    assert [node.depth for node in found.nodes] == [0, 1, 1, 1, 1]


async def test_a_status_is_recorded_once_per_version(inventory: Inventory) -> None:
    before = await inventory.get_asset(CHECKOUT)
    after = await inventory.set_status(before.id, wanted())
    assert (after.status, after.version, after.lifecycle) == (Status.DEGRADED, 2, before.lifecycle)
    assert after.updated_at > before.updated_at
    with pytest.raises(ToolError) as late:
        await inventory.set_status(before.id, wanted("down"))
    assert late.value.code is ErrorCode.PRECONDITION_FAILED
    assert late.value.details["current_version"] == 2
    assert (await inventory.get_asset(CHECKOUT)).status is Status.DEGRADED


async def test_of_many_writers_with_one_version_one_wins(inventory: Inventory) -> None:
    asset = await inventory.get_asset(CHECKOUT)
    writes = [inventory.set_status(asset.id, wanted(value, call_id=value)) for value in ["down", "degraded"] * 4]
    done = await asyncio.gather(*writes, return_exceptions=True)
    lost = [item for item in done if isinstance(item, ToolError)]
    assert len(lost) == 7
    assert all(item.code is ErrorCode.PRECONDITION_FAILED for item in lost)
    assert (await inventory.get_asset(CHECKOUT)).version == 2


async def test_a_write_is_linked_to_its_change_once(inventory: Inventory) -> None:
    asset = await inventory.get_asset(CHECKOUT)
    await inventory.set_status(asset.id, wanted(change_id="CHG0004127", call_id="call-a"))
    await inventory.set_status(asset.id, wanted("down", version=2, change_id="CHG0004127", call_id="call-a"))
    assert (await inventory.get_change("CHG0004127")).tool_call_ids == ["call-a"]


async def test_an_unknown_change_stops_the_write(inventory: Inventory) -> None:
    asset = await inventory.get_asset(CHECKOUT)
    with pytest.raises(ToolError) as refused:
        await inventory.set_status(asset.id, wanted(change_id="CHG0004128"))
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert "CHG0004127" in refused.value.did_you_mean
    assert (await inventory.get_asset(CHECKOUT)).version == 1


async def test_the_rollout_is_among_the_changes_of_the_last_hour(inventory: Inventory, start: datetime) -> None:
    query = ChangeQuery(assets=[CHECKOUT], since=start - timedelta(hours=1), until=start)
    found = await inventory.find_changes(query, 10, None)
    assert [(item.number, item.state) for item in found.items] == [("CHG0004127", ChangeState.REVIEW)]
    rollout = found.items[0]
    assert rollout.asset_refs == [CHECKOUT]
    assert rollout.actual_start == start - timedelta(minutes=20)
    assert found.windows == []


async def test_changes_page_latest_first_and_the_freeze_shows(inventory: Inventory, start: datetime) -> None:
    query = ChangeQuery(since=start - timedelta(days=10), until=start + timedelta(days=10))
    whole = await inventory.find_changes(query, 100, None)
    assert [item.number for item in whole.items] == [
        "CHG0004135", "CHG0004131", "CHG0004127", "CHG0004119", "CHG0004098",
    ]  # fmt: skip
    assert [window.id for window in whole.windows] == ["win-sales-freeze"]
    paged: list[str] = []
    cursor = None
    for _ in range(5):
        page = await inventory.find_changes(query, 1, cursor)
        paged += [item.number for item in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert paged == [item.number for item in whole.items]


async def test_changes_filter_by_state_and_by_no_asset(inventory: Inventory) -> None:
    closed = await inventory.find_changes(ChangeQuery(states=[ChangeState.CLOSED]), 10, None)
    assert {item.number for item in closed.items} == {"CHG0004119", "CHG0004098"}
    assert (await inventory.find_changes(ChangeQuery(assets=[]), 10, None)).total == 0


async def test_a_freeze_covers_production_only(inventory: Inventory, start: datetime) -> None:
    until = start + timedelta(days=3)
    production = await inventory.find_changes(ChangeQuery(assets=[CHECKOUT], since=start, until=until), 1, None)
    staging = await inventory.find_changes(
        ChangeQuery(assets=["service:shop-staging/checkout"], since=start, until=until), 1, None
    )
    assert len(production.windows) == 1
    assert staging.windows == []


async def test_counts_come_with_the_page(inventory: Inventory) -> None:
    for query in (AssetQuery(), asset_query("shop", None), asset_query(None, {"label.team": ["checkout", "platform"]})):
        found = await inventory.find_assets(query, 3, None, ("environment", "kind"))
        for by in ("environment", "kind"):
            assert found.groups[by] == await inventory.count_assets(query, by)
            assert sum(group.count for group in found.groups[by]) == found.total


async def test_a_word_in_any_case_and_half_a_page_of_many(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer whether the matches were remembered or too many for that."""
    few = await inventory.find_assets(asset_query("STAGING", None), 4, None, ("kind",))
    monkeypatch.setattr(asset_store, "_FEW", 2)
    many = await inventory.find_assets(asset_query("staging", None), 4, None, ("kind",))
    assert (few.total, few.items, few.groups) == (many.total, many.items, many.groups)
    assert few.total > 4
    rest = await inventory.find_assets(asset_query("staging", None), 100, many.next_cursor)
    assert rest.total == few.total == 4 + len(rest.items)
