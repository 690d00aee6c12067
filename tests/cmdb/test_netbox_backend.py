"""NetBox behind the inventory's port, asked live: recorded answers of a real one over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import netbox_server  # of this folder, by conftest.py
import pytest
from netbox_server import V2_TOKEN, FakeNetBox

from opsbus import ErrorCode, Executed, ToolError
from opsbus.settings import SettingsError
from opsbus.testing.caller import Caller
from opsbus_cmdb.app import build, open_inventory
from opsbus_cmdb.model import Lifecycle, Status
from opsbus_cmdb.netbox import inventory as live
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.inventory import NetBoxInventory
from opsbus_cmdb.query import AssetQuery, Direction, StatusChange, TopologyQuery, asset_query
from opsbus_cmdb.settings import CmdbSettings


@pytest.fixture
async def fake() -> AsyncIterator[FakeNetBox]:
    async with netbox_server.serving() as served:
        yield served


@pytest.fixture
async def netbox(fake: FakeNetBox) -> AsyncIterator[NetBoxInventory]:
    async with NetBoxInventory(NetBox(fake.url, V2_TOKEN)) as opened:
        yield opened


async def refs(netbox: NetBoxInventory, text: str | None = None, **filters: Any) -> list[str]:
    found = await netbox.find_assets(
        asset_query(text, {name.replace("__", "."): value for name, value in filters.items()}), 200, None
    )
    assert found.total == len(found.items)
    return [asset.ref for asset in found.items]


async def test_everything_the_unhealthy_first_with_counts(netbox: NetBoxInventory, fake: FakeNetBox) -> None:
    fake.page_max = 3
    found = await netbox.find_assets(AssetQuery(), 200, None, ["kind", "status", "environment"])
    assert found.total == sum(len(fake.data[path]) for path in netbox_server.ASSETS)
    statuses = [asset.status for asset in found.items]
    assert statuses == sorted(statuses, key=list(Status).index)
    counted = {group.value: group.count for group in found.groups["kind"]}
    assert counted["device"] == len(fake.data["dcim/devices"])
    assert sum(group.count for group in found.groups["environment"]) == found.total
    first = await netbox.find_assets(AssetQuery(), 5, None)
    assert first.next_cursor
    second = await netbox.find_assets(AssetQuery(), 200, first.next_cursor)
    assert [a.id for a in (*first.items, *second.items)] == [a.id for a in found.items]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"kind": "vm", "status": "down"}, ["vm:dc2/edge-1"]),
        ({"kind": ["vm", "device"], "status": ["down"]}, [
            "device:dc1/core%20switch%202", "device:dc1/host-3", "vm:dc2/edge-1"
        ]),
        ({"status": "maintenance"}, ["vm:prod%20k8s/paused-1"]),
        ({"lifecycle": "retiring"}, ["device:dc1/kvm"]),
        ({"kind": "device", "lifecycle": "active", "status": "unknown"}, ["device:dc1/kvm-new"]),
        ({"kind": "device", "owner_team": "Shop Team", "lifecycle": ["active", "planned"]}, [
            "device:dc1/host-3", "device:dc2/host-1"
        ]),
        ({"name": "HOST-1"}, []),
        ({"name": "host-1"}, ["device:dc1/host-1", "device:dc2/host-1"]),
        ({"name": "core%20switch%202"}, ["device:dc1/core%20switch%202"]),
        ({"namespace": "prod%20k8s", "kind": "vm", "label.role": "server"}, ["vm:prod%20k8s/web-1"]),
        ({"namespace": "dc2"}, ["vm:dc2/edge-1", "device:dc2/host-1"]),
        ({"namespace": "nowhere"}, []),
        ({"ref": ["vm:prod%20k8s/web-1", "site:/dc1"]}, ["vm:prod%20k8s/web-1", "site:/dc1"]),
        ({"environment": "production", "kind": "device"}, ["device:dc1/host-1", "device:dc1/host-2"]),
        ({"criticality": "critical"}, ["device:dc1/host-1"]),
        ({"label.tag/pci": "true"}, ["device:dc1/host-2"]),
        ({"label.site": "dc2"}, ["vm:dc2/edge-1", "device:dc2/host-1"]),
        ({"asset_class": "application", "name": "https"}, ["service:web-1/https"]),
        ({"source": "discovery"}, []),
    ],
)  # fmt: skip
async def test_filters(netbox: NetBoxInventory, filters: dict[str, Any], expected: list[str]) -> None:
    found = await netbox.find_assets(asset_query(None, filters), 200, None)
    assert sorted(asset.ref for asset in found.items) == sorted(expected)


async def test_text(netbox: NetBoxInventory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await refs(netbox, "host-3") == ["device:dc1/host-3", "service:host-3/ssh"]
    assert await refs(netbox, "SN-1") == ["device:dc1/host-1"]  # a serial, which NetBox searches too
    assert await refs(netbox, "host platform", kind="device") == ["device:dc1/host-1", "device:dc1/host-2"]
    assert await refs(netbox, "platform cluster") == ["cluster:dc1/prod%20k8s"]  # an owner, which it does not search
    assert await refs(netbox, "nothing-like-it") == []
    monkeypatch.setattr(live, "SCAN_MAX", 5)  # of too many to read NetBox searches first
    assert await refs(netbox, "SN-1") == ["device:dc1/host-1"]
    assert await refs(netbox, "host dc1") == ["device:dc1/host-3", "device:dc1/host-1", "device:dc1/host-2"]


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"kind": "database"}, "no assets of kind 'database'"),
        ({"label.app": "x"}, "would answer with everything"),
        ({"label.rol": "x"}, "would answer with everything"),
    ],
)
async def test_what_netbox_would_ignore_is_refused(
    netbox: NetBoxInventory, fake: FakeNetBox, filters: dict[str, Any], told: str
) -> None:
    with pytest.raises(ToolError, match=told) as refused:
        await netbox.find_assets(asset_query(None, filters), 10, None)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENTS
    assert refused.value.hint


async def test_a_custom_field_that_is_not_there_is_refused_and_not_asked_for(
    netbox: NetBoxInventory, fake: FakeNetBox
) -> None:
    fake.data["extras/custom-fields"] = [
        item for item in fake.data["extras/custom-fields"] if item["name"] != "environment"
    ]
    with pytest.raises(ToolError, match="no custom field 'environment'"):
        await netbox.find_assets(asset_query(None, {"environment": "production"}), 10, None)
    assert not any("cf_" in asked for asked in fake.asked)


async def test_a_netbox_that_ignores_a_filter_all_the_same_is_not_believed(
    netbox: NetBoxInventory, fake: FakeNetBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.deaf |= {"tenant", "site", "status", "status__n", "name", "tag"}
    # Few are looked through: what does not match is left out.
    assert await refs(netbox, kind="vm", status="maintenance") == ["vm:prod%20k8s/paused-1"]
    monkeypatch.setattr(live, "SCAN_MAX", 3)
    with pytest.raises(ToolError, match="answered dcim/devices with what was not asked for") as lied:
        await netbox.find_assets(asset_query(None, {"kind": "device", "owner_team": "Shop Team"}), 10, None)
    assert lied.value.code is ErrorCode.BACKEND_ERROR


async def test_of_very_many_netbox_makes_the_page_and_the_counts(
    netbox: NetBoxInventory, fake: FakeNetBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await netbox.find_assets(AssetQuery(), 200, None, ["kind", "status"])
    monkeypatch.setattr(live, "SCAN_MAX", 3)
    fake.asked.clear()
    seen: list[Any] = []
    cursor = None
    while True:
        found = await netbox.find_assets(AssetQuery(), 4, cursor, ["kind", "status", "environment"])
        seen += found.items
        assert len(found.items) <= 4
        cursor = found.next_cursor
        if cursor is None:
            break
    assert found.total == whole.total == len(seen)
    assert {a.id for a in seen} == {a.id for a in whole.items}
    statuses = [asset.status for asset in seen]
    assert statuses == sorted(statuses, key=list(Status).index)
    for name in ("kind", "status"):
        assert {g.value: g.count for g in found.groups[name]} == {g.value: g.count for g in whole.groups[name]}
    assert [group.value for group in found.groups["environment"]] == ["(too many to count)"]
    with pytest.raises(ToolError, match="cannot say which") as vague:
        await netbox.find_assets(asset_query("host dc1", {}), 4, None)
    assert vague.value.code is ErrorCode.RESULT_TOO_LARGE
    with pytest.raises(ToolError, match="cursor"):
        await netbox.find_assets(AssetQuery(), 4, "abc")


async def test_one_by_key_ref_and_name(netbox: NetBoxInventory, fake: FakeNetBox) -> None:
    web = await netbox.get_asset("web-1")
    assert (web.ref, web.id) == ("vm:prod%20k8s/web-1", web.external_ids["netbox"])
    assert await netbox.get_asset(web.ref) == await netbox.get_asset(web.id) == web
    assert (await netbox.get_asset("core switch 2")).status is Status.DOWN
    assert (await netbox.get_asset("dc1")).ref == "site:/dc1"
    spare = next(item for item in fake.data["dcim/devices"] if item["name"] is None)
    assert (await netbox.get_asset(f"device:dc1/#{spare['id']}")).lifecycle is Lifecycle.PLANNED
    with pytest.raises(ToolError) as shared:
        await netbox.get_asset("host-1")
    assert (shared.value.code, sorted(shared.value.did_you_mean)) == (
        ErrorCode.CONFLICT, ["device:dc1/host-1", "device:dc2/host-1"]
    )  # fmt: skip
    with pytest.raises(ToolError) as twins:
        await netbox.get_asset("device:dc1/kvm")
    assert all(key.startswith("dcim.device:") for key in twins.value.did_you_mean)
    for unknown in ("web-2", "vm:prod%20k8s/web-2", "dcim.device:4711"):
        with pytest.raises(ToolError) as missing:
            await netbox.get_asset(unknown)
        assert missing.value.code is ErrorCode.NOT_FOUND
    with pytest.raises(ToolError) as near:
        await netbox.get_asset("web-2")
    assert "vm:prod%20k8s/web-1" in near.value.did_you_mean


async def test_topology(netbox: NetBoxInventory, fake: FakeNetBox) -> None:
    async def reached(key: str, direction: Direction, depth: int, **more: Any) -> dict[str, int]:
        found = await netbox.topology(key, TopologyQuery(direction=direction, depth=depth, nodes_max=100, **more))
        ids = {node.asset.id for node in found.nodes}
        assert found.nodes[0].asset.id == found.root
        assert all({edge.from_id, edge.to_id} <= ids for edge in found.edges)
        assert not found.truncated
        return {node.asset.ref: node.depth for node in found.nodes}

    assert await reached("service:web-1/https", Direction.DEPENDENCIES, 5) == {
        "service:web-1/https": 0, "vm:prod%20k8s/web-1": 1, "cluster:dc1/prod%20k8s": 2, "site:/dc1": 3
    }  # fmt: skip
    down = await reached("cluster:dc1/prod%20k8s", Direction.DEPENDENTS, 2)
    assert down == {
        "cluster:dc1/prod%20k8s": 0, "device:dc1/host-1": 1, "device:dc1/host-2": 1, "vm:prod%20k8s/web-1": 1,
        "vm:prod%20k8s/paused-1": 1, "vm:prod%20k8s/db-1": 2, "service:host-2/dns": 2, "service:web-1/https": 2,
    }  # fmt: skip
    site = await reached("site:/dc1", Direction.DEPENDENTS, 5)
    assert site["location:dc1/room-a"] == 1
    assert site["device:dc1/host-1"] == 2  # it stands in the room
    assert site["device:dc1/host-3"] == 3
    assert not any(ref.startswith(("device:dc2", "site:/dc2")) for ref in site)
    assert (await reached("device:dc1/chassis-1", Direction.DEPENDENTS, 1)) == {
        "device:dc1/chassis-1": 0, "device:dc1/blade-1": 1
    }  # fmt: skip
    both = await netbox.topology("device:dc1/host-1", TopologyQuery(direction=Direction.BOTH, depth=5, nodes_max=3))
    assert (len(both.nodes), both.truncated) == (3, True)
    part = await netbox.topology("device:dc1/host-2", TopologyQuery(direction=Direction.DEPENDENCIES, depth=1))
    assert {edge.redundancy for edge in part.edges if edge.type == "part_of"} == {"active_active"}


async def test_writes_and_the_past_are_refused(netbox: NetBoxInventory) -> None:
    change = StatusChange(field="status", value="down", expected_version=1, reason="x", actor="ada")
    with pytest.raises(ToolError, match="not written to NetBox") as refused:
        await netbox.set_status("dcim.device:1", change)
    assert (refused.value.code, refused.value.executed) == (ErrorCode.PRECONDITION_FAILED, Executed.NO)
    for ask in (
        netbox.find_assets(asset_query(None, None, as_of=(await netbox.get_asset("web-1")).created_at), 1, None),
        netbox.topology("web-1", TopologyQuery(as_of=(await netbox.get_asset("web-1")).created_at)),
    ):
        with pytest.raises(ToolError, match="knows only what is"):
            await ask


async def test_the_tools_over_it(run_worker: Any, caller: Caller, fake: FakeNetBox) -> None:
    async with run_worker(build(), netbox_url=fake.url, netbox_token=V2_TOKEN):

        async def call(tool: str, **arguments: Any) -> Any:
            return (await caller.call("cmdb", tool, arguments)).structured

        many = await call("query_assets")
        assert (many["match"], many["source"]) == ("many", f"netbox ({fake.url})")
        one = await call("query_assets", filters={"ref": "device:dc1/host-2"})
        assert one["match"] == "one"
        assert {item["relation"] for item in one["neighbours"]} == {"part_of", "depends_on", "runs"}
        mine = await call("who_owns", target="device:dc1/host-1")
        assert (mine["owner_team"], mine["contacts"]["contact"]) == ("Platform", "Ada Lovelace (ada@example.com)")
        dns = await call("who_owns", target="service:host-2/dns")
        assert (dns["owner_team"], dns["inherited_from"]) == ("Platform", "device:dc1/host-2")
        assert dns["contacts"]["on_call"].startswith("Platform on call")
        hit = await call("get_impact", asset="device:dc1/host-1")
        levels = {row["ref"]: row["level"] for row in hit["items"]}
        assert levels["vm:prod%20k8s/db-1"] == "outage"
        assert levels["cluster:dc1/prod%20k8s"] == "degraded"  # it has another host
        whole = await call("get_service_topology", service="cluster:dc1/prod%20k8s", direction="dependents")
        assert "device:dc1/host-1" in {item["ref"] for item in whole["items"]}
        changes = await call("get_change_records")
        assert "NetBox keeps no change records" in changes["warnings"][0]
        free = (await caller.call("cmdb", "check_change_conflicts", {
            "assets": ["web-1"], "start": "now+1h", "end": "now+2h"
        })).error  # fmt: skip
        assert free.code is ErrorCode.PRECONDITION_FAILED
        assert "is not known" in free.message
        write = (await caller.call("cmdb", "update_asset_status", {
            "id": "web-1", "status": "down", "reason": "gone"
        })).error  # fmt: skip
        written = (await caller.call("cmdb", "update_asset_status", {
            "id": "web-1", "status": "down", "reason": "gone", "confirm": write.details["confirm"]
        })).error if write.code is ErrorCode.CONFIRMATION_REQUIRED else write  # fmt: skip
        assert written.code is ErrorCode.PRECONDITION_FAILED
        past = (await caller.call("cmdb", "query_assets", {"as_of": "now-1h"})).error
        assert past.code is ErrorCode.INVALID_ARGUMENTS
        drift = await call("detect_drift", service="service:host-2/dns")
        assert any("keeps no facts of Kubernetes" in warning for warning in drift["warnings"])
        assert not fake.written


async def test_settings_choose_it_and_refuse_two(fake: FakeNetBox, tmp_path: Any, monkeypatch: Any) -> None:
    token = tmp_path / "token"
    token.write_text(f"{V2_TOKEN}\n")
    monkeypatch.setenv("NETBOX_TOKEN_FILE", str(token))
    monkeypatch.delenv("NETBOX_TOKEN", raising=False)
    async for opened in open_inventory(CmdbSettings(netbox_url=fake.url)):
        assert (await opened.get_asset("web-1")).kind == "vm"
    with pytest.raises(ValueError, match="name two CMDBs"):
        CmdbSettings(netbox_url=fake.url, url="http://x")
    with pytest.raises(ValueError, match=r"https://cmdb\.example"):
        CmdbSettings(netbox_url="netbox")
    token.write_text("")
    with pytest.raises(SettingsError, match="is empty"):
        async for _ in open_inventory(CmdbSettings(netbox_url=fake.url)):
            pass
