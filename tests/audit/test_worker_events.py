"""Workers that join and leave are in the record, each once, whatever becomes of the audit worker meanwhile."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opsbus import Context, Worker, logs, tasks
from opsbus.platform_audit import NotRecordedError
from opsbus.provision import provision
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_audit.app import build
from opsbus_audit.store import AuditStore
from opsbus_audit.workers.known import KnownWorkers, Seen
from opsbus_audit.workers.watch import WorkerWatch, read_manifest
from opsbus_contracts import AuditEvent

GRACE_S = 1.0


def demo(version: str = "1.0.0") -> Worker:
    worker = Worker("demo", version=version)

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> str:
        return "seen"

    return worker


async def recorded(bus: Bus) -> list[AuditEvent]:
    """The platform's worker events, in order."""
    js = await bus.jetstream()
    last = (await js.stream_info("AUDIT")).state.last_seq
    found = []
    for sequence in range(1, last + 1):
        message = await js.get_msg("AUDIT", sequence)
        if message.subject in ("audit.audit.worker_joined", "audit.audit.worker_left"):
            found.append(AuditEvent.model_validate_json(message.data or b""))
    return found


def told(events: list[AuditEvent], service: str = "") -> list[tuple[str, str, str]]:
    return [
        (str(event.data.stage).removeprefix("worker_"), event.data.instance, (event.data.details or {}).get("why", ""))
        for event in events
        if not service or event.data.service == service
    ]


async def until(bus: Bus, count: int, service: str = "") -> list[tuple[str, str, str]]:
    async with asyncio.timeout(60):
        while len(found := told(await recorded(bus), service)) < count:
            await asyncio.sleep(0.05)
    return found


async def put(
    bus: Bus, instance: str, *, started: str = "2026-11-20T10:00:00Z", ttl: str = "never", **more: Any
) -> None:
    """A manifest as the service ``demo`` puts it. By default it stays: none expires because a machine is busy."""
    js = await bus.jetstream("demo")
    manifest = {"service": "demo", "instance": instance, "version": "1", "started_at": started, "tools": [{}]} | more
    body = json.dumps(manifest).encode()
    await js.publish(f"$KV.CATALOG.demo.{instance}", body, headers={"Nats-TTL": ttl})


async def drop(bus: Bus, instance: str) -> None:
    js = await bus.jetstream("demo")
    await js.publish(f"$KV.CATALOG.demo.{instance}", b"", headers={"KV-Operation": "DEL"})


async def watched(bus: Bus) -> None:
    """Until the watch stands: what comes from here on is seen, however short it stays."""
    await put(bus, "first")
    await until(bus, 1)


@asynccontextmanager
async def watching(bus: Bus, store: AuditStore, grace_s: float = GRACE_S) -> AsyncIterator[None]:
    """The audit worker's watch alone."""
    client = await bus.connect("audit")
    known = KnownWorkers(store.engine, client.jetstream(timeout=3.0))
    task = asyncio.create_task(WorkerWatch(client, known, logs.get("audit"), grace_s).run())
    try:
        yield
    finally:
        await tasks.end(task)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[AuditStore]:
    made = AuditStore(database_url)
    await made.create()
    yield made
    await made.close()


@pytest.fixture
async def one_store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    made = AuditStore(f"sqlite:///{tmp_path}/audit.sqlite3")
    await made.create()
    yield made
    await made.close()


