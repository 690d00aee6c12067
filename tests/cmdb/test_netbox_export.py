"""What is ours into a NetBox of recorded answers: the plan, what is done of it, and what never is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import netbox_server  # of this folder, by conftest.py
import pytest
from aiohttp import web
from netbox_server import V2_TOKEN, FakeNetBox
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from opsbus.database import open_engine
from opsbus_cmdb.cli import app
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.commands import Source, import_from
from opsbus_cmdb.netbox.export import Done, Plan, carry_out, plan
from opsbus_cmdb.query import StatusChange
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import
from opsbus_cmdb.transfer.commands import import_into
from opsbus_cmdb.transfer.read import read_files

ORDER = Import(actor="ada", reason="test")


@pytest.fixture
async def fake() -> AsyncIterator[FakeNetBox]:
    async with netbox_server.serving() as served:
        yield served


@pytest.fixture
async def store(fake: FakeNetBox, tmp_path: Path) -> AsyncIterator[EmbeddedInventory]:
    opened = EmbeddedInventory(f"sqlite:///{tmp_path}/cmdb.sqlite3")
    await opened.create()
    yield opened
    await opened.close()


@pytest.fixture
async def engine(store: EmbeddedInventory, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    opened = open_engine(f"sqlite:///{tmp_path}/cmdb.sqlite3", foreign_keys=True)
    yield opened
    await opened.dispose()


async def taken(engine: AsyncEngine, fake: FakeNetBox) -> Any:
    netbox = NetBox(fake.url, V2_TOKEN)
    return (await import_from(engine, netbox, ORDER, lambda *_: None, Source(fake.url)))[2]


async def recorded(engine: AsyncEngine, folder: Path, text: str) -> None:
    file = folder / "ours.json"
    file.write_text(text)
    await import_into(engine, read_files([file]), ORDER, lambda *_: None)


async def planned(engine: AsyncEngine, fake: FakeNetBox, *, create: bool = False) -> Plan:
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        return await plan(engine, netbox, lambda *_: None, create=create)


async def done(engine: AsyncEngine, fake: FakeNetBox, made: Plan) -> Done:
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        return await carry_out(engine, netbox, made, "test by ada", lambda *_: None)


async def with_changes(engine: AsyncEngine, fake: FakeNetBox, folder: Path) -> Plan:
    """A plan of several steps."""
    await taken(engine, fake)
    refs = ("device:dc1/sw-1", "device:dc1/host-3", "vm:dc2/edge-1", "device:dc1/kvm-new")
    lines = ", ".join(f'{{"ref": "{ref}", "environment": "production"}}' for ref in refs)
    await recorded(engine, folder, f'{{"assets": [{lines}]}}')
    made = await planned(engine, fake)
    assert len(made.steps) == len(refs)
    return made


def of(fake: FakeNetBox, path: str, name: str) -> dict[str, Any]:
    return next(item for item in fake.data[path] if item["name"] == name)


async def test_what_came_from_netbox_and_was_not_changed_is_nothing_to_export(
    engine: AsyncEngine, fake: FakeNetBox
) -> None:
    await taken(engine, fake)
    made = await planned(engine, fake)
    assert (made.steps, made.linked) == ([], {})
    assert made.same == len(fake.data["dcim/devices"]) + len(fake.data["virtualization/virtual-machines"])
    assert not fake.written


async def test_what_was_changed_there_is_not_set_back(engine: AsyncEngine, fake: FakeNetBox, tmp_path: Path) -> None:
    await taken(engine, fake)
    first, second = of(fake, "dcim/devices", "host-1"), of(fake, "dcim/devices", "host-2")
    first["custom_fields"]["environment"] = "staging"
    first["custom_fields"]["criticality"] = None
    first |= {"tenant": None, "description": "", "status": {"value": "planned", "label": "Planned"}}
    second["custom_fields"]["environment"] = "lab"
    await recorded(engine, tmp_path, '{"assets": [{"ref": "device:dc1/host-2", "environment": "test"}]}')
    made = await planned(engine, fake)
    assert made.steps == []
    assert made.skipped["fields changed there and here (environment): import first, or decide by hand"] == 2
    assert made.skipped["fields changed there and here (criticality): import first, or decide by hand"] == 1


async def test_ours_goes_where_netbox_has_a_place_for_it(
    engine: AsyncEngine, store: EmbeddedInventory, fake: FakeNetBox, tmp_path: Path
) -> None:
    await taken(engine, fake)
    host = await store.get_asset("device:dc1/host-3")
    await store.set_status(
        host.id,
        StatusChange(field="lifecycle", value="retiring", expected_version=host.version, reason="old", actor="ada"),
    )
    text = (
        '{"assets": [{"ref": "device:dc1/host-3", "environment": "staging", "description": "ours",'
        ' "status": "degraded", "criticality": "low"},'
        ' {"ref": "device:dc1/host-1", "description": "not NetBox\'s words", "owner_team": "Shop Team"}]}'
    )
    await recorded(engine, tmp_path, text)
    made = await planned(engine, fake)
    (step,) = made.steps
    assert step.ref == "device:dc1/host-3"
    assert step.body == {
        "custom_fields": {"environment": "staging", "criticality": "low"},
        "description": "ours",
        "status": "decommissioning",
    }
    assert "status: failed → decommissioning" in step.told
    result = await done(engine, fake, made)
    assert (result.changed, result.made, result.failed) == (1, 0, [])
    (method, where, body) = fake.written[-1]
    assert (method, where) == ("PATCH", f"dcim/devices/{of(fake, 'dcim/devices', 'host-3')['id']}")
    assert body["changelog_message"] == "test by ada"
    assert (await planned(engine, fake)).steps == []
    before = await store.get_asset(host.id)
    assert "dcim.device" in before.external_ids["netbox"]
    # host-1, whose words are NetBox's; and host-3, of which is noted that NetBox now says it too.
    assert (await taken(engine, fake)).changed == {"assets": 2}
    assert (await taken(engine, fake)).changed == {}
    assert (await store.get_asset(host.id)).status == before.status == "degraded"


async def test_what_netbox_changed_meanwhile_is_left_and_told(
    engine: AsyncEngine, fake: FakeNetBox, tmp_path: Path
) -> None:
    made = await with_changes(engine, fake, tmp_path)
    first, second = made.steps[:2]
    # The one is seen to have changed before it is written, the other in between.
    item = fake.of(first.kind.path, first.id or 0)
    item["last_updated"] = "2027-01-01T00:00:00Z"

    def between(request: web.Request) -> None:
        if request.method == "PATCH":
            fake.of(second.kind.path, second.id or 0)["last_updated"] = "2027-01-01T00:00:00Z"

    fake.faults = [lambda _: None, lambda _: None, between]
    result = await done(engine, fake, made)
    assert len(result.failed) == 2
    assert all("meanwhile" in line for line in result.failed)
    assert result.changed == len(made.steps) - 2


async def test_machines_that_it_does_not_have_are_made_only_when_asked_for(
    engine: AsyncEngine, store: EmbeddedInventory, fake: FakeNetBox, tmp_path: Path
) -> None:
    await taken(engine, fake)
    cluster, host = "cluster:dc1/prod%20k8s", "device:dc1/host-1"
    text = f"""{{"assets": [
        {{"ref": "vm:prod%20k8s/new-1", "environment": "production", "owner_team": "Platform", "lifecycle": "planned"}},
        {{"ref": "vm:prod%20k8s/pinned-1"}}, {{"ref": "vm:x/nowhere-1"}}, {{"ref": "device:dc1/box-1"}},
        {{"ref": "vm:elsewhere/web-1"}}],
      "relationships": [
        {{"from": "vm:prod%20k8s/new-1", "to": "{cluster}", "type": "runs_on"}},
        {{"from": "vm:prod%20k8s/pinned-1", "to": "{host}", "type": "runs_on"}},
        {{"from": "vm:elsewhere/web-1", "to": "{cluster}", "type": "runs_on"}}]}}"""
    await recorded(engine, tmp_path, text)
    made = await planned(engine, fake)
    assert made.steps == []
    assert sum(made.skipped.values()) == 4
    assert any("--create makes them" in why for why in made.skipped)
    made = await planned(engine, fake, create=True)
    assert [step.ref for step in made.steps] == ["vm:prod%20k8s/new-1", "vm:prod%20k8s/pinned-1"]
    assert made.linked.keys() == {"vm:elsewhere/web-1"}  # there already, under another ref of ours
    result = await done(engine, fake, made)
    assert (result.made, result.failed) == (2, [])
    new = of(fake, "virtualization/virtual-machines", "new-1")
    assert (new["status"]["value"], new["cluster"]["name"]) == ("planned", "prod k8s")
    assert new["custom_fields"]["environment"] == "production"
    ours = await store.get_asset("vm:prod%20k8s/new-1")
    assert ours.external_ids["netbox"] == f"virtualization.virtualmachine:{new['id']}"
    again = await planned(engine, fake, create=True)
    assert ([step for step in again.steps if step.id is None], again.linked) == ([], {})


async def test_a_token_that_may_not_write_stops_at_the_first(
    engine: AsyncEngine, fake: FakeNetBox, tmp_path: Path
) -> None:
    made = await with_changes(engine, fake, tmp_path)
    refused = web.Response  # a fresh one for each request

    def forbid(request: web.Request) -> web.Response | None:
        text = '{"detail": "You do not have permission to perform this action."}'
        return refused(status=403, text=text, content_type="application/json") if request.method != "GET" else None

    fake.faults = [forbid] * 99
    result = await done(engine, fake, made)
    assert result.changed == 0
    assert "permission" in result.failed[0]
    assert result.failed[-1] == f"{len(made.steps) - 1} more were not tried"


async def test_at_a_terminal_the_plan_comes_first(engine: AsyncEngine, fake: FakeNetBox, tmp_path: Path) -> None:
    await with_changes(engine, fake, tmp_path)

    async def command(*words: str) -> Any:
        given = ["export", "--netbox", fake.url, *words, "--database-url", f"sqlite:///{tmp_path}/cmdb.sqlite3"]
        return await asyncio.to_thread(CliRunner().invoke, app, given, env={"NETBOX_TOKEN": V2_TOKEN})

    shown = await command()
    assert shown.exit_code == 0, shown.output
    assert "environment: (empty) → production" in shown.output
    assert "nothing was written: --yes does it" in shown.output
    assert not fake.written
    carried = await command("--yes")
    assert carried.exit_code == 0, carried.output
    assert f"{len(fake.written)} changed" in carried.output
    assert "nothing to do" in (await command()).output
    both = await command("file.json")
    assert "two exports" in both.output
