"""``opsbus audit replay``: what is replayed, from where, in which form, how fast, onto which subject."""

import asyncio
import base64
import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from opsbus.testing.bus import Bus
from opsbus_audit.cli import app
from opsbus_audit.ordered import BATCH_MAX, Range, Recorded, StreamReader
from opsbus_audit.record import Stored
from opsbus_audit.replay.forms import Timeline
from opsbus_audit.replay.pace import Pace, speed_of
from opsbus_audit.store import AuditStore


async def command(bus: Any, *words: str, url: str = "") -> tuple[int, str, str]:
    """``opsbus audit ...`` as typed, in this process."""
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    environment |= {"OPSBUS_DATA": "/nonexistent/opsbus", "OPSBUS_AUDIT_DATABASE_URL": url}
    done = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)
    return done.exit_code, done.stdout, done.stderr


async def replayed(bus: Bus, *words: str, url: str = "") -> list[dict[str, Any]]:
    """The lines of an NDJSON replay that are calls' events."""
    code, out, err = await command(bus, "replay", "--format", "ndjson", *words, url=url)
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    return [item for item in found if item.get("event", {}).get("data", {}).get("stage") != "log_read"]


@pytest.fixture
async def story(edge: Any) -> None:
    """Two calls and a denial."""
    call = {"call": "a" * 32, "tool": "k8s_scale_deployment", "service": "k8s", "mutating": True}
    await edge.write("requested", **call, reason="autumn sale")
    await edge.write("completed", **call, duration_ms=312.4)
    await edge.write("denied", tool="cmdb_query_assets", service="cmdb", actor="eve", error="forbidden", rule="viewer")
    await edge.write("completed", tool="k8s_get_pods", service="k8s", call="b" * 32, actor="bob")


@pytest.mark.parametrize(
    ("words", "sequences"),
    [
        ((), [1, 2, 3, 4]),
        (("--actor", "eve"), [3]),
        (("--tool", "k8s_scale_deployment"), [1, 2]),
        (("--service", "k8s"), [1, 2, 4]),
        (("--stage", "denied"), [3]),
        (("--call", "aaaa"), [1, 2]),
        (("--outcome", "success"), [2, 4]),
        (("--outcome", "denied"), [3]),
        (("--from-seq", "2", "--to-seq", "3"), [2, 3]),
        (("--since", "now-1h", "--until", "now"), [1, 2, 3, 4]),
        (("--until", "now-1h"), []),
        (("--actor", "nobody"), []),
    ],
)
async def test_the_stream_is_replayed_by(bus: Bus, story: None, words: tuple[str, ...], sequences: list[int]) -> None:
    found = await replayed(bus, "--from", "stream", *words)
    assert [item["sequence"] for item in found] == sequences


async def test_every_byte_comes_out_as_recorded(bus: Bus, edge: Any) -> None:
    event = await edge.write("completed", actor="ada")
    await edge.raw(b"no event at all\n")
    await edge.raw(b'{"forged":\n"Status"}', headers={"Status": "100"})
    code, out, _ = await command(bus, "replay", "--format", "ndjson")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["event"] == json.loads(event.model_dump_json(exclude_none=True))
    assert base64.b64decode(lines[1]["raw"]) == b"no event at all\n"
    assert base64.b64decode(lines[2]["raw"]) == b'{"forged":\n"Status"}'
    code, out, _ = await command(bus, "replay", "--format", "cloudevents", "--to-seq", "3")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [event.id]


async def test_the_timeline_is_for_people(bus: Bus, story: None, edge: Any) -> None:
    await edge.write("failed", actor="mallory\x1b[2J\nfake line", tool="k8s_get_pods", error="timeout")
    code, out, err = await command(bus, "replay")
    assert code == 0, err
    assert "\x1b" not in out
    lines = out.splitlines()
    assert f"{datetime.now(UTC):%Y}" in lines[0]
    assert "▶ requested" in lines[1]
    assert "reason: autumn sale" in lines[1]
    assert "312 ms" in lines[2]
    assert "rule: viewer" in lines[3]
    assert "fake line" in lines[5]
    assert "log_read" in lines[6]


async def test_reading_is_recorded_first(bus: Bus, story: None) -> None:
    await replayed(bus, "--actor", "eve")
    found = await replayed(bus, "--from", "stream", "--stage", "log_read")
    assert found == []
    code, out, _ = await command(bus, "replay", "--format", "cloudevents", "--stage", "log_read")
    assert code == 0
    first = json.loads(out.splitlines()[0])["data"]
    assert first["details"]["question"] == {"actor": "eve"}
    assert first["actor"]


async def test_without_a_record_of_it_nothing_is_read(story: None, tmp_path: Any) -> None:
    class Away:
        url = "nats://127.0.0.1:1"

        @staticmethod
        def credentials(_: str) -> str:
            return "/nonexistent.nk"

    store = AuditStore(f"sqlite:///{tmp_path}/audit.sqlite3")
    await store.create()
    await store.close()
    code, out, err = await command(Away(), "replay", "--from", "store", url=f"sqlite:///{tmp_path}/audit.sqlite3")
    assert code == 1
    assert out == ""
    assert "opsbus: " in err


