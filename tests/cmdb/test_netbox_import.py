"""Importing NetBox: recorded answers of a real one, served page by page, into SQLite."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import netbox_server  # of this folder, by conftest.py
import pytest
from click.testing import Result
from netbox_server import V1_TOKEN, V2_TOKEN, FakeNetBox
from typer.testing import CliRunner

from opsbus import ErrorCode, ToolError
from opsbus.database import open_engine
from opsbus_cmdb.cli import app
from opsbus_cmdb.model import Criticality, Lifecycle, RelationType, Status
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.commands import Source, import_from, skipped
from opsbus_cmdb.query import AssetQuery, Direction, StatusChange, TopologyQuery
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import, Outcome

ORDER = Import(actor="ada", reason="test")


@pytest.fixture
async def fake() -> AsyncIterator[FakeNetBox]:
    async with netbox_server.serving() as served:
        yield served


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[EmbeddedInventory]:
    store = EmbeddedInventory(url_of(tmp_path))
    await store.create()
    yield store
    await store.close()


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/cmdb.sqlite3"


async def taken(
    fake: FakeNetBox, folder: Path, order: Import = ORDER, *, dry_run: bool = False, **source: Any
) -> tuple[Outcome, list[str]]:
    engine = open_engine(url_of(folder), foreign_keys=True)
    try:
        pulled, merged, outcome = await import_from(
            engine, NetBox(fake.url, V2_TOKEN), order, lambda *_: None, Source(fake.url, **source), dry_run=dry_run
        )
        return outcome, skipped(pulled, merged, prune=order.prune)
    finally:
        await engine.dispose()


async def needs(store: EmbeddedInventory, ref: str) -> set[tuple[str, str, str]]:
    found = await store.topology(ref, TopologyQuery(direction=Direction.DEPENDENCIES, depth=1))
    refs = {node.asset.id: node.asset.ref for node in found.nodes}
    return {(e.type.value, refs[e.to_id], e.redundancy) for e in found.edges if e.from_id == found.root}


async def test_everything_comes_as_assets_and_relationships(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    fake.page_max = 2  # many pages
    outcome, told = await taken(fake, tmp_path)
    assert outcome.new["assets"] == sum(len(fake.data[path]) for path in netbox_server.ASSETS)
    host = await empty.get_asset("device:dc1/host-1")
    assert (host.lifecycle, host.status, host.criticality) == (
        Lifecycle.ACTIVE, Status.OPERATIONAL, Criticality.CRITICAL
    )  # fmt: skip
    assert (host.owner_team, host.environment, host.source) == ("Platform", "production", "netbox")
    assert host.external_ids == {"netbox": f"dcim.device:{found(fake, 'dcim/devices', 'host-1')['id']}"}
    assert host.attributes["contact"] == "Ada Lovelace (ada@example.com)"
    assert host.attributes["netbox"]["serial"] == "SN-1"
    assert host.labels["role"] == "server"
    assert host.labels["tag/production"] == "true"
    other = await empty.get_asset("device:dc1/host-2")
    assert other.attributes["on_call"] == "Platform on call (oncall@platform.example, +49 69 1234)"  # its tenant's
    assert other.attributes["contact"].startswith("Platform desk")
    web = await empty.get_asset("vm:prod%20k8s/web-1")
    assert (web.owner_team, web.criticality, web.attributes["netbox"]["primary_ip"]) == (
        "Shop Team", Criticality.HIGH, "192.0.2.10/24"
    )  # fmt: skip
    dns = await empty.get_asset("service:host-2/dns")
    assert dns.attributes["netbox"]["listens"] == ["tcp/53", "udp/53"]
    assert (dns.status, dns.asset_class) == (Status.UNKNOWN, "application")
    spare = found(fake, "dcim/devices", None)
    assert (await empty.get_asset(f"device:dc1/#{spare['id']}")).lifecycle is Lifecycle.PLANNED
    assert (await empty.get_asset("device:dc1/core%20switch%202")).status is Status.DOWN
    assert await needs(empty, web.ref) == {("runs_on", "cluster:dc1/prod%20k8s", "none")}
    assert await needs(empty, "vm:prod%20k8s/db-1") == {("runs_on", host.ref, "none")}
    assert await needs(empty, host.ref) == {
        ("part_of", "cluster:dc1/prod%20k8s", "active_active"), ("depends_on", "location:dc1/room-a", "none")
    }  # fmt: skip
    assert await needs(empty, "location:dc1/cage-1") == {("depends_on", "location:dc1/room-a", "none")}
    assert await needs(empty, "location:dc1/room-a") == {("depends_on", "site:/dc1", "none")}
    assert await needs(empty, "cluster:dc1/prod%20k8s") == {("depends_on", "site:/dc1", "none")}
    assert await needs(empty, "cluster:room-a/edge") == {("depends_on", "location:dc1/room-a", "none")}
    assert await needs(empty, "device:dc1/blade-1") >= {("runs_on", "device:dc1/chassis-1", "none")}
    assert await needs(empty, "service:web-1/https") == {("runs_on", web.ref, "none")}
    assert any("1 services on what is no device" in line for line in told)
    again, _ = await taken(fake, tmp_path)
    assert (again.new, again.changed, again.gone) == ({}, {}, {})


def found(fake: FakeNetBox, path: str, name: str | None) -> dict[str, Any]:
    return next(item for item in fake.data[path] if item["name"] == name)


@pytest.mark.parametrize(
    ("status", "lifecycle", "operational"),
    [
        ("planned", Lifecycle.PLANNED, Status.UNKNOWN), ("inventory", Lifecycle.PLANNED, Status.UNKNOWN),
        ("staged", Lifecycle.DEPLOYING, Status.UNKNOWN), ("active", Lifecycle.ACTIVE, Status.OPERATIONAL),
        ("offline", Lifecycle.ACTIVE, Status.DOWN), ("failed", Lifecycle.ACTIVE, Status.DOWN),
        ("decommissioning", Lifecycle.RETIRING, Status.UNKNOWN), ("maintenance", Lifecycle.ACTIVE, Status.UNKNOWN),
    ],
)  # fmt: skip
def test_a_status_is_two_fields(status: str, lifecycle: Lifecycle, operational: Status) -> None:
    from opsbus_cmdb.netbox.mapping import state_of
    from opsbus_cmdb.netbox.schema import Choice

    assert state_of(Choice(value=status)) == (lifecycle, operational)


async def test_what_was_recorded_here_since_is_not_taken_back(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    await taken(fake, tmp_path)
    host = await empty.get_asset("device:dc1/host-1")
    change = StatusChange(field="status", value="degraded", expected_version=host.version, reason="slow", actor="ada")
    await empty.set_status(host.id, change)
    outcome, _ = await taken(fake, tmp_path)
    assert outcome.changed == {}
    assert (await empty.get_asset(host.id)).status is Status.DEGRADED
    # Until NetBox says something new.
    found(fake, "dcim/devices", "host-1")["status"] = {"value": "failed", "label": "Failed"}
    outcome, _ = await taken(fake, tmp_path)
    assert outcome.changed == {"assets": 1}
    assert (await empty.get_asset(host.id)).status is Status.DOWN


async def test_a_rename_keeps_the_asset_and_a_new_tag_its_own_labels(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    await taken(fake, tmp_path)
    before = await empty.get_asset("device:dc1/host-1")
    host = found(fake, "dcim/devices", "host-1")
    host["name"] = "host-one"
    host["tags"] = [{"id": 9, "name": "New", "slug": "new"}]
    outcome, told = await taken(fake, tmp_path)
    assert (outcome.new, outcome.changed) == ({}, {"assets": 1})
    after = await empty.get_asset(before.id)
    assert (after.ref, after.attributes["netbox"]["name"]) == (before.ref, "host-one")
    assert "tag/new" in after.labels
    assert "tag/production" not in after.labels
    assert any("renamed in NetBox" in line for line in told)
    assert (await taken(fake, tmp_path))[0].changed == {}


async def test_two_of_one_name_are_two_assets(fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path) -> None:
    await taken(fake, tmp_path)
    first, second = sorted(item["id"] for item in fake.data["dcim/devices"] if item["name"] == "kvm")
    assert (await empty.get_asset("device:dc1/kvm")).external_ids["netbox"] == f"dcim.device:{first}"
    other = await empty.get_asset(f"device:dc1/kvm~{second}")
    assert (other.external_ids["netbox"], other.lifecycle) == (f"dcim.device:{second}", Lifecycle.RETIRING)
    # The first leaves: the second stays what it is.
    fake.data["dcim/devices"] = [item for item in fake.data["dcim/devices"] if item["id"] != first]
    outcome, told = await taken(fake, tmp_path)
    assert (outcome.new, outcome.changed) == ({}, {})
    assert any("1 recorded from this NetBox are no longer in it: left as they are" in line for line in told)


async def test_what_left_netbox_is_retired_by_prune_and_may_come_back(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    await taken(fake, tmp_path)
    host = found(fake, "dcim/devices", "host-3")
    fake.data["dcim/devices"].remove(host)
    services, fake.data["ipam/services"] = (
        fake.data["ipam/services"],
        [item for item in fake.data["ipam/services"] if item["parent_object_id"] != host["id"]],
    )
    prune = Import(actor="ada", reason="test", prune=True)
    outcome, told = await taken(fake, tmp_path, prune)
    assert outcome.changed == {"assets": 2}
    assert outcome.gone["relationships"] == 2
    assert any("retired" in line for line in told)
    assert (await empty.get_asset("device:dc1/host-3")).lifecycle is Lifecycle.RETIRED
    assert (await taken(fake, tmp_path, prune))[0].changed == {}
    fake.data["dcim/devices"].append(host)
    fake.data["ipam/services"] = services
    outcome, _ = await taken(fake, tmp_path)
    back = await empty.get_asset("device:dc1/host-3")
    assert (back.lifecycle, back.status) == (Lifecycle.ACTIVE, Status.DOWN)


async def test_an_asset_that_was_there_before_is_taken_over_and_keeps_what_it_knew(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    from opsbus_cmdb.transfer.commands import import_into
    from opsbus_cmdb.transfer.read import read_files

    file = tmp_path / "a.json"
    file.write_text(
        '{"assets": [{"ref": "device:dc1/host-1", "source": "discovery", "attributes": {"rpm": 7},'
        ' "labels": {"app": "x"}, "external_ids": {"ilo": "42"}, "lifecycle": "active", "status": "maintenance"}]}'
    )
    engine = open_engine(url_of(tmp_path), foreign_keys=True)
    await import_into(engine, read_files([file]), ORDER, lambda *_: None)
    await engine.dispose()
    outcome, _ = await taken(fake, tmp_path)
    assert outcome.changed == {"assets": 1}
    host = await empty.get_asset("device:dc1/host-1")
    assert (host.source, host.attributes["rpm"], host.labels["app"]) == ("discovery", 7, "x")
    assert host.external_ids.keys() == {"ilo", "netbox"}
    assert host.owner_team == "Platform"


async def test_only_what_changed_since(fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path) -> None:
    await taken(fake, tmp_path)
    now = datetime.now(UTC)
    for path in netbox_server.ASSETS:
        for item in fake.data[path]:
            item["last_updated"] = (now - timedelta(days=9)).isoformat()
    web = found(fake, "virtualization/virtual-machines", "web-1")
    web |= {"status": {"value": "offline", "label": "Offline"}, "last_updated": now.isoformat()}
    host = found(fake, "dcim/devices", "host-1")
    host |= {"description": "changed", "last_updated": now.isoformat()}
    fake.asked.clear()
    outcome, _ = await taken(fake, tmp_path, since="now-1d")
    assert outcome.changed == {"assets": 2}, outcome
    assert (await empty.get_asset("vm:prod%20k8s/web-1")).status is Status.DOWN
    assert ("part_of", "cluster:dc1/prod%20k8s", "active_active") in await needs(empty, "device:dc1/host-1")
    assert sum("last_updated__gte" in asked for asked in fake.asked) == 3
    with pytest.raises(ValueError, match="--prune needs everything"):
        await taken(fake, tmp_path, Import("ada", "t", prune=True), since="now-1d")
    fake.deaf.add("last_updated__gte")
    with pytest.raises(ToolError, match="ignores last_updated__gte"):
        await taken(fake, tmp_path, since="now-1d")


async def test_cables_say_who_needs_whom_where_one_end_runs_something(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    _, told = await taken(fake, tmp_path, cables=True)
    assert ("depends_on", "device:dc1/sw-1", "none") in await needs(empty, "device:dc1/host-1")
    assert await needs(empty, "device:dc1/host-2") >= {
        ("depends_on", "device:dc1/sw-1", "active_active"),
        ("depends_on", "device:dc1/core%20switch%202", "active_active"),
    }  # fmt: skip
    assert any("1 pairs of cabled devices" in line for line in told)
    assert (await taken(fake, tmp_path, cables=True))[0].new == {}


async def test_a_dry_run_writes_nothing(fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path) -> None:
    outcome, _ = await taken(fake, tmp_path, dry_run=True)
    assert outcome.new["assets"] > 20
    assert (await empty.find_assets(AssetQuery(), 1, None)).total == 0


async def test_what_the_token_may_not_read_is_left_out_and_said(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    fake.forbidden |= {"ipam/services", "tenancy/contacts"}
    _, told = await taken(fake, tmp_path)
    assert "left out       services: the token may not read them" in told
    assert any("contacts were left out" in line for line in told)
    assert (await empty.find_assets(AssetQuery(filters={"kind": ["service"]}), 1, None)).total == 0
    with pytest.raises(ValueError, match="the token may not read services"):
        await taken(fake, tmp_path, Import("ada", "t", prune=True))
    fake.forbidden |= set(netbox_server.PATHS)
    with pytest.raises(ToolError, match="lets this token read nothing") as nothing:
        await taken(fake, tmp_path)
    assert nothing.value.code is ErrorCode.BACKEND_ERROR


@pytest.mark.parametrize("version", ["4.0", "4.2"])
async def test_older_versions_say_it_in_other_fields(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path, version: str
) -> None:
    """4.3 gave services a parent, 4.2 clusters a scope, 4.7 services port mappings and selections a label."""
    fake.version = f"{version}.1"
    for service in fake.data["ipam/services"]:
        kind, parent = service.pop("parent_object_type"), service.pop("parent")
        service.pop("parent_object_id")
        service["device"] = parent if kind == "dcim.device" else None
        service["virtual_machine"] = parent if kind.startswith("virtualization") else None
        mappings = service.pop("port_mappings")
        service |= {"protocol": {"value": "tcp", "label": "TCP"}, "ports": [int(m.split("/")[1]) for m in mappings[:1]]}
    for path in ("dcim/devices", "virtualization/virtual-machines"):
        for item in fake.data[path]:
            fields = item["custom_fields"]
            fields["criticality"] = (fields.get("criticality") or {}).get("value")
    for cluster in fake.data["virtualization/clusters"] if version == "4.0" else []:
        type_, scope = cluster.pop("scope_type"), cluster.pop("scope")
        cluster.pop("scope_id")
        cluster["site"] = scope if type_ == "dcim.site" else None
    await taken(fake, tmp_path)
    assert await needs(empty, "service:web-1/https") == {("runs_on", "vm:prod%20k8s/web-1", "none")}
    assert (await empty.get_asset("service:web-1/https")).attributes["netbox"]["listens"] == ["tcp/443"]
    assert await needs(empty, "cluster:dc1/prod%20k8s") == {("depends_on", "site:/dc1", "none")}
    assert (await empty.get_asset("device:dc1/host-1")).criticality is Criticality.CRITICAL


async def command(*words: str, folder: Path, token: str = V1_TOKEN) -> Result:
    """In this process: the command's own event loop needs a thread of its own."""
    environment = {"NETBOX_TOKEN": token, "NETBOX_TOKEN_FILE": ""}
    given = [*words, "--database-url", url_of(folder)]
    return await asyncio.to_thread(CliRunner().invoke, app, given, env=environment)


