"""Whoever reads the record at a terminal is in the record: who, what was asked, how many events came."""

import asyncio
import getpass
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.record import Stored
from opsbus_audit.store import AuditStore

pytestmark = pytest.mark.timeout(300)  # commands as processes of their own, one after the other


async def command(*words: str, bus: Bus | None, **more: str) -> tuple[int, str, str]:
    """``opsbus audit ...`` as a process of its own; without a bus: at a port where nobody listens."""
    child = await process(*words, bus=bus, **more)
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert b"Traceback" not in out + err
    return child.returncode or 0, out.decode(), err.decode()


async def process(*words: str, bus: Bus | None, **more: str) -> asyncio.subprocess.Process:
    url, seed = (bus.url, str(bus.credentials("auditor"))) if bus else ("nats://127.0.0.1:1", "")
    environment = {**os.environ, "NATS_URL": url, "OPSBUS_NATS_SEED_FILE": seed, **more}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "audit", *words,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def readings(bus: Bus, stage: str = "log_read") -> list[dict[str, Any]]:
    js = await bus.jetstream()
    last = (await js.stream_info("AUDIT")).state.last_seq
    messages = [await js.get_msg("AUDIT", sequence) for sequence in range(1, last + 1)]
    return [json.loads(m.data or b"")["data"] for m in messages if m.subject == f"audit.auditor.{stage}"]


def check_pair(found: list[dict[str, Any]], what: str, events: int, question: dict[str, Any]) -> dict[str, Any]:
    begun, ended = found
    assert begun["call"] == ended["call"]
    assert {e["actor"] for e in found} == {getpass.getuser()}
    assert {(e["method"], e["target"]) for e in found} == {("platform", "AUDIT")}
    assert [e["seq"] for e in found] == [1, 2]
    assert begun["details"]["what"] == what
    assert begun["details"]["question"] == question
    assert ended["details"] == {"ended": "whole", "events": events}
    return dict(begun["details"])


@pytest.fixture
async def filled(tmp_path: Path) -> str:
    """A store with three events."""
    database_url = f"sqlite:///{tmp_path}/audit.sqlite3"
    store = AuditStore(database_url)
    await store.create()
    rows = []
    for number, actor in enumerate(("ada", "ada", "eve"), 1):
        event = {
            "specversion": "1.0", "id": f"e{number}", "source": "/opsbus/edge/e", "type": "opsbus.audit.v1.completed",
            "time": "2026-11-21T00:00:00Z", "data": {"stage": "completed", "call": f"{number:032x}", "actor": actor},
        }  # fmt: skip
        body = json.dumps(event).encode()
        rows.append(Stored("AUDIT@1", number, "audit.edge.completed", 1_790_000_000 * 10**9 + number, {}, body))
    await store.append(store.prepare(rows))
    await store.close()
    return database_url


async def test_a_search_is_recorded(bus: Bus, filled: str) -> None:
    words = ("search", "--actor", "ada", "--limit", "10", "--json", "--database-url", filled)
    code, out, err = await command(*words, bus=bus)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    details = check_pair(await readings(bus), "search", 2, {"actor": "ada"})
    assert (details["source"], details["at_most"]) == ("store", 10)


async def test_a_search_that_finds_nothing_is_recorded_too(bus: Bus, filled: str) -> None:
    code, _, err = await command("search", "pods", "--since", "now-1h", "--database-url", filled, bus=bus)
    assert code == 0
    assert "nothing matches" in err
    begun, ended = await readings(bus)
    assert begun["details"]["question"]["text"] == "pods"
    assert begun["details"]["question"]["since"]
    assert ended["details"] == {"ended": "whole", "events": 0}


async def test_events_of_the_platform_are_found_and_shown(bus: Bus, edge: Any, run_worker: Any, caller: Any) -> None:
    await edge.write("completed", actor="ada")
    details = {"why": "drained", "tools": 3, "note": "\x1b[2J"}
    await edge.write("worker_left", actor="k8s", tool="", method="platform", target="worker/k8s-1", details=details)
    await edge.write("approved", actor="eve", approver="eve", details={"how": "token", "asked_in": "f" * 32})
    code, out, err = await command("tail", "--no-follow", "--stage", "worker_left", bus=bus)
    assert code == 0, err
    (line,) = out.splitlines()
    assert "worker/k8s-1" in line
    assert "why: drained, tools: 3" in line
    assert "\x1b" not in line
    code, out, err = await command("replay", "--from", "stream", bus=bus)
    assert code == 0, err
    assert "why: drained, tools: 3" in out
    assert "by eve  how: token, asked_in: ffff" in out
    assert "\x1b" not in out
    code, _, err = await command("tail", "--no-follow", "--stage", "worker_lef", bus=bus)
    assert code == 1
    assert "worker_left" in err


