"""Against a NetBox that really runs, read only: OPSBUS_TEST_NETBOX_URL, and NETBOX_TOKEN or NETBOX_TOKEN_FILE. Whatever
it holds, a question must find what looking through everything finds."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from opsbus.database import open_engine
from opsbus_cmdb.model import Asset
from opsbus_cmdb.netbox import inventory as live
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.commands import Source, import_from
from opsbus_cmdb.netbox.inventory import NetBoxInventory
from opsbus_cmdb.netbox.token import read_token
from opsbus_cmdb.query import AssetQuery, Direction, TopologyQuery, asset_query
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import, Outcome

URL = os.environ.get("OPSBUS_TEST_NETBOX_URL", "")
pytestmark = [
    pytest.mark.skipif(not URL, reason="OPSBUS_TEST_NETBOX_URL names no NetBox"),
    pytest.mark.timeout(900),  # hundreds of requests
]


@pytest.fixture
async def netbox() -> AsyncIterator[NetBoxInventory]:
    async with NetBoxInventory(NetBox(URL, read_token(), timeout_s=60)) as opened:
        yield opened


async def everything(netbox: NetBoxInventory) -> list[Asset]:
    found = await netbox.find_assets(AssetQuery(), 2_000, None)
    assert found.total == len(found.items), "it holds more than this test looks through"
    return found.items


async def test_every_filter_finds_what_looking_through_everything_finds(netbox: NetBoxInventory) -> None:
    assets = await everything(netbox)
    for name in ("kind", "namespace", "name", "lifecycle", "status", "owner_team", "asset_class", "ref", "id"):
        for value in sorted({str(getattr(asset, name)) for asset in assets} - {""})[:12]:
            found = await netbox.find_assets(asset_query(None, {name: value}), 2_000, None)
            assert {a.id for a in found.items} == {a.id for a in assets if str(getattr(a, name)) == value}, (
                name,
                value,
            )
    for name in sorted({name for asset in assets for name in asset.labels})[:12]:
        values = sorted({asset.labels[name] for asset in assets if name in asset.labels})
        for some in ([values[0]], values):
            found = await netbox.find_assets(asset_query(None, {f"label.{name}": some}), 2_000, None)
            assert {a.id for a in found.items} == {a.id for a in assets if a.labels.get(name) in some}, (name, some)


async def test_its_own_pages_are_the_same_assets_and_counts(
    netbox: NetBoxInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = await everything(netbox)
    monkeypatch.setattr(live, "SCAN_MAX", 0)
    seen: list[Asset] = []
    cursor = None
    while True:
        found = await netbox.find_assets(AssetQuery(), 7, cursor, ["status"])
        seen += found.items
        cursor = found.next_cursor
        if cursor is None:
            break
    assert found.total == len(seen)
    assert {a.id for a in seen} == {a.id for a in assets}
    assert {g.value: g.count for g in found.groups["status"]} == {
        status: n for status in {a.status for a in assets} if (n := sum(a.status is status for a in assets))
    }


async def test_one_by_ref_and_what_is_around_it(netbox: NetBoxInventory) -> None:
    assets = await everything(netbox)
    refs = [asset.ref for asset in assets]
    looked: set[str] = set()
    for asset in [a for a in assets if refs.count(a.ref) == 1][:12]:
        assert (await netbox.get_asset(asset.ref)).id == asset.id
        around = await netbox.topology(asset.id, TopologyQuery(direction=Direction.BOTH, depth=2, nodes_max=500))
        for edge in around.edges:
            if edge.to_id in looked:
                continue
            looked.add(edge.to_id)
            back = await netbox.topology(
                edge.to_id, TopologyQuery(direction=Direction.DEPENDENTS, depth=1, nodes_max=500)
            )
            assert back.truncated or edge.from_id in {node.asset.id for node in back.nodes}, (asset.ref, edge)


async def test_the_same_import_twice_changes_nothing_and_says_what_it_says_live(
    netbox: NetBoxInventory, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/cmdb.sqlite3"
    store = EmbeddedInventory(url)
    await store.create()
    engine = open_engine(url, foreign_keys=True)

    async def once() -> Outcome:
        source = Source(URL, cables=True)
        order = Import("test", "test", prune=True)
        return (await import_from(engine, source.open(), order, lambda *_: None, source))[2]

    first = await once()
    again = await once()
    await engine.dispose()
    assert (again.new, again.changed, again.gone) == ({}, {}, {})
    assert again.same == first.new
    imported = {a.external_ids["netbox"]: a for a in (await store.find_assets(AssetQuery(), 2_000, None)).items}
    for asset in await everything(netbox):
        kept = imported[asset.id]
        assert (kept.status, kept.lifecycle, kept.owner_team) == (asset.status, asset.lifecycle, asset.owner_team)
    await store.close()