async def test_at_a_terminal(fake: FakeNetBox, tmp_path: Path) -> None:
    done = await command("import", "--netbox", fake.url, "--dry-run", folder=tmp_path)
    assert done.exit_code == 0, done.output
    assert "NetBox 4.7.3 at 127.0.0.1" in done.output
    assert "dry run: nothing was written" in done.output
    wrong = await command("import", "--netbox", fake.url, folder=tmp_path, token="x" * 40)
    assert wrong.exit_code == 1
    assert "Invalid v1 token" in wrong.output
    assert "NETBOX_TOKEN" in wrong.output
    assert "x" * 40 not in wrong.output
    file = tmp_path / "token"
    file.write_text(f"{V2_TOKEN}\n")
    by_file = await command(
        "import", "--netbox", fake.url, "--token-file", str(file), "--dry-run", folder=tmp_path, token="x" * 40
    )
    assert by_file.exit_code == 0, by_file.output
    assert "two imports" in (await command("import", "a.csv", "--netbox", fake.url, folder=tmp_path)).output
    assert "nothing to import" in (await command("import", folder=tmp_path)).output
    assert "go with --netbox" in (await command("import", "a.csv", "--cables", folder=tmp_path)).output
    for address in "ftp://x", "https://user:secret@x":
        bad = await command("import", "--netbox", address, folder=tmp_path)
        assert bad.exit_code == 1
        assert "NetBox's address" in bad.output
        assert "secret" not in bad.output


async def test_relationships_are_of_the_types_we_have(
    fake: FakeNetBox, empty: EmbeddedInventory, tmp_path: Path
) -> None:
    await taken(fake, tmp_path)
    everything = await empty.topology(
        "site:/dc1", TopologyQuery(direction=Direction.DEPENDENTS, depth=5, nodes_max=500)
    )
    assert {edge.type for edge in everything.edges} == {
        RelationType.RUNS_ON, RelationType.PART_OF, RelationType.DEPENDS_ON
    }  # fmt: skip
    assert {edge.source for edge in everything.edges} == {"netbox"}
