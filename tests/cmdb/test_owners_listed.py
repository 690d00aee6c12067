"""Owners as the CMDB tells them: at its start, soon after one changed, once however many workers there are; bounded."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from opsbus.event_reader import EventReader, Seen
from opsbus.logs import get as get_log
from opsbus.owners import Owned, Owners, OwnersReader
from opsbus.testing.bus import Bus
from opsbus.testing.waiting import until
from opsbus_cmdb import owners_told
from opsbus_cmdb.app import build
from opsbus_cmdb.http_inventory import HttpInventory
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.owners_told import OwnersTold, digest_of, parts_of
from opsbus_cmdb.query import StatusChange
from opsbus_cmdb.seed import Estate, shop
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_contracts.streams import OWNERS_LISTED, reader

WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_told, "GATHER_S", 0.05)


class Heard:
    """Every part that was told, as another service reads it."""

    def __init__(self, client: Any) -> None:
        self.parts: list[Seen] = []
        self.owners = Owners()
        self.reader = EventReader(client, reader("monitoring", OWNERS_LISTED), self._apply)

    def _apply(self, seen: Seen) -> None:
        self.parts.append(seen)
        self.owners.apply(seen)


@pytest.fixture
async def heard(bus: Bus) -> Any:
    listens = Heard(await bus.connect("monitoring"))
    await listens.reader.start()
    assert await listens.reader.ready(WITHIN_S)
    yield listens
    await listens.reader.stop()


async def test_a_worker_tells_owners_and_what_became_of_them(
    bus: Bus, run_worker: Any, heard: Heard, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/cmdb.sqlite3"
    given = {"database_url": url, "seed": "shop", "owners_check_s": 0.05}
    async with run_worker(build(), **given) as first, run_worker(build(), **given):
        await until(lambda: heard.owners.listing, WITHIN_S)
        checkout = heard.owners.of_workload("shop", "checkout")
        assert checkout is not None
        assert checkout.model_dump() == {
            "ref": "service:shop/checkout", "kind": "service", "namespace": "shop", "name": "checkout",
            "service": "checkout", "environment": "production", "owner_team": "checkout",
            "contact": "checkout-on-call", "criticality": "critical",
        }  # fmt: skip
        assert heard.owners.of_host("lab-worker-1:9100").owner_team == "platform"  # type: ignore[union-attr]
        assert heard.owners.of_workload("shop", "gift-cards") is None  # planned: nothing of it can fire
        await asyncio.sleep(0.5)
        assert len(heard.parts) == 1, "two workers tell a listing once"
        listed = len(heard.owners)
        asset = await first.state.get_asset("service:shop/recommendations")

        async def set_to(field: str, value: str, version: int) -> None:
            change = StatusChange(field=field, value=value, expected_version=version, reason="x", actor="ann")
            await first.state.set_status(asset.id, change)

        await set_to("status", "degraded", asset.version)  # is no matter of owners
        await asyncio.sleep(0.5)
        assert len(heard.parts) == 1
        await set_to("lifecycle", "retired", asset.version + 1)
        await until(lambda: len(heard.owners) == listed - 1, WITHIN_S)
        await asyncio.sleep(0.3)
        assert len(heard.parts) <= 3  # each of the two may have told it, never more
        told = len(heard.parts)
    async with run_worker(build(), **given):
        await asyncio.sleep(0.5)
    assert len(heard.parts) == told, "a worker that starts again tells nothing that the stream has"
    assert bus.errors == []


async def test_it_can_be_left_out(run_worker: Any, heard: Heard, tmp_path: Path) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/c.db", seed="shop", tell_owners=False):
        await asyncio.sleep(0.5)
    assert heard.parts == []


async def test_every_backend_lists_the_same(inventory: Inventory, start: datetime) -> None:
    owned = await inventory.owned(1_000)
    wanted = {
        asset.ref for asset in shop(start).assets
        if asset.owner_team and asset.kind != "cluster" and asset.lifecycle.value not in ("planned", "retired")
    }  # fmt: skip
    assert {one.ref for one in owned} == wanted
    assert [one.criticality for one in owned][:3] == ["critical"] * 3
    assert await inventory.owned(2) == owned[:2]


async def test_a_mark_changes_with_the_assets(store: EmbeddedInventory, http_inventory: HttpInventory) -> None:
    before = await store.owners_mark()
    assert await store.owners_mark() == before
    asset = await store.get_asset("service:shop/cart")
    change = StatusChange(field="status", value="down", expected_version=asset.version, reason="x", actor="ann")
    await store.set_status(asset.id, change)
    assert await store.owners_mark() != before
    assert await http_inventory.owners_mark() is None


class Listed:
    """An inventory with so many owners, and how often it was read."""

    source = "test"

    def __init__(self, count: int) -> None:
        self.owners = [owned(number) for number in range(count)]
        self.mark = "1"
        self.reads = 0

    async def owned(self, most: int) -> list[Owned]:
        self.reads += 1
        return self.owners[:most]

    async def owners_mark(self) -> str | None:
        return self.mark


def owned(number: int, team: str = "team") -> Owned:
    name = f"service-{number:05}"
    return Owned(ref=f"service:big/{name}", kind="service", namespace="big", name=name, owner_team=team)


async def test_many_owners_go_in_parts_up_to_a_bound(bus: Bus, heard: Heard, monkeypatch: Any) -> None:
    monkeypatch.setattr(owners_told, "MOST", 1_050)
    many = Listed(1_500)
    client = await bus.connect("cmdb")
    told = OwnersTold(client, many, get_log("cmdb"))  # type: ignore[arg-type]
    assert await told.look()
    await until(lambda: len(heard.owners) == 1_050, WITHIN_S)
    assert [len(part.event.data["owners"]) for part in heard.parts] == [200] * 5 + [50]
    assert not await told.look()
    many.mark = "2"
    assert not await told.look(), "nothing changed about the owners"
    assert many.reads == 2
    many.owners[0] = owned(0, "others")
    many.mark = "3"
    assert await told.look()
    await until(lambda: heard.owners.of_workload("big", "service-00000").owner_team == "others", WITHIN_S)  # type: ignore[union-attr]
    many.owners[0] = owned(0)
    many.mark = "4"
    assert await told.look(), "as it was before is news too"
    await until(lambda: heard.owners.of_workload("big", "service-00000").owner_team == "team", WITHIN_S)  # type: ignore[union-attr]
    told._every_s = 0.0
    before = len(heard.parts)
    assert await told.look(), "an old listing is told again"
    await until(lambda: len(heard.parts) == before + 6, WITHIN_S)


async def test_without_a_stream_it_goes_on(bus: Bus, run_worker: Any, caller: Any, tmp_path: Path) -> None:
    await (await bus.jetstream()).delete_stream("EVENTS")
    given = {"database_url": f"sqlite:///{tmp_path}/c.db", "seed": "shop", "owners_check_s": 0.05, "learn": False}
    async with run_worker(build(), **given):
        reply = await caller.call("cmdb", "who_owns", {"target": "service:shop/cart"})
    assert reply.structured["owner_team"] == "checkout"


def test_parts_fit_into_messages() -> None:
    assert parts_of([]) == [[]]
    much = {"contact": "\U0001f600" * 200, "ref": "r" * 400}
    large = [owned(number).model_copy(update=much) for number in range(500)]
    parts = parts_of(large)
    assert sum(map(len, parts)) == 500
    assert all(len(part) <= 200 for part in parts)
    assert digest_of(large) == digest_of(list(large)) != digest_of(large[1:])


async def test_a_large_estate_is_read_in_time(tmp_path: Path, start: datetime, capsys: Any) -> None:
    """The bench's estate has 100 000; here some of it, in pages."""
    base = next(asset for asset in shop(start).assets if asset.ref == "service:shop/cart")
    assets = [
        base.model_copy(
            update={"id": f"ast-{n}", "ref": f"service:big/s{n:05}", "namespace": "big", "name": f"s{n:05}"}
        )
        for n in range(2_000)
    ]
    store = EmbeddedInventory(f"sqlite:///{tmp_path}/big.sqlite3")
    await store.create()
    await store.load(Estate(assets=assets))
    began = asyncio.get_running_loop().time()
    assert len(await store.owned(20_001)) == 2_000
    took = asyncio.get_running_loop().time() - began
    with capsys.disabled():
        print(f"\n  2 000 owners read in {took:.2f} s")
    await store.close()
    assert took < 20


async def test_the_kit_reads_what_is_told(bus: Bus) -> None:
    told = OwnersTold(await bus.connect("cmdb"), Listed(3), get_log("cmdb"))  # type: ignore[arg-type]
    assert await told.look()
    read = OwnersReader(await bus.connect("k8s"), "k8s")
    await read.reader.start()
    assert await read.reader.ready(WITHIN_S)
    assert len(read.known) == 3
    await read.reader.stop()