async def test_a_worker_that_starts_and_drains_is_in_the_record(
    bus: Bus, run_worker: RunWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSBUS_AUDIT_RECORD_WORKERS", "true")
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/audit.sqlite3") as audit:
        async with run_worker(demo("3.1.0")) as worker:
            await until(bus, 1, "demo")
        found = await until(bus, 2, "demo")
    assert found == [("joined", worker.instance, ""), ("left", worker.instance, "drained")]
    assert told(await recorded(bus), "audit")[0] == ("joined", audit.instance, "")
    joined, left = [event for event in await recorded(bus) if event.data.service == "demo"]
    assert (joined.data.actor, joined.data.version, joined.data.target) == (
        "demo", "3.1.0", f"worker/{worker.instance}",
    )  # fmt: skip
    assert joined.data.details is not None
    assert joined.data.details["tools"] == 1
    assert datetime.fromisoformat(joined.data.details["started_at"]) <= datetime.now(UTC)
    assert left.data.version == "3.1.0"
    assert left.data.details == {"why": "drained", **joined.data.details}
    # Numbered at the source, so that a gap is visible.
    seqs = [event.data.seq for event in await recorded(bus) if event.source == joined.source]
    assert seqs == list(range(1, len(seqs) + 1))
    assert joined.id.split("-")[-1] not in left.id


async def test_a_heartbeat_is_no_event(bus: Bus, store: AuditStore) -> None:
    await put(bus, "demo-1")
    async with watching(bus, store):
        for _ in range(5):
            await put(bus, "demo-1")
        await put(bus, "demo-1", tools=[{}, {}])  # another offer of the same life
        await put(bus, "demo-2")
        found = await until(bus, 2)
    assert found == [("joined", "demo-1", ""), ("joined", "demo-2", "")]


async def test_a_restart_of_the_audit_worker_invents_nothing_and_misses_nothing(bus: Bus, store: AuditStore) -> None:
    await put(bus, "demo-1")
    await put(bus, "demo-2")
    async with watching(bus, store):
        await until(bus, 2)
    await drop(bus, "demo-2")
    await put(bus, "demo-1")
    await put(bus, "demo-3")
    keep = asyncio.create_task(_beat(bus, "demo-1", "demo-3"))
    try:
        async with watching(bus, store):
            found = await until(bus, 4)
            await put(bus, "demo-4")
            found = await until(bus, 5)
    finally:
        await tasks.end(keep)
    assert sorted(found[:2]) == [("joined", "demo-1", ""), ("joined", "demo-2", "")]
    # Whose deletion is still in the bucket went by itself; what nobody can tell any more is `unseen`.
    assert sorted(found[2:4]) in (
        [("joined", "demo-3", ""), ("left", "demo-2", "drained")],
        [("joined", "demo-3", ""), ("left", "demo-2", "unseen")],
    )
    assert found[4] == ("joined", "demo-4", "")


async def _beat(bus: Bus, *instances: str) -> None:
    while True:
        for instance in instances:
            await put(bus, instance)
        await asyncio.sleep(0.5)


async def test_whose_manifest_expires_has_left_after_a_while(bus: Bus, one_store: AuditStore) -> None:
    async with watching(bus, one_store):
        await watched(bus)
        await put(bus, "demo-1", ttl="1s")
        found = await until(bus, 3)
    assert found == [("joined", "first", ""), ("joined", "demo-1", ""), ("left", "demo-1", "expired")]


async def test_who_comes_back_in_time_never_left(bus: Bus, one_store: AuditStore) -> None:
    async with watching(bus, one_store, grace_s=600.0):
        await watched(bus)
        await put(bus, "demo-1", ttl="1s")
        js = await bus.jetstream()
        async with asyncio.timeout(60):
            while (await js.get_last_msg("KV_CATALOG", "$KV.CATALOG.demo.demo-1")).data:
                await asyncio.sleep(0.05)
        await put(bus, "demo-1")
        await drop(bus, "demo-1")
        found = await until(bus, 3)
    assert found == [("joined", "first", ""), ("joined", "demo-1", ""), ("left", "demo-1", "drained")]


async def test_a_new_life_under_the_same_name_is_told_apart(bus: Bus, store: AuditStore) -> None:
    async with watching(bus, store):
        await put(bus, "demo-1")
        await until(bus, 1)
        await put(bus, "demo-1", started="2026-11-20T11:00:00Z")
        found = await until(bus, 3)
    assert found == [("joined", "demo-1", ""), ("left", "demo-1", "replaced"), ("joined", "demo-1", "")]


async def test_two_audit_workers_record_it_once(bus: Bus, store: AuditStore) -> None:
    async with watching(bus, store), watching(bus, store):
        for number in range(5):
            await put(bus, f"demo-{number}")
        await until(bus, 5)
        for number in range(5):
            await drop(bus, f"demo-{number}")
        await until(bus, 10)
        await put(bus, "demo-last")
        found = await until(bus, 11)
    for number in range(5):
        assert [what for what, instance, _ in found if instance == f"demo-{number}"] == ["joined", "left"]


async def test_a_restart_of_the_bus_is_no_leaving(bus: Bus, one_store: AuditStore) -> None:
    async with watching(bus, one_store, grace_s=12.0):
        await put(bus, "demo-1")
        await until(bus, 1)
        await asyncio.to_thread(bus.restart)
        await put(bus, "demo-1")
        await put(bus, "demo-2")
        assert await until(bus, 2) == [("joined", "demo-1", ""), ("joined", "demo-2", "")]


async def test_what_the_stream_did_not_take_is_told_later_once(bus: Bus, store: AuditStore) -> None:
    js = await bus.jetstream()
    await js.delete_stream("AUDIT")
    at_first = KnownWorkers(store.engine, await bus.jetstream("audit"))
    seen = Seen("demo", "demo-1", "1", "2026-11-20T10:00:00Z", 3)
    for _ in range(2):
        with pytest.raises(NotRecordedError):
            await at_first.joined(seen)
    assert await at_first.present() == {"demo.demo-1": "2026-11-20T10:00:00Z"}
    await provision(js)
    # The process died; the next one has only what is stored.
    after = KnownWorkers(store.engine, await bus.jetstream("audit"))
    await after.publish()
    await after.joined(seen)
    await at_first.joined(seen)
    gone = Seen("demo", "demo-1", started=seen.started)
    await after.left(gone, "drained")
    await at_first.left(gone, "drained")
    assert told(await recorded(bus)) == [("joined", "demo-1", ""), ("left", "demo-1", "drained")]
    assert await after.present() == {}


async def test_a_repeat_of_what_the_stream_has_is_dropped(bus: Bus, one_store: AuditStore) -> None:
    """The process died between the stream's acknowledgement and the note of it."""
    known = KnownWorkers(one_store.engine, await bus.jetstream("audit"))
    await known.joined(Seen("demo", "demo-1", "1", "then", 3))
    (event,) = await recorded(bus)
    from sqlalchemy import update

    from opsbus_audit.tables import worker

    async with one_store.engine.begin() as connection:
        await connection.execute(update(worker).values(event=event.model_dump_json().encode()))
    await KnownWorkers(one_store.engine, await bus.jetstream("audit")).publish()
    assert len(await recorded(bus)) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"version": 7, "started_at": [], "tools": "many"}']
)
async def test_a_manifest_that_is_none_joins_as_what_it_is(bus: Bus, one_store: AuditStore, body: bytes) -> None:
    seen = read_manifest("demo.demo-1", body)
    assert (seen.service, seen.instance, seen.version, seen.started, seen.tools) == ("demo", "demo-1", "", "", 0)
    assert bool(seen.problem) is not body.startswith(b'{"')
    if body != b"{":
        return
    async with watching(bus, one_store):
        js = await bus.jetstream("demo")
        await js.publish("$KV.CATALOG.demo.demo-1", body, headers={"Nats-TTL": "never"})
        await until(bus, 1)
    (event,) = await recorded(bus)
    assert event.data.details is not None
    assert "JSON" in event.data.details["problem"]


