"""Calls whose end nobody recorded are closed as unknown: once, after their deadline, and only when there is no end."""

import asyncio
import json
import secrets
import time
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus_audit import closing
from opsbus_audit.app import build
from opsbus_audit.open_calls import NO_DEADLINE_MS, OpenCall, OpenCalls
from opsbus_audit.record import Note

DEADLINE_S = 60.0


def soon(seconds: float = DEADLINE_S) -> int:
    return int((time.time() + seconds) * 1000)


class Clock:
    """What closes calls goes by it: a deadline is over when the test says so, however long the machine takes."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(closing, "time", made)
    return made


async def closed(bus: Bus, count: int) -> list[dict[str, Any]]:
    """Events that the audit worker wrote of calls, once there are as many."""
    js = await bus.jetstream()
    async with asyncio.timeout(60):
        while True:
            found = []
            last = (await js.stream_info("AUDIT")).state.last_seq
            for at in range(1, last + 1):
                msg = await js.get_msg("AUDIT", seq=at)
                assert msg.data is not None
                if msg.subject == "audit.audit.unknown":
                    found.append(json.loads(msg.data)["data"])
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_a_call_without_an_end_is_closed_once_and_others_are_not(
    bus: Bus, run_worker: Any, edge: Any, database_url: str, clock: Clock
) -> None:
    calls = {name: secrets.token_hex(16) for name in ("lost", "ended", "asked", "late", "waiting")}
    for name, call in calls.items():
        deadline = soon(3_600) if name == "waiting" else soon()
        await edge.write(
            "requested", call=call, deadline_ms=deadline, tool="k8s_scale_deployment", service="k8s", mutating=True,
            roles=["operator"], reason="traffic", arguments={"name": "checkout"}, trace_id="ab" * 16,
        )  # fmt: skip
    await edge.write("completed", call=calls["ended"])
    await edge.write("input_required", call=calls["asked"])
    async with run_worker(build(), database_url=database_url, close_after_s=0.5):
        await edge.write("failed", call=calls["late"])
        clock.ahead_s = 2 * DEADLINE_S
        first = await closed(bus, 1)
        assert [one["call"] for one in first] == [calls["lost"]]
        expected = {
            "stage": "unknown", "actor": "ada", "roles": ["operator"], "tool": "k8s_scale_deployment", "service": "k8s",
            "mutating": True, "executed": "unknown", "error": "outcome_unknown", "trace_id": "ab" * 16,
        }  # fmt: skip
        assert {name: first[0].get(name) for name in expected} == expected
        assert "arguments" not in first[0]
        assert "no end was recorded" in first[0]["message"]
        assert first[0]["details"]["requested"] == 1
        # Another round, and another call: the first is not closed again.
        another = secrets.token_hex(16)
        await edge.write("requested", call=another, deadline_ms=soon(0))
        assert [one["call"] for one in await closed(bus, 2)] == [calls["lost"], another]


async def test_what_was_open_before_a_restart_is_closed_too(
    bus: Bus, run_worker: Any, edge: Any, database_url: str
) -> None:
    lost, ended, later = (secrets.token_hex(16) for _ in range(3))
    for call, deadline in ((lost, soon(2)), (ended, soon(2)), (later, soon(600))):
        await edge.write("requested", call=call, deadline_ms=deadline)
    js = await bus.jetstream()
    async with run_worker(build(), database_url=database_url), asyncio.timeout(60):
        while (await js.consumer_info("AUDIT", "audit-store")).ack_floor.stream_seq < 3:
            await asyncio.sleep(0.02)
    await edge.write("completed", call=ended)
    async with run_worker(build(), database_url=database_url, close_after_s=0.2):
        assert [one["call"] for one in await closed(bus, 1)] == [lost]


async def test_two_workers_close_a_call_that_one_saw_begin_and_the_other_end(
    bus: Bus, run_worker: Any, edge: Any, database_url: str, clock: Clock
) -> None:
    calls = [secrets.token_hex(16) for _ in range(60)]
    options = {"database_url": database_url, "close_after_s": 0.3, "batch_max": 5}
    async with run_worker(build(), **options), run_worker(build(), **options):
        for call in calls:
            await edge.write("requested", call=call, deadline_ms=soon())
        for call in calls[1:]:
            await edge.write("completed", call=call)
        clock.ahead_s = 2 * DEADLINE_S
        assert [one["call"] for one in await closed(bus, 1)] == [calls[0]]
        marker = secrets.token_hex(16)
        await edge.write("requested", call=marker, deadline_ms=soon(0))
        assert {one["call"] for one in await closed(bus, 2)} == {calls[0], marker}


def note(call: str, stage: str, deadline_ms: int = 0, stored_ns: int = 0) -> Note:
    return Note(1, "s", 1, stage, call, deadline_ms, stored_ns)


def test_open_calls() -> None:
    calls = OpenCalls()
    calls.saw([note("a", "requested", 100), note("b", "requested", 50), note("c", "requested", 0, 7_000_000)])
    calls.saw([note("b", "completed"), note("x", "denied"), note("y", "escalated"), note("d", "approved")])
    assert len(calls) == 2
    assert calls.take_overdue(100) == []
    assert calls.take_overdue(101) == [OpenCall("a", 100)]
    assert calls.take_overdue(101) == []
    assert calls.take_overdue(8 + NO_DEADLINE_MS) == [OpenCall("c", 7 + NO_DEADLINE_MS)]
