"""The consumer on a real stream: everything is stored, once, in order, whatever it is and whatever fails."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus.settings import SettingsError
from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.record import COLUMNS, Stored, row
from opsbus_audit.search import Question, search
from opsbus_audit.store import AuditStore
from opsbus_audit.tables import event as table
from opsbus_contracts.streams import AUDIT_STORE

FIXTURES = Path(__file__).parents[2] / "contracts" / "fixtures" / "v1"


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[AsyncEngine]:
    store = AuditStore(url)
    await store.create()
    yield store.engine
    await store.close()


async def stored(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(table).order_by(table.c.stored_ns, table.c.sequence))).all())


async def until(engine: AsyncEngine, count: int, timeout_s: float = 60) -> list[Any]:
    """The rows, as soon as there are ``count``."""
    async with asyncio.timeout(timeout_s):
        while True:
            async with engine.connect() as connection:
                found = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            if found >= count:
                return await stored(engine)
            await asyncio.sleep(0.05)


async def redelivered_soon(bus: Bus, after_s: float = 2.0) -> None:
    """What was sent to nobody, or to a process that died, comes again after seconds and not after half a minute."""
    js = await bus.jetstream()
    config = (await js.consumer_info(AUDIT_STORE.stream, AUDIT_STORE.name)).config
    config.ack_wait = after_s
    await js.add_consumer(AUDIT_STORE.stream, config)


async def until_metrics(running: Any, *lines: str, timeout_s: float = 60) -> None:
    """Until /metrics of the worker has all these lines."""
    async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{running.http_url}/metrics") as response:
                text = await response.text()
            if all(line in text.splitlines() for line in lines):
                return
            await asyncio.sleep(0.05)


async def test_events_are_stored_as_they_are(bus: Bus, run_worker: Any, edge: Any, database_url: str) -> None:
    written = await edge.write(
        "failed", tool="k8s_scale_deployment", service="k8s", mutating=True, reason="traffic", error="conflict",
        executed="no", arguments={"name": "checkout \u0000 \u00fc"}, roles=["operator"],
    )  # fmt: skip
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        (row,) = await until(engine, 1)
    js = await bus.jetstream()
    original = await js.get_msg("AUDIT", 1)
    assert row.payload == original.data
    assert json.loads(row.headers)["Nats-Msg-Id"] == written.id
    assert (row.sequence, row.subject, row.emitter) == (1, "audit.edge.failed", "edge")
    assert row.stream.startswith("AUDIT@20")
    assert abs(row.stored_ns // 1_000 - row.time_us) < 60_000_000
    assert (row.event_id, row.call, row.actor) == (written.id, written.data.call, "ada")
    assert (row.tool, row.service, row.stage, row.outcome) == ("k8s_scale_deployment", "k8s", "failed", "failure")
    assert (row.error, row.executed, row.mutating, row.unreadable) == ("conflict", "no", True, False)


ODD: list[tuple[str, bytes, dict[str, str]]] = [
    ("audit.edge.completed", b"", {}),
    ("audit.edge.completed", b"\x00\xff\xfe", {}),
    ("audit.edge.completed", b"{", {}),
    ("audit.edge.completed", b"[1]", {}),
    ("audit.edge.completed", b'{"data": {"stage": "completed"}}', {}),
    ("audit.edge.completed", b"\xed\xa0\x80 half a surrogate", {}),
    ("audit.edge.completed", b"x" * 500_000, {}),
    ("audit.edge.completed", b"status of the server?", {"Status": "503", "Description": "consumer deleted"}),
    ("audit.edge.completed", b"status of the server?", {"Status": "404"}),
    ("audit.edge.completed", b"status of the server?", {"Status": "100"}),
    ("audit.edge.completed", b"{}", {"X-Odd": "\u00fc\u0001"}),
]


@pytest.mark.parametrize("fixture", ["audit_event-completed.json", "audit_event-key_changed.json", ""])
def test_a_row_has_the_columns_of_the_table_in_their_order(fixture: str) -> None:
    payload = (FIXTURES / fixture).read_bytes() if fixture else b"\xff\x00"
    message = Stored("AUDIT@1", 7, "audit.edge.completed", 1, {}, payload)
    assert tuple(row(message)) == COLUMNS
    assert row(message)["unreadable"] is not bool(fixture)


@pytest.mark.parametrize("provider", ["sqlite", "postgresql"])
async def test_what_cannot_be_read_is_kept_flagged_and_blocks_nothing(
    bus: Bus, run_worker: Any, edge: Any, request: pytest.FixtureRequest, tmp_path: Path, provider: str
) -> None:
    sqlite = f"sqlite:///{tmp_path}/audit.sqlite3"
    url = sqlite if provider == "sqlite" else await request.getfixturevalue("postgres").database()
    # nats-server sends nothing behind a message without a byte: what it took from there on comes with a later request.
    await redelivered_soon(bus)
    for subject, payload, headers in ODD:
        await edge.raw(payload, subject, headers)
    good = await edge.write()
    async with run_worker(build(), database_url=url) as running, reading(url) as engine:
        rows = await until(engine, len(ODD) + 1)
        found = await search(engine, Question(unreadable=True), 100)
        await until_metrics(running, f"opsbus_audit_events_unreadable_total {len(ODD)}.0")
    assert [row.payload for row in rows[:-1]] == [payload for _, payload, _ in ODD]
    assert all(row.unreadable and row.fault for row in rows[:-1])
    assert (rows[-1].event_id, rows[-1].unreadable) == (good.id, False)
    assert len(found.entries) == len(ODD)


async def test_a_stage_of_tomorrow_and_a_wrong_subject_are_readable(
    run_worker: Any, edge: Any, database_url: str
) -> None:
    later = await edge.write("escalated")
    payload = later.model_copy(update={"id": "other"}).model_dump_json().encode()
    await edge.raw(payload, "audit.edge.denied")
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        first, second = await until(engine, 2)
    assert (first.stage, first.outcome, first.unreadable, first.fault) == ("escalated", "", False, "")
    assert (second.stage, second.unreadable) == ("escalated", False)
    assert "denied" in second.fault


async def test_an_event_published_twice_is_kept_and_told_apart(run_worker: Any, edge: Any, database_url: str) -> None:
    event = await edge.write()
    payload = event.model_dump_json(exclude_none=True).encode()
    for _ in range(2):
        await edge.raw(payload)  # no Nats-Msg-Id: the stream takes it again
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        rows = await until(engine, 3)
        await edge.raw(payload)
        rows = await until(engine, 4)
    assert [row.duplicate_of for row in rows] == [None, 1, 1, 1]


async def test_a_stream_made_anew_does_not_hide_behind_old_sequences(
    bus: Bus, run_worker: Any, edge: Any, database_url: str
) -> None:
    await edge.write(event_id="first")
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        await until(engine, 1)
    await bus.reset()
    await edge.write(event_id="second")
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        rows = await until(engine, 2)
    assert [(row.event_id, row.sequence) for row in rows] == [("first", 1), ("second", 1)]
    assert len({row.stream for row in rows}) == 2


async def test_many_events_in_order_and_the_lag_goes_to_nothing(run_worker: Any, edge: Any, database_url: str) -> None:
    await edge.many(1_200)
    async with (
        run_worker(build(), database_url=database_url, batch_max=500) as running,
        reading(database_url) as engine,
    ):
        rows = await until(engine, 1_200)
        await until_metrics(
            running,
            "opsbus_audit_events_stored_total 1200.0",
            "opsbus_audit_sequence 1200.0",
            "opsbus_audit_pending_events 0.0",
        )
    assert [row.sequence for row in rows] == list(range(1, 1_201))
    assert [row.event_id for row in rows] == [f"event-{number}" for number in range(1_200)]


async def test_acknowledged_only_after_the_commit(bus: Bus, run_worker: Any, edge: Any, database_url: str) -> None:
    await edge.many(20)
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        await until(engine, 20)
        js = await bus.jetstream()
        async with asyncio.timeout(30):
            while (await js.consumer_info("AUDIT", "audit-store")).num_ack_pending:
                await asyncio.sleep(0.02)
    assert (await js.consumer_info("AUDIT", "audit-store")).num_pending == 0


async def test_a_store_that_fails_loses_nothing_and_keeps_the_order(
    run_worker: Any, edge: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError("disk"), TimeoutError("slow"), OSError("disk")])
    original: Callable[..., Any] = AuditStore.append

    async def flaky(self: AuditStore, messages: Any) -> Any:
        error = next(failures, None)
        if error is None:
            return await original(self, messages)
        # The worst moment: stored, but the answer is lost.
        if isinstance(error, TimeoutError):
            await original(self, messages)
        raise error

    monkeypatch.setattr(AuditStore, "append", flaky)
    await edge.many(50)
    async with run_worker(build(), database_url=database_url) as running, reading(database_url) as engine:
        await until(engine, 50)
        await edge.many(50, start=50)
        rows = await until(engine, 100)
        await until_metrics(running, "opsbus_audit_store_errors_total 3.0", "opsbus_audit_storing 1.0")
    assert [row.event_id for row in rows] == [f"event-{number}" for number in range(100)]


async def test_two_instances_share_the_work_and_double_nothing(run_worker: Any, edge: Any, database_url: str) -> None:
    async with (
        run_worker(build(), database_url=database_url, batch_max=20),
        run_worker(build(), database_url=database_url, batch_max=20),
        reading(database_url) as engine,
    ):
        await edge.many(400)
        rows = await until(engine, 400)
    assert len({row.sequence for row in rows}) == len(rows) == 400
    assert all(row.duplicate_of is None for row in rows)


async def test_a_restarted_server_is_found_again(bus: Bus, run_worker: Any, edge: Any, database_url: str) -> None:
    async with run_worker(build(), database_url=database_url), reading(database_url) as engine:
        await edge.many(10)
        await until(engine, 10)
        await asyncio.to_thread(bus.restart)
        await edge.many(10, start=10)
        rows = await until(engine, 20)
    assert [row.event_id for row in rows] == [f"event-{number}" for number in range(20)]


async def start_process(bus: Bus, url: str, folder: Path) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"], "NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("audit")),
        "OPSBUS_AUDIT_DATABASE_URL": url, "OPSBUS_AUDIT_BATCH_MAX": "50", "OPSBUS_AUDIT_RECORD_WORKERS": "false",
        "OPSBUS_READY_FILE": str(folder / f"ready-{secrets.token_hex(4)}.json"),
    }  # fmt: skip
    command = (sys.executable, "-c", "from opsbus_audit.app import worker; worker.run()")
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(*command, env=environment, stderr=log, stdout=log)


@pytest.mark.timeout(300)  # three processes, one after the other
async def test_kills_in_the_middle_lose_and_double_nothing(
    bus: Bus, edge: Any, database_url: str, tmp_path: Path
) -> None:
    await redelivered_soon(bus)
    total = 3_000
    writing = asyncio.create_task(edge.many(total))
    async with reading(database_url) as engine:
        for reached in (200, 900):
            process = await start_process(bus, database_url, tmp_path)
            await until(engine, reached)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await writing
        process = await start_process(bus, database_url, tmp_path)
        try:
            rows = await until(engine, total, timeout_s=90)
        finally:
            process.terminate()
            await process.wait()
        assert process.returncode == 0, (tmp_path / "log").read_text()[-3000:]
        rows = await stored(engine)
    assert sorted(row.event_id for row in rows) == sorted(f"event-{number}" for number in range(total))
    assert [row.sequence for row in rows] == list(range(1, total + 1))


async def test_a_stopped_worker_gives_back_what_it_has(bus: Bus, run_worker: Any, edge: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    # By itself the server would not deliver them again while this test waits.
    await redelivered_soon(bus, 600.0)
    await edge.many(300)
    async with run_worker(build(), database_url=url, batch_max=10), reading(url) as engine:
        await until(engine, 10)
    async with run_worker(build(), database_url=url), reading(url) as engine:
        rows = await until(engine, 300)
    assert len(rows) == 300


async def test_a_store_that_cannot_be_opened_ends_the_start_in_one_line(run_worker: Any) -> None:
    with pytest.raises(SettingsError, match="OPSBUS_AUDIT_DATABASE_URL"):
        async with run_worker(build(), database_url="postgresql://nobody:hunter2@127.0.0.1:1/none"):
            pass


@pytest.mark.parametrize("url", ["mysql://root:hunter2@db/x", "nonsense"])
async def test_a_wrong_store_is_refused_without_its_secret(run_worker: Any, url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        async with run_worker(build(), database_url=url):
            pass
    assert "hunter2" not in str(refused.value)
