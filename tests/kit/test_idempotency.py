"""A repeated key returns the first outcome, across instances, and never runs twice."""

import asyncio
import json
import secrets
import time

import pytest

from opsbus import Context, ErrorCode, Executed, ToolError, Worker
from opsbus.bucket_keys import bucket_keys
from opsbus.idempotency import KEY_CHARS_MAX
from opsbus_contracts import Status

worker = Worker("test", version="1.0.0")
runs: list[str] = []
gate: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def fresh():
    runs.clear()
    gate.update(started=asyncio.Event(), open=asyncio.Event())
    gate["open"].set()


@worker.tool(permission="test:write")
async def write(
    ctx: Context[None], what: str, fail: str = "", dry_run: bool = False, idempotency_key: str | None = None
) -> dict[str, int]:
    """Counts its runs."""
    runs.append(what)
    gate["started"].set()
    await gate["open"].wait()
    if fail == "before":
        raise ToolError(ErrorCode.NOT_FOUND, "nothing there")
    if fail == "between":
        raise ToolError(ErrorCode.BACKEND_ERROR, "who knows")
    if fail == "after":
        raise ToolError(ErrorCode.BACKEND_ERROR, "done, but", executed=Executed.YES)
    if fail == "bug":
        raise RuntimeError
    return {"run": len(runs)}


@worker.tool(permission="test:write", idempotent=True)
async def put(ctx: Context[None], what: str) -> dict[str, int]:
    """May run twice."""
    runs.append(what)
    return {"run": len(runs)}


async def test_the_first_outcome_is_repeated_on_another_instance(run_worker, caller):
    async with run_worker(worker):
        first = await caller.call("test", "write", {"what": "a"}, idempotency_key="k1")
    async with run_worker(worker):
        again = await caller.call("test", "write", {"what": "a"}, idempotency_key="k1")
        other = await caller.call("test", "write", {"what": "a"}, idempotency_key="k2")
    assert first.structured == again.structured == {"run": 1}
    assert first.body == again.body
    assert "Opsbus-Replayed" not in first.headers
    assert again.headers["Opsbus-Replayed"] == "true"
    assert again.executed == "yes"
    assert other.structured == {"run": 2}


async def test_the_argument_is_a_key_as_well(run_worker, caller):
    async with run_worker(worker):
        for _ in range(2):
            reply = await caller.call("test", "write", {"what": "a", "idempotency_key": "k"})
            assert reply.structured == {"run": 1}


async def test_keys_are_the_callers_own(run_worker, caller):
    async with run_worker(worker):
        await caller.call("test", "write", {"what": "a"}, idempotency_key="k", identity="ann")
        bob = await caller.call("test", "write", {"what": "a"}, idempotency_key="k", identity="bob")
        put_too = await caller.call("test", "put", {"what": "a"}, idempotency_key="k", identity="ann")
    assert (bob.structured, put_too.structured) == ({"run": 2}, {"run": 3})


async def test_other_arguments_are_a_conflict(run_worker, caller):
    async with run_worker(worker):
        await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
        reply = await caller.call("test", "write", {"what": "b"}, idempotency_key="k")
    assert reply.error.code is ErrorCode.CONFLICT
    assert reply.executed == "no"
    assert runs == ["a"]


async def test_a_key_in_use_is_a_duplicate(run_worker, caller):
    gate["open"].clear()
    async with run_worker(worker), run_worker(worker):
        first = asyncio.create_task(caller.call("test", "write", {"what": "a"}, idempotency_key="k"))
        await gate["started"].wait()
        for _ in range(4):
            reply = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
            assert reply.error.code is ErrorCode.DUPLICATE_IN_PROGRESS
            assert reply.error.retryable
        gate["open"].set()
        assert (await first).structured == {"run": 1}
    assert runs == ["a"]


async def test_many_at_once_on_three_instances_run_once(run_worker, caller):
    async with run_worker(worker), run_worker(worker), run_worker(worker):
        calls = [caller.call("test", "write", {"what": "a"}, idempotency_key="k") for _ in range(30)]
        replies = await asyncio.gather(*calls)
    assert runs == ["a"]
    codes = {reply.error.code for reply in replies if reply.status is Status.ERROR}
    assert codes <= {ErrorCode.DUPLICATE_IN_PROGRESS}
    assert all(reply.structured == {"run": 1} for reply in replies if reply.status is Status.OK)


