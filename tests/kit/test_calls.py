"""How a call is carried out: heartbeats, progress, logs, deadline, cancellation, bounded concurrency."""

import asyncio
import secrets
import threading
import time

import pytest

from opsbus import Context, ErrorCode, ToolError, Worker
from opsbus.testing.caller import Caller
from opsbus.testing.waiting import until
from opsbus_contracts import Header, Status

worker = Worker("test", version="1.0.0")
events: dict[str, asyncio.Event] = {}
seen: list[str] = []
heard = threading.Event()

BEGINS_WITHIN_S = 5.0
"""A deadline that a call reaches while it runs: a slow machine has begun it by then."""


@pytest.fixture(autouse=True)
def fresh():
    events.update(started=asyncio.Event(), open=asyncio.Event(), cancelled=asyncio.Event())
    seen.clear()
    heard.clear()


async def hold() -> None:
    events["started"].set()
    try:
        await events["open"].wait()
    except asyncio.CancelledError:
        events["cancelled"].set()
        raise


@worker.tool(permission="test:read", read_only=True)
async def read(ctx: Context[None]) -> str:
    """Waits, changes nothing."""
    await hold()
    return "read"


@worker.tool(permission="test:write", timeout_s=60)
async def write(ctx: Context[None]) -> str:
    """Waits, may change something."""
    await hold()
    return "written"


@worker.tool(permission="test:read", read_only=True, timeout_s=0.2)
async def short(ctx: Context[None]) -> str:
    """Has little time of its own."""
    await hold()
    return "never"


@worker.tool(permission="test:read", read_only=True)
async def stubborn(ctx: Context[None]) -> str:
    """Does not end when it is cancelled."""
    events["started"].set()
    while not events["open"].is_set():
        try:
            await events["open"].wait()
        except asyncio.CancelledError:
            events["cancelled"].set()
    return "late"


@worker.tool(permission="test:read", read_only=True)
def plain(ctx: Context[None]) -> str:
    """Blocks its thread, not the loop."""
    assert heard.wait(60)
    return "plain"


@worker.tool(permission="test:read", read_only=True)
async def speak(ctx: Context[None]) -> str:
    """Progress and logs."""
    for done in (0, 50, 20, 50, 100):
        await ctx.progress(done, 100, f"at {done}")
    for level in ("debug", "info", "error"):
        await ctx.notify(level, {"said": level}, logger="speaker")
    return f"{ctx.remaining_s > 0}"


async def test_no_heartbeat_for_a_quick_call(run_worker, caller, monkeypatch):
    monkeypatch.setattr("opsbus.call.HEARTBEAT_EVERY_S", 60.0)  # quick on a slow machine too
    events["open"].set()
    async with run_worker(worker):
        reply = await caller.call("test", "read")
    assert reply.messages == []
    assert reply.headers[Header.INSTANCE].startswith("test-")


async def test_heartbeats_from_one_second_on(run_worker, caller):
    beats: list[float] = []

    def beat(message):
        assert message.status is Status.HEARTBEAT
        assert message.body == b""
        beats.append(time.monotonic() - began)
        if len(beats) == 2:
            events["open"].set()

    async with run_worker(worker):
        began = time.monotonic()
        reply = await caller.call("test", "read", on_message=beat)
    assert reply.structured == {"result": "read"}
    assert len(beats) >= 2  # another one may have been on its way
    assert 0.9 < beats[0] < 30
    assert beats[1] > 1.9


async def test_a_waiting_call_sends_heartbeats_too(run_worker, caller):
    async with run_worker(worker, concurrency=1) as running:
        first = asyncio.create_task(caller.call("test", "read"))
        await events["started"].wait()
        beat = asyncio.Event()
        second = asyncio.create_task(caller.call("test", "read", on_message=lambda _: beat.set()))
        await until(lambda: running.gate.waiting)
        beat.clear()
        await asyncio.wait_for(beat.wait(), 30)
        assert running.gate.waiting == 1
        events["open"].set()
        assert (await first).status is (await second).status is Status.OK
        assert running.gate.in_flight == running.gate.waiting == 0