async def test_what_is_older_than_the_stream_comes_from_the_store(bus: Bus, edge: Any, database_url: str) -> None:
    store = AuditStore(database_url)
    await store.create()
    old = {
        "specversion": "1.0", "id": "old-1", "source": "/opsbus/edge/edge-0", "type": "opsbus.audit.v1.completed",
        "time": "2026-01-01T00:00:00Z",
        "data": {"stage": "completed", "call": "c" * 32, "actor": "ada", "tool": "k8s_get_pods"},
    }  # fmt: skip
    nanoseconds = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000
    rows = [
        Stored("AUDIT@before", number, "audit.edge.completed", nanoseconds + number, {}, json.dumps(old).encode())
        for number in range(1, 4)
    ]
    await store.append(store.prepare(rows))
    await store.close()
    await edge.write("completed", actor="ada")
    found = await replayed(bus, "--actor", "ada", url=database_url)
    assert [item["stored_at"][:4] for item in found[:3]] == ["2026"] * 3
    assert [item["sequence"] for item in found] == [1, 2, 3, 1]
    assert [item["sequence"] for item in await replayed(bus, "--from", "store", url=database_url)] == [1, 2, 3]
    assert [item["sequence"] for item in await replayed(bus, "--since", "now-1h", url=database_url)] == [1]


async def test_onto_a_subject_for_a_consumer_in_development(bus: Bus, story: None) -> None:
    consumer = await bus.connect("billing")
    subscription = await consumer.subscribe("replay.billing.>")
    await consumer.flush()
    await consumer.flush()
    code, _, err = await command(bus, "replay", "--to", "replay.billing", "--to-seq", "4")
    assert code == 0, err
    assert "4 events replayed onto replay.billing.>" in err
    messages = [await subscription.next_msg(timeout=30) for _ in range(4)]
    assert [message.subject for message in messages] == [
        "replay.billing.audit.edge.requested",
        "replay.billing.audit.edge.completed",
        "replay.billing.audit.edge.denied",
        "replay.billing.audit.edge.completed",
    ]
    assert [message.headers["Opsbus-Replay-Sequence"] for message in messages] == ["1", "2", "3", "4"]
    assert json.loads(messages[2].data)["data"]["actor"] == "eve"


@pytest.mark.parametrize("subject", ["audit.edge", "tool.k8s", "replay", "replay.", "replay.>", "replay.K8S", "$KV.x"])
async def test_onto_no_other_subject(bus: Bus, subject: str) -> None:
    code, _, err = await command(bus, "replay", "--to", subject)
    assert code != 0
    assert "is no subject for a replay" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--speed", "fast"), "is no speed"),
        (("--speed", "0x"), "is no speed"),
        (("--format", "xml"), "--format 'xml' is not known"),
        (("--from", "memory"), "--from 'memory' is not known"),
        (("--outcome", "succes"), "did you mean success?"),
        (("--since", "yesterday"), "--since"),
        (("--since", "now", "--until", "now-1h"), "--since is after --until"),
        (("--from", "store", "--follow"), "cannot be followed"),
        (("--from", "store"), "no store is named"),
    ],
)
async def test_wrong_words_end_in_a_hint(bus: Bus, words: tuple[str, ...], told: str) -> None:
    code, out, err = await command(bus, "replay", *words)
    assert code != 0
    assert told in err
    assert "Traceback" not in out + err


async def test_follow_goes_on_with_what_comes(bus: Bus, edge: Any) -> None:
    await edge.write("completed", actor="first")
    environment = {**os.environ, "NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "audit", "replay", "--follow", "--format", "cloudevents", "--from", "stream",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        actors = [json.loads(await asyncio.wait_for(child.stdout.readline(), 60))["data"]["actor"]]
        await edge.write("completed", actor="second")
        while actors[-1] != "second":
            actors.append(json.loads(await asyncio.wait_for(child.stdout.readline(), 60))["data"]["actor"])
        assert actors[0] == "first"
    finally:
        child.terminate()
        await child.wait()


async def test_a_reader_survives_a_restart_and_a_slow_reader_loses_nothing(bus: Bus, edge: Any) -> None:
    count = BATCH_MAX + 500
    await edge.many(count)
    client = await bus.connect("auditor")
    seen: list[int] = []
    restarted = False
    async with asyncio.timeout(100):
        async for batch in StreamReader(client, Range(to_end=False)).batches():
            seen += [recorded.sequence for recorded in batch]
            if not restarted:
                restarted = True
                await asyncio.to_thread(bus.restart)
            if len(seen) >= count:
                break
    assert seen == list(range(1, count + 1))


async def test_pace_keeps_the_time_between_events() -> None:
    def at(seconds: float) -> Recorded:
        return Recorded(1, int(seconds * 1e9), "audit.edge.completed", None, b"")

    pace = Pace(speed_of("10x"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for moment in (100.0, 102.0, 103.0):
        await pace.wait(at(moment))
    assert loop.time() - began >= 0.29
    assert speed_of("max") == 0.0
    assert not Pace(0.0).waits


def test_the_timeline_has_colours_on_a_terminal() -> None:
    recorded = Recorded(7, 1_700_000_000_000_000_000, "audit.edge.denied", None, b"")
    event = {"data": {"stage": "denied", "tool": "k8s_get_pods", "actor": "eve", "call": "f" * 32}}
    text = Timeline(colour=True)(recorded, event).decode()
    assert "\x1b[35m⊘ denied" in text
