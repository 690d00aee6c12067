"""A backup holds everything, byte for byte, and goes back into an empty platform alone."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from opsbus.backup.folder import MANIFEST
from opsbus.cli import app
from opsbus.database import open_engine
from opsbus.keys import publish_key
from opsbus.provision import provision
from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.store import AuditStore
from opsbus_audit.tables import event as audit_event

EVENTS = 2_000


@pytest.fixture
def empty(tmp_path: Path) -> Any:
    """A second server, with nothing on it."""
    other = Bus(tmp_path / "other")
    other.start()
    yield other
    other.stop()


@pytest.fixture
async def other_database(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> str:
    """An empty store of the other kind: a dump fits both."""
    if database_url.startswith("postgresql"):
        return f"sqlite:///{tmp_path}/restored.sqlite3"
    return await request.getfixturevalue("postgres").database()


def command(bus: Bus, url: str, *arguments: str) -> Any:
    environment = {
        "NATS_URL": bus.url,
        "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner")),
        "OPSBUS_AUDIT_DATABASE_URL": url,
        "OPSBUS_CMDB_DATABASE_URL": "",
        "DATABASE_URL": "",
    }
    return CliRunner().invoke(app, list(arguments), env=environment, catch_exceptions=True)


async def filled(bus: Bus, run_worker: Any, url: str) -> None:
    js = await bus.jetstream()
    for number in range(EVENTS):
        data = {"stage": "completed", "call": f"{number:032x}", "actor": "ada", "tool": "k8s_get_pods"}
        event = {
            "specversion": "1.0", "id": f"e{number}", "source": "/opsbus/edge/edge-1",
            "type": "opsbus.audit.v1.completed", "time": "2026-11-21T00:00:00Z", "data": data,
        }  # fmt: skip
        # Large ones too, so that the snapshot has many chunks and does not compress to nothing.
        event["data"]["details"] = {"noise": os.urandom(400).hex()}
        await js.publish_async(
            "audit.edge.completed", json.dumps(event).encode(), headers={"Nats-Msg-Id": f"e{number}"}
        )
    await js.publish_async_completed()
    keys = await js.key_value("APIKEYS")
    await keys.put("a1b2c3d4e5f6", b"first")
    await keys.put("a1b2c3d4e5f6", b"second")
    for number in range(6):
        await js.publish(f"$O.BLOBS.C.demo.large.{number}", os.urandom(120_000))
    async with run_worker(build(), database_url=url):
        store = AuditStore(url)
        await reached(store, await life(bus), EVENTS)
        await store.close()


async def reached(store: AuditStore, stream: str, sequence: int) -> None:
    async with asyncio.timeout(60):
        while await store.last_sequence(stream) < sequence:
            await asyncio.sleep(0.05)


async def life(bus: Bus) -> str:
    created = (await (await bus.jetstream()).stream_info("AUDIT")).created
    assert created is not None
    return f"AUDIT@{created.strftime('%Y%m%dT%H%M%S.%fZ')}"


async def messages(bus: Bus, stream: str) -> list[Any]:
    js = await bus.jetstream()
    state = (await js.stream_info(stream)).state
    found = [await js.get_msg(stream, number) for number in range(state.first_seq or 1, state.last_seq + 1)]
    return [(m.seq, m.subject, m.time, m.data, m.headers) for m in found]


async def rows(url: str) -> list[Any]:
    engine = open_engine(url)
    async with engine.connect() as connection:
        found = (await connection.execute(select(audit_event).order_by(audit_event.c.sequence))).all()
    await engine.dispose()
    return [tuple(row) for row in found]


async def test_everything_is_there_again(
    bus: Bus, empty: Bus, run_worker: Any, tmp_path: Path, database_url: str, other_database: str
) -> None:
    folder = tmp_path / "backup"
    await filled(bus, run_worker, database_url)
    made = await in_thread(command, bus, database_url, "backup", str(folder))
    assert made.exit_code == 0, made.output
    assert f"{EVENTS:,} messages" in made.output
    other = other_database
    taken = await in_thread(command, empty, other, "restore", str(folder))
    assert taken.exit_code == 0, taken.output
    for stream in ("AUDIT", "KV_APIKEYS", "KV_KEYS", "OBJ_BLOBS"):
        before = await messages(bus, stream)
        assert before
        assert await messages(empty, stream) == before
    assert await rows(other) == await rows(database_url)
    consumer = await (await empty.jetstream()).consumer_info("AUDIT", "audit-store")
    assert consumer.num_pending == 0
    assert len((folder / "streams" / "AUDIT.snapshot").read_bytes()) > 400_000
    assert (folder / MANIFEST).stat().st_mode & 0o077 == 0
    # What was restored goes on; a start provisions what is not backed up: who is alive.
    steps = await provision(await empty.jetstream())
    assert [step.name for step in steps if step.action != "unchanged"] == ["CATALOG"]
    await publish_key(await empty.jetstream(), empty.signer.public())
    await (await empty.jetstream()).publish("audit.edge.completed", b"{}")
    async with run_worker(build(), database_url=other, nats_url=empty.url, nats_seed_file=empty.credentials("audit")):
        store = AuditStore(other)
        await reached(store, await life(empty), EVENTS + 1)
        await store.close()
    assert len(await rows(other)) == EVENTS + 1
    await empty.close()


async def test_a_platform_that_is_not_empty_is_left_alone(bus: Bus, empty: Bus, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    assert (await in_thread(command, bus, "", "backup", str(folder), "--no-stores")).exit_code == 0
    await empty.reset()
    js = await empty.jetstream()
    await js.publish("audit.edge.completed", b"precious")
    refused = await in_thread(command, empty, "", "restore", str(folder), "--no-stores")
    assert refused.exit_code == 1
    assert "AUDIT holds 1 messages: this platform is not empty" in refused.output
    assert (await js.get_msg("AUDIT", 1)).data == b"precious"
    await empty.close()


async def test_a_damaged_backup_is_refused_before_anything_is_touched(bus: Bus, empty: Bus, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    assert (await in_thread(command, bus, "", "backup", str(folder), "--no-stores")).exit_code == 0
    part = folder / "streams" / "KV_KEYS.snapshot"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    refused = await in_thread(command, empty, "", "restore", str(folder), "--no-stores")
    assert refused.exit_code == 1
    assert "is not what was backed up" in refused.output
    assert await (await empty.jetstream()).streams_info() == []
    part.unlink()
    assert "cannot be read" in (await in_thread(command, empty, "", "restore", str(folder))).output
    (folder / MANIFEST).write_text("{}")
    assert "no manifest" in (await in_thread(command, empty, "", "restore", str(folder))).output
    await empty.close()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
async def test_a_backup_cannot_point_outside_of_itself(bus: Bus, empty: Bus, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "backup"
    assert (await in_thread(command, bus, "", "backup", str(folder), "--no-stores")).exit_code == 0
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["streams"][0]["file"] = name
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "outside of it" in (await in_thread(command, empty, "", "restore", str(folder))).output
    await empty.close()


async def test_a_backup_is_not_written_over_anything(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    refused = await in_thread(command, bus, "", "backup", str(tmp_path))
    assert refused.exit_code == 1
    assert "is not empty" in refused.output


async def test_without_a_bus_it_says_so(bus: Bus, tmp_path: Path) -> None:
    none = CliRunner().invoke(app, ["backup", str(tmp_path / "b"), "--data", str(tmp_path)], env={"NATS_URL": ""})
    assert none.exit_code == 1
    assert "no platform runs" in none.output


async def in_thread(run: Any, *arguments: Any) -> Any:
    """A command runs a loop of its own."""
    return await asyncio.to_thread(run, *arguments)
