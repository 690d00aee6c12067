"""Cycles, hubs, budgets, starts: what a small estate does not show."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opsbus.database import database_url as checked_url
from opsbus.settings import SettingsError, load
from opsbus.testing.caller import Caller
from opsbus_cmdb import seed
from opsbus_cmdb.app import build
from opsbus_cmdb.lifecycle import LIFECYCLE, OPERATIONAL, allowed, field_of, reversible
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Relationship, RelationType, Status
from opsbus_cmdb.query import AssetQuery, Direction, TopologyQuery
from opsbus_cmdb.seed import Estate
from opsbus_cmdb.settings import CmdbSettings
from opsbus_cmdb.store import EmbeddedInventory

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def asset(name: str, **more: Any) -> Asset:
    fields = {
        "id": f"ast-{name}", "ref": f"service:big/{name}", "kind": "service", "namespace": "big", "name": name,
        "lifecycle": Lifecycle.ACTIVE, "status": Status.OPERATIONAL, "criticality": Criticality.LOW, "version": 1,
        "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Asset.model_validate(fields | more)


def needs(source: str, target: str) -> Relationship:
    return Relationship(
        id=f"{source}>{target}", from_id=f"ast-{source}", to_id=f"ast-{target}", type=RelationType.DEPENDS_ON
    )


async def filled(url: str, estate: Estate) -> EmbeddedInventory:
    store = EmbeddedInventory(url)
    await store.create()
    await store.load(estate)
    return store


async def test_a_cycle_ends_where_it_began(database_url: str) -> None:
    ring = Estate(
        assets=[asset(name) for name in "abcd"],
        relationships=[needs("a", "b"), needs("b", "c"), needs("c", "a"), needs("c", "d"), needs("d", "d")],
    )
    store = await filled(database_url, ring)
    found = await store.topology("a", TopologyQuery(direction=Direction.BOTH, depth=5))
    assert {node.asset.name: node.depth for node in found.nodes} == {"a": 0, "b": 1, "c": 1, "d": 3}
    assert len(found.edges) == 5
    assert not found.truncated
    await store.close()


async def test_a_hub_is_cut_and_says_so(database_url: str) -> None:
    names = [f"n{number:04}" for number in range(1_500)]
    hub = Estate(
        assets=[asset("hub"), *(asset(name) for name in names)], relationships=[needs(n, "hub") for n in names]
    )
    store = await filled(database_url, hub)
    found = await store.topology("hub", TopologyQuery(direction=Direction.DEPENDENTS, depth=5, nodes_max=20))
    assert found.truncated
    assert len(found.nodes) == 20
    assert len(found.edges) == 19
    await store.close()


async def test_big_answers_stay_within_the_budget_and_lose_nothing(
    run_worker: Any, caller: Caller, tmp_path: Path
) -> None:
    names = [f"n{number:03}" for number in range(300)]
    long = {"description": "d" * 300, "labels": {f"label-{i}": "v" * 40 for i in range(20)}}
    estate = Estate(
        assets=[asset("hub", **long), *(asset(name, **long) for name in names)],
        relationships=[needs(name, "hub") for name in names],
    )
    url = f"sqlite:///{tmp_path}/big.sqlite3"
    await (await filled(url, estate)).close()
    async with run_worker(build(), database_url=url):
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(100):
            arguments: dict[str, Any] = {"fields": ["labels", "description"], "limit": 200}
            reply = await caller.call("cmdb", "query_assets", arguments | ({"cursor": cursor} if cursor else {}))
            assert len(reply.body) < 60_000
            seen += [item["ref"] for item in reply.structured["items"]]
            cursor = reply.structured["page"]["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 301
        wide = await caller.call("cmdb", "get_service_topology", {"service": "hub", "node_limit": 200})
        assert wide.structured["page"]["truncated"]
        assert wide.structured["items"][0]["ref"] == "service:big/hub"
        assert any("left out" in warning for warning in wide.structured["warnings"])


async def test_starting_again_keeps_the_data_and_seeds_once(database_url: str) -> None:
    first = await filled(database_url, seed.shop(NOW))
    assert not await first.load(seed.shop(NOW))
    total = (await first.find_assets(AssetQuery(), 1, None)).total
    await first.close()
    again = EmbeddedInventory(database_url)
    await again.create()
    assert (await again.find_assets(AssetQuery(), 1, None)).total == total
    await again.close()


async def test_several_workers_may_start_at_once(database_url: str) -> None:
    stores = [EmbeddedInventory(database_url) for _ in range(4)]
    await asyncio.gather(*(store.create() for store in stores))
    loaded = await asyncio.gather(*(store.load(seed.shop(NOW)) for store in stores))
    assert sum(loaded) == 1
    for store in stores:
        await store.close()


def test_every_transition_leads_to_a_state_there_is() -> None:
    for status in Status:
        assert set(OPERATIONAL[status]) <= set(Status) - {Status.UNKNOWN, status}
    for stage in Lifecycle:
        assert set(LIFECYCLE[stage]) <= set(Lifecycle) - {stage}
    assert not set(Status) & set(Lifecycle)
    assert field_of("retired") == "lifecycle"
    assert field_of("down") == "status"


def test_no_way_back_from_retired_or_to_unknown() -> None:
    assert not reversible(asset("x", lifecycle=Lifecycle.RETIRING), "retired")
    assert reversible(asset("x", lifecycle=Lifecycle.RETIRING), "active")
    assert not reversible(asset("x", status=Status.UNKNOWN), "down")
    assert allowed(asset("x", lifecycle=Lifecycle.RETIRED), "status") == []


def test_the_estate_holds_together() -> None:
    estate = seed.shop(NOW)
    ids = {item.id for item in estate.assets}
    refs = {item.ref for item in estate.assets}
    assert len(ids) == len(refs) == len(estate.assets)
    assert all(edge.from_id in ids and edge.to_id in ids for edge in estate.relationships)
    assert all(set(change.asset_refs) <= refs for change in estate.changes)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OPSBUS_CMDB_URL", "cmdb.example", "https://cmdb.example"),
        ("OPSBUS_CMDB_DATABASE_URL", "mysql://root:hunter2@db/x", "sqlite"),
        ("OPSBUS_CMDB_DATABASE_URL", "nonsense", "postgresql://"),
        ("OPSBUS_CMDB_SEED", "shopp", "shop"),
        ("OPSBUS_CMDB_TIMEOUT_S", "0", "timeout_s"),
    ],
)
def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load(CmdbSettings, "cmdb")
    line = str(refused.value)
    assert words in line
    assert "\n" not in line
    assert "hunter2" not in line


def test_the_usual_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMDB_URL", "https://cmdb.example")
    monkeypatch.setenv("CMDB_API_KEY", "k")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@h/d")
    loaded = load(CmdbSettings, "cmdb")
    assert (loaded.url, loaded.api_key.get_secret_value()) == ("https://cmdb.example", "k")
    assert checked_url(loaded.database_url.get_secret_value()).drivername == "postgresql+asyncpg"
    assert "p@h" not in repr(loaded)
    monkeypatch.setenv("OPSBUS_CMDB_URL", "https://other.example")
    assert load(CmdbSettings, "cmdb").url == "https://other.example"


async def test_a_database_that_is_not_there_ends_the_start_in_one_line(run_worker: Any) -> None:
    with pytest.raises(SettingsError, match="OPSBUS_CMDB_DATABASE_URL"):
        async with run_worker(build(), database_url="postgresql://nobody@127.0.0.1:1/none"):
            pass
