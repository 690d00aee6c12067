"""The record: what is written, when, and what happens when it cannot be."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from opsbus import Context, ErrorCode, ToolError, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import AuditEvent
from opsbus_contracts.streams import AUDIT
from opsbus_edge.audit import AuditLog, Queue
from opsbus_edge.metrics import Metrics


def demo(executions: list[str] | None = None) -> Worker:
    worker = Worker("demo", version="3.1.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context, password: str = "") -> dict[str, int]:
        return {"n": 1}

    @worker.tool(permission="demo:write")
    async def change(ctx: Context, reason: str = "", fail: bool = False) -> dict[str, int]:
        if executions is not None:
            executions.append(ctx.call_id)
        if fail:
            raise ToolError(ErrorCode.CONFLICT, "it moved")
        return {"n": 1}

    return worker


async def test_every_stage_is_written_with_what_the_contract_says(running, run_worker: RunWorker, audit_events) -> None:
    async with run_worker(demo()):
        await running.knows("demo_look", "demo_change")
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        await running.call("demo_look", {"password": "hunter2"})
        answer = await running.call("demo_change", {"reason": "because"}, meta={"traceparent": trace})
        await running.call("demo_change", {"fail": True})
        await running.call("demo_change", role="viewer")
        await running.call("demo_none")
        await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})
    events = await audit_events(10)
    for event in events:
        parsed = AuditEvent.model_validate_json(event["raw"])
        assert parsed.source == f"/opsbus/edge/{running.edge.instance}"
        assert parsed.type == f"opsbus.audit.v1.{event['stage']}"
        assert event["subject"] == f"audit.edge.{event['stage']}"
        assert b"hunter2" not in event["raw"]
    assert sorted(event["seq"] for event in events) == list(range(1, 11))
    by_tool: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_tool.setdefault(f"{event['tool']} {event['call']}", []).append(event)
    stages = sorted(
        (key.split()[0], [event["stage"] for event in sorted(found, key=lambda e: e["seq"])])
        for key, found in by_tool.items()
    )
    assert stages == [
        ("demo_change", ["denied"]),
        ("demo_change", ["requested", "completed"]),
        ("demo_change", ["requested", "failed"]),
        ("demo_look", ["requested", "completed"]),
        ("demo_look", ["requested", "completed"]),
        ("demo_none", ["denied"]),
    ]
    done = next(e for e in events if e["stage"] == "completed" and e["tool"] == "demo_change")
    asked = next(e for e in events if e["stage"] == "requested" and e["call"] == done["call"])
    assert asked["mutating"] is True
    assert asked["reason"] == "because"
    assert asked["arguments"] == {"reason": "because"}
    assert asked["arguments_digest"] == hashlib.sha256(b'{"reason":"because"}').hexdigest()
    assert asked["rule"].endswith("admin allow *")
    assert asked["actor"] == "admin@shop.example"
    assert asked["roles"] == ["admin"]
    assert asked["client"] == "test 1"
    assert asked["trace_id"] == "a" * 32
    assert done["executed"] == "yes"
    assert done["version"] == "3.1.0"
    assert done["instance"].startswith("demo-")
    assert done["attempts"] == 1
    assert done["duration_ms"] > 0
    assert len(done["result_digest"]) == 64
    assert answer.result["isError"] is False
    failed = next(e for e in events if e["stage"] == "failed")
    assert (failed["error"], failed["message"], failed["executed"]) == ("conflict", "it moved", "no")
    denied = [e for e in events if e["stage"] == "denied"]
    assert {e["error"] for e in denied} == {"forbidden", "unknown_tool"}
    rest = next(e for e in events if e["protocol"] == "rest")
    assert rest["tool"] == "demo_look"


async def test_a_write_is_stored_before_it_is_dispatched(running, run_worker: RunWorker, bus: Bus) -> None:
    seen: list[int] = []
    worker = Worker("demo", version="1.0.0")
    js = await bus.jetstream()

    @worker.tool(permission="demo:write")
    async def change(ctx: Context) -> dict[str, int]:
        msg = await js.get_last_msg("AUDIT", "audit.edge.requested")
        assert msg.data is not None
        assert json.loads(msg.data)["data"]["call"] == ctx.call_id
        seen.append((await js.stream_info("AUDIT")).state.messages)
        return {"n": 1}

    async with run_worker(worker):
        await running.knows("demo_change")
        assert (await running.call("demo_change")).result["isError"] is False
    assert seen == [1]


async def test_without_the_stream_writes_are_refused_unexecuted_and_reads_go_on(
    running, run_worker: RunWorker, bus: Bus, audit_events
) -> None:
    executions: list[str] = []
    async with run_worker(demo(executions)):
        await running.knows("demo_look", "demo_change")
        assert (await running.ready()).status_code == 200
        js = await bus.jetstream()
        await js.delete_stream("AUDIT")
        error = (await running.call("demo_change", {"reason": "r"})).tool_error
        assert (error["code"], error["executed"], error["retryable"]) == ("audit_unavailable", "no", True)
        assert executions == []
        assert (await running.call("demo_look")).result["isError"] is False
        ready = await running.ready()
        assert ready.status_code == 503
        assert "audit" in ready.json()["reasons"][0]
        health = (await running.http.get("/health")).json()
        assert health["dependencies"]["audit"]["status"] == "degraded"
        from opsbus.provision import provision

        await provision(js)
        async with asyncio.timeout(60):
            while (await running.ready()).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await running.call("demo_change", {"reason": "r"})).result["isError"] is False
    assert len(executions) == 1
    events = await audit_events(6)
    # Nothing is missing: what could not be stored at the time was stored afterwards, and says that nothing was done.
    assert sorted(event["seq"] for event in events) == list(range(1, len(events) + 1))
    refused = [event for event in events if event.get("error") == "audit_unavailable"]
    assert [(event["stage"], event["executed"]) for event in refused] == [("failed", "no")]


async def test_a_full_stream_refuses_writes(run_edge, run_worker: RunWorker, bus: Bus) -> None:
    executions: list[str] = []
    js = await bus.jetstream()
    async with run_worker(demo(executions)), run_edge(drain_timeout_s=0.1) as running:
        await running.knows("demo_change")
        await js.delete_stream("AUDIT")
        from nats.js.api import DiscardPolicy, StreamConfig

        await js.add_stream(
            StreamConfig(name=AUDIT.name, subjects=list(AUDIT.subjects), max_msgs=1, discard=DiscardPolicy.NEW)
        )
        first = await running.call("demo_change")
        second = await running.call("demo_change")
        assert first.result["isError"] is False
        assert second.tool_error["code"] == "audit_unavailable"
        assert len(executions) == 1


async def test_the_buffer_is_bounded_and_then_calls_are_refused(run_edge, run_worker: RunWorker, bus: Bus) -> None:
    async with run_edge(audit_buffer_max=10, audit_timeout_s=0.2, drain_timeout_s=0.1) as running:
        async with run_worker(demo()):
            await running.knows("demo_look")
            await (await bus.jetstream()).delete_stream("AUDIT")
            answers = [await running.call("demo_look") for _ in range(8)]
        codes = [answer.result.get("structuredContent", {}).get("error", {}).get("code") for answer in answers]
        assert codes[0] is None
        assert codes[-1] == "audit_unavailable"
        assert not running.edge.audit.accepting
        assert (await running.ready()).status_code == 503


async def test_what_waits_is_stored_at_shutdown(run_edge, run_worker: RunWorker, audit_events) -> None:
    async with run_worker(demo()), run_edge(drain_timeout_s=30) as running:
        await running.knows("demo_look")
        await asyncio.gather(*(running.call("demo_look") for _ in range(50)))
    assert len(await audit_events(100)) == 100


async def test_a_burst_is_stored_once_each_and_in_order(bus: Bus, audit_events) -> None:
    from opsbus_contracts.audit import Stage

    log = AuditLog(await bus.connect("edge"), "edge-1", Metrics(), Queue(10_000))
    await log.start()
    for number in range(3_000):
        log.write(Stage.REQUESTED, {"call": f"{number:032x}", "tool": "t"})
    assert await log.close(60) == 0
    info = await (await bus.jetstream()).stream_info("AUDIT")
    assert info.state.messages == 3_000
    js = await bus.jetstream()
    for sequence in (1, 1_500, 3_000):
        msg = await js.get_msg("AUDIT", seq=sequence)
        assert msg.data is not None
        assert json.loads(msg.data)["data"]["seq"] == sequence


async def test_a_cancelled_call_is_recorded_as_such(running, run_worker: RunWorker, audit_events) -> None:
    started = asyncio.Event()
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write", timeout_s=60)
    async def wait(ctx: Context) -> dict[str, int]:
        started.set()
        await asyncio.sleep(50)
        return {}

    async with run_worker(worker):
        await running.knows("demo_wait")
        task = asyncio.create_task(running.rest("POST", "/api/v1/tools/demo_wait/execute", json={}))
        await asyncio.wait_for(started.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        events = await audit_events(2)
    assert [event["stage"] for event in events] == ["requested", "cancelled"]
    assert events[1]["executed"] == "unknown"