async def test_a_blocking_tool_does_not_stop_heartbeats(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "plain", on_message=lambda _: heard.set(), deadline_s=60)
    assert reply.structured == {"result": "plain"}
    assert {message.status for message in reply.messages} == {Status.HEARTBEAT}


async def test_progress_rises_and_logs_keep_to_the_level(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "speak", progress=True, log_level="info")
    assert [message.data["progress"] for message in reply.of(Status.PROGRESS)] == [0, 50, 100]
    assert reply.of(Status.PROGRESS)[0].data == {"progress": 0, "total": 100, "message": "at 0"}
    assert [message.data["level"] for message in reply.of(Status.LOG)] == ["info", "error"]
    assert reply.of(Status.LOG)[0].data == {"level": "info", "data": {"said": "info"}, "logger": "speaker"}


async def test_progress_and_logs_only_when_asked(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "speak")
    assert reply.structured == {"result": "True"}
    assert reply.of(Status.PROGRESS) == reply.of(Status.LOG) == []


@pytest.mark.parametrize(("tool", "executed"), [("read", "no"), ("write", "unknown")])
async def test_deadline(run_worker, caller, tool, executed):
    async with run_worker(worker) as running:
        reply = await caller.call("test", tool, deadline_s=BEGINS_WITHIN_S)
        assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
        assert reply.executed == reply.error.executed == executed
        assert events["cancelled"].is_set()
        assert running.gate.in_flight == 0


async def test_the_tools_own_timeout_is_a_deadline_too(run_worker, caller):
    async with run_worker(worker):
        assert (await caller.call("test", "short", deadline_s=0)).error.code is ErrorCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_passed_runs_nothing(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "write", deadline_s=-5)
    assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert reply.executed == "no"
    assert not events["started"].is_set()


async def test_a_deadline_ends_the_wait_in_the_queue(run_worker, caller):
    async with run_worker(worker, concurrency=1) as running:
        first = asyncio.create_task(caller.call("test", "read"))
        await events["started"].wait()
        reply = await caller.call("test", "write", deadline_s=0.3)
        assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
        assert reply.executed == "no"
        assert running.gate.waiting == 0
        events["open"].set()
        assert (await first).status is Status.OK


@pytest.mark.parametrize(("tool", "executed"), [("read", "no"), ("write", "unknown")])
async def test_cancel_a_running_call(run_worker, caller, tool, executed):
    async with run_worker(worker):
        call_id = secrets.token_hex(16)
        call = asyncio.create_task(caller.call("test", tool, call_id=call_id))
        await events["started"].wait()
        await caller.cancel("test", secrets.token_hex(16), "another call")
        await caller.cancel("test", call_id, "the client has gone")
        reply = await call
    assert reply.error.code is ErrorCode.CANCELLED
    assert "the client has gone" in reply.error.message
    assert reply.executed == executed
    assert events["cancelled"].is_set()


async def test_cancel_a_waiting_call(run_worker, caller):
    async with run_worker(worker, concurrency=1) as running:
        first = asyncio.create_task(caller.call("test", "read"))
        await events["started"].wait()
        call_id = secrets.token_hex(16)
        second = asyncio.create_task(caller.call("test", "write", call_id=call_id))
        await until(lambda: running.gate.waiting)
        await caller.cancel("test", call_id)
        reply = await second
        assert reply.error.code is ErrorCode.CANCELLED
        assert reply.executed == "no"
        events["open"].set()
        assert (await first).status is Status.OK


async def test_bad_cancel_messages_do_no_harm(run_worker, caller):
    async with run_worker(worker):
        for body in (b"", b"{", b"[]", b'{"call": 7}'):
            await caller.client.publish("cancel.test", body)
        events["open"].set()
        assert (await caller.call("test", "read")).status is Status.OK