async def test_an_audit_worker_that_is_behind_invents_nothing(bus: Bus, store: AuditStore) -> None:
    slow = KnownWorkers(store.engine, await bus.jetstream("audit"))
    quick = KnownWorkers(store.engine, await bus.jetstream("audit"))
    at = time.time_ns() // 1_000
    first, gone = (
        Seen("demo", "demo-1", "1", "first", 3, at_us=at),
        Seen("demo", "demo-1", started="first", at_us=at + 1),
    )
    second = Seen("demo", "demo-1", "2", "second", 3, at_us=at + 2)
    await quick.joined(first)
    await quick.left(gone, "drained")
    await slow.joined(first)
    await quick.joined(second)
    await slow.joined(first)
    await slow.left(gone, "drained")
    await slow.joined(second)
    assert told(await recorded(bus)) == [
        ("joined", "demo-1", ""),
        ("left", "demo-1", "drained"),
        ("joined", "demo-1", ""),
    ]
    assert await slow.present() == {"demo.demo-1": "second"}
    # The same life again, after it had been away: no old news.
    again = Seen("demo", "demo-1", started="second", at_us=at + 3)
    await quick.left(again, "expired")
    await slow.joined(replace(second, at_us=at + 4))
    assert told(await recorded(bus))[3:] == [("left", "demo-1", "expired"), ("joined", "demo-1", "")]