async def test_the_tools_find_events_of_the_platform(
    edge: Any, run_worker: Any, caller: Any, tmp_path: Any, bus: Bus
) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/audit.sqlite3"):
        await edge.write("completed", actor="ada")
        await edge.write("worker_left", actor="k8s", tool="", method="platform", target="worker/k8s-1")
        async with asyncio.timeout(60):
            while True:
                found = (await caller.call("audit", "search", {"stage": "worker_left"})).structured
                if found["items"]:
                    break
                await asyncio.sleep(0.05)
        assert [item["target"] for item in found["items"]] == ["worker/k8s-1"]
        error = (await caller.call("audit", "search", {"stage": "worker_lef"})).error
        assert error.code == "invalid_arguments"
        assert (await caller.call("audit", "read_events", {"stage": "exported"})).structured["items"] == []
    # The tools read as calls, which the edge records: no event of their own.
    assert await readings(bus) == []


async def test_a_store_is_searched_without_a_bus_and_that_is_said(filled: str) -> None:
    code, out, err = await command("search", "--actor", "ada", "--json", "--database-url", filled, bus=None)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "! this reading is not recorded: no bus" in err


async def test_a_setting_demands_that_it_is_recorded(filled: str) -> None:
    must = {"OPSBUS_AUDIT_REQUIRE_LOG_READ": "true"}
    code, out, err = await command("search", "--database-url", filled, bus=None, **must)
    assert (code, out) == (1, "")
    assert "nothing was read: no bus to record it" in err
    wrong = {"OPSBUS_AUDIT_REQUIRE_LOG_READ": "perhaps"}
    code, out, err = await command("search", "--database-url", filled, bus=None, **wrong)
    assert (code, out) == (1, "")
    assert "require_log_read" in err


async def test_what_the_record_does_not_take_is_not_read(bus: Bus, filled: str) -> None:
    await (await bus.jetstream()).delete_stream("AUDIT")
    for words in (("search", "--database-url", filled), ("tail", "--no-follow")):
        code, out, err = await command(*words, bus=bus)
        assert (code, out) == (1, "")
        assert "nothing was read" in err


async def test_a_tail_is_recorded(bus: Bus, edge: Any) -> None:
    for actor in ("ada", "ada", "eve"):
        await edge.write("completed", actor=actor)
    code, out, err = await command("tail", "--no-follow", "--actor", "ada", bus=bus)
    assert code == 0, err
    assert len(out.splitlines()) == 2
    details = check_pair(await readings(bus), "tail", 2, {"actor": "ada"})
    assert (details["source"], details["follow"]) == ("stream", False)


async def test_a_tail_that_is_broken_off_says_how_much_it_showed(bus: Bus, edge: Any) -> None:
    child = await process("tail", "--json", bus=bus)
    assert child.stdout is not None
    async with asyncio.timeout(60):
        while not await readings(bus):
            await asyncio.sleep(0.05)
        # What is written before the tail listens is not shown: written until something is.
        shown = asyncio.create_task(child.stdout.readline())
        while not shown.done():
            await edge.write("completed", actor="ada")
            await asyncio.wait({shown}, timeout=0.2)
    child.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(child.communicate(), 60)
    assert b"Traceback" not in err
    _, ended = await readings(bus)
    assert ended["details"]["ended"] == "broken_off"
    assert ended["details"]["events"] >= 1


async def test_a_replay_and_an_export_say_how_much_they_read(bus: Bus, edge: Any, tmp_path: Any) -> None:
    for actor in ("ada", "ada", "eve"):
        await edge.write("completed", actor=actor)
    code, _, err = await command("replay", "--from", "stream", "--actor", "ada", bus=bus)
    assert code == 0, err
    check_pair(await readings(bus), "replay", 2, {"actor": "ada"})
    words = ("export", "--from", "stream", "--actor", "eve", "--out", str(tmp_path / "out"))
    code, _, err = await command(*words, bus=bus, OPSBUS_DATA=str(tmp_path))
    assert code == 0, err
    check_pair(await readings(bus, "exported"), "export", 1, {"actor": "eve"})