async def test_busy_at_once_beyond_the_queue(run_worker, caller):
    async with run_worker(worker, concurrency=2, queue=3) as running:
        calls = [asyncio.create_task(caller.call("test", "write")) for _ in range(5)]
        await until(lambda: running.gate.in_flight + running.gate.waiting == 5)
        over = await asyncio.gather(*(caller.call("test", "write") for _ in range(50)))
        assert {reply.error.code for reply in over} == {ErrorCode.BUSY}
        assert {reply.executed for reply in over} == {"no"}
        assert all(reply.error.retryable and reply.error.retry_after_ms for reply in over)
        events["open"].set()
        assert {reply.status for reply in await asyncio.gather(*calls)} == {Status.OK}
        assert running.gate.in_flight == running.gate.waiting == 0


async def test_work_that_will_not_end_is_answered_and_keeps_its_place(run_worker, caller):
    async with run_worker(worker, concurrency=1, queue=0) as running:
        reply = await caller.call("test", "stubborn", deadline_s=BEGINS_WITHIN_S)
        assert reply.error.code is ErrorCode.DEADLINE_EXCEEDED
        assert events["cancelled"].is_set()
        assert (await caller.call("test", "read")).error.code is ErrorCode.BUSY
        events["open"].set()
        await until(lambda: running.gate.in_flight == 0)
        assert (await caller.call("test", "read")).status is Status.OK


@pytest.mark.parametrize(
    "headers",
    [
        {Header.CALL: "short"},
        {Header.CALL: "Z" * 32},
        {Header.CALL: ""},
        {Header.DEADLINE: "soon"},
        {Header.DEADLINE: "-1"},
        {Header.DEADLINE: "9" * 30},
    ],
)
async def test_malformed_headers(run_worker, caller, headers):
    async with run_worker(worker):
        reply = await caller.call("test", "write", headers=headers)
    assert reply.error.code is ErrorCode.INVALID_REQUEST
    assert reply.executed == "no"
    assert not events["started"].is_set()


async def test_unknown_tool_and_method(run_worker, caller, bus):
    onlooker = Caller(await bus.connect("onlooker"), bus.signer)  # an edge may not publish a method there is not
    await onlooker.start()
    async with run_worker(worker):
        unknown = (await caller.call("test", "wriet")).error
        method = (await onlooker.send("mcp.test.resource_reads", {})).error
    assert unknown.code is ErrorCode.UNKNOWN_TOOL
    assert unknown.did_you_mean == ["write"]
    assert method.code is ErrorCode.UNKNOWN_METHOD
    assert method.did_you_mean == ["resources_read"]


@worker.tool(permission="test:read", read_only=True)
async def odd_error(ctx: Context[None], kind: str) -> str:
    """An error whose details cannot travel."""
    details = {"object": object()} if kind == "no JSON" else {"large": "x" * 2_000_000}
    raise ToolError(ErrorCode.NOT_FOUND, "not there", details=details)


@pytest.mark.parametrize("kind", ["no JSON", "too large"])
async def test_an_error_travels_without_what_cannot(run_worker, caller, kind):
    async with run_worker(worker):
        error = (await caller.call("test", "odd_error", {"kind": kind})).error
    assert (error.code, error.message) == (ErrorCode.NOT_FOUND, "not there")
    assert kind in error.details["left_out"]


@worker.tool(permission="test:write")
async def in_a_group(ctx: Context[None]) -> str:
    """Raises out of nested task groups."""

    async def fail() -> None:
        raise ToolError(ErrorCode.CONFLICT, "two at once")

    async def bug() -> None:
        raise RuntimeError("not for the caller")

    async with asyncio.TaskGroup() as outer:
        outer.create_task(bug())
        async with asyncio.TaskGroup() as inner:
            inner.create_task(fail())
    return "never"


async def test_an_error_gets_out_of_task_groups(run_worker, caller):
    async with run_worker(worker):
        error = (await caller.call("test", "in_a_group")).error
    assert (error.code, error.message, error.executed) == (ErrorCode.CONFLICT, "two at once", "no")