@pytest.mark.parametrize(("fail", "kept"), [("before", False), ("between", True), ("after", True), ("bug", True)])
async def test_a_failure_is_kept_when_it_may_have_had_its_effect(run_worker, caller, fail, kept):
    async with run_worker(worker):
        first = await caller.call("test", "write", {"what": "a", "fail": fail}, idempotency_key="k")
        again = await caller.call("test", "write", {"what": "a", "fail": fail}, idempotency_key="k")
    assert len(runs) == (1 if kept else 2)
    assert first.error.code is again.error.code
    assert first.executed == again.executed


async def test_a_dry_run_uses_no_key(run_worker, caller):
    async with run_worker(worker):
        await caller.call("test", "write", {"what": "a", "dry_run": True}, idempotency_key="k")
        reply = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
    assert reply.structured == {"run": 2}


async def left_behind(bus, until: float) -> None:
    """A worker died in the middle: its record stays ``running``."""
    js = await bus.jetstream()
    bucket = await js.key_value("IDEMPOTENCY")
    (key,) = await bucket_keys(js, "IDEMPOTENCY")
    record = json.loads((await bucket.get(key)).value.split(b"\n")[0])
    await bucket.put(key, json.dumps(record | {"state": "running", "until": until, "call": "x"}).encode())


async def test_what_a_dead_worker_left_is_unknown_for_a_write(run_worker, caller, bus):
    async with run_worker(worker):
        await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
        await left_behind(bus, until=time.time() + 60)
        early = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
        assert early.error.code is ErrorCode.DUPLICATE_IN_PROGRESS
        await left_behind(bus, until=time.time() - 1)
        late = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
    assert late.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert late.executed == "unknown"
    assert runs == ["a"]


async def test_what_a_dead_worker_left_runs_again_when_that_does_no_harm(run_worker, caller, bus):
    async with run_worker(worker):
        await caller.call("test", "put", {"what": "a"}, idempotency_key="k")
        await left_behind(bus, until=time.time() - 1)
        reply = await caller.call("test", "put", {"what": "a"}, idempotency_key="k")
        assert reply.structured == {"run": 2}
        assert (await caller.call("test", "put", {"what": "a"}, idempotency_key="k")).body == reply.body


async def test_without_the_bucket_nothing_runs(run_worker, caller, bus):
    await (await bus.jetstream()).delete_stream("KV_IDEMPOTENCY")
    async with run_worker(worker):
        reply = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
        assert reply.error.code is ErrorCode.UNAVAILABLE
        assert reply.executed == "no"
        assert runs == []
        assert (await caller.call("test", "write", {"what": "a"})).structured == {"run": 1}


@pytest.mark.parametrize("key", ["x" * (KEY_CHARS_MAX + 1), "a\u0000b"])
async def test_impossible_keys(run_worker, caller, key):
    async with run_worker(worker):
        reply = await caller.call("test", "write", {"what": "a", "idempotency_key": key})
    assert reply.error.code is ErrorCode.INVALID_ARGUMENTS
    assert runs == []


@pytest.mark.parametrize("end", ["deadline", "cancel"])
async def test_a_write_that_was_cut_short_is_unknown_at_once(run_worker, caller, end):
    gate["open"].clear()
    async with run_worker(worker):
        call_id = secrets.token_hex(16)
        deadline_s = 5.0 if end == "deadline" else 30
        first = asyncio.create_task(
            caller.call("test", "write", {"what": "a"}, idempotency_key="k", call_id=call_id, deadline_s=deadline_s)
        )
        await gate["started"].wait()
        if end == "cancel":
            await caller.cancel("test", call_id)
        reply = await first
        again = await caller.call("test", "write", {"what": "a"}, idempotency_key="k")
    assert reply.executed == again.executed == "unknown"
    assert reply.error.code is again.error.code
    assert again.headers["Opsbus-Replayed"] == "true"
    assert runs == ["a"]
