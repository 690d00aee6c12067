"""Each trap of FastStream and nats-py that broker.py closes, sprung on purpose."""

import asyncio
import json
import secrets
from functools import partial

import pytest
from opentelemetry.sdk.trace import TracerProvider

from opsbus import Context, ErrorCode, Worker
from opsbus.broker import CallBroker
from opsbus.testing.caller import NoRespondersError
from opsbus.testing.waiting import until
from opsbus.tracing import Tracing
from opsbus_contracts import Header, Status

worker = Worker("test", version="1.0.0")
gate: dict[str, asyncio.Event] = {}


@worker.tool(permission="test:run")
async def explode(ctx: Context[None], kind: str) -> str:
    """Raises."""
    if kind == "exception":
        raise RuntimeError("the password is hunter2")
    if kind == "base":
        raise asyncio.CancelledError
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


@worker.tool(permission="test:run", read_only=True, budget_bytes=10_000_000)
async def big(ctx: Context[None], size: int) -> str:
    """Returns much."""
    return "x" * size


@worker.tool(permission="test:run", read_only=True)
async def wait(ctx: Context[None], number: int = 0) -> int:
    """Ends when the test says so."""
    gate["started"].set()
    await gate["open"].wait()
    return number


@pytest.fixture(params=["straight to the handler", "through FastStream's pipeline"])
def traces(request):
    """Calls whose trace is recorded take the other way."""
    return TracerProvider() if "pipeline" in request.param else None


@pytest.fixture
def run_worker(run_worker, traces):
    return partial(run_worker, tracer_provider=traces)


@pytest.fixture(autouse=True)
def fresh_gate():
    gate.update(started=asyncio.Event(), open=asyncio.Event())


@pytest.mark.parametrize("kind", ["exception", "base", "group"])
async def test_a_handlers_exception_is_answered_without_its_text(run_worker, caller, kind):
    async with run_worker(worker):
        reply = await caller.call("test", "explode", {"kind": kind})
    assert reply.error.code is ErrorCode.INTERNAL
    assert reply.executed == "unknown"  # it may have changed something before it failed
    assert b"hunter2" not in reply.body
    assert b"Traceback" not in reply.body


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"arguments": 7}', b'{"arguments": {"kind": 1}']
)
async def test_bad_json_is_answered(run_worker, caller, body):
    async with run_worker(worker):
        reply = await caller.send("tool.test.explode", body)
    assert reply.error.code is ErrorCode.INVALID_REQUEST
    assert reply.executed == "no"


async def test_a_validation_error_is_answered(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "explode", {"kind": ["a"], "knd": 1})
    assert reply.error.code is ErrorCode.INVALID_ARGUMENTS
    assert {problem["field"] for problem in reply.error.details["errors"]} == {"kind", "knd"}
    assert reply.error.did_you_mean == ["kind"]


async def test_an_oversize_reply_is_answered(run_worker, caller):
    async with run_worker(worker):
        fits = await caller.call("test", "big", {"size": 200_000})
        over = await caller.call("test", "big", {"size": 2_000_000})
    assert len(fits.structured["result"]) == 200_000
    assert over.error.code is ErrorCode.RESULT_TOO_LARGE
    assert over.error.details["bytes"] > 2_000_000


async def test_what_the_handler_did_not_measure_is_answered_all_the_same(bus, caller, traces):
    """The net below execute.py: a handler that raises, and one whose reply the server would refuse."""

    async def careless(msg):
        if msg.data == b"raise":
            raise ValueError("secret")
        return b"x" * 5_000_000, {}

    async def connect():
        return await bus.connect("test")

    broker = CallBroker(connect, ["tool.test.*"], "test", careless, at_once=2, middlewares=Tracing(traces).middlewares)
    await broker.connect()
    await broker.start()
    try:
        for body in (b"raise", b"oversize"):
            reply = await caller.send("tool.test.x", body)
            assert reply.error.code is ErrorCode.INTERNAL
            assert reply.executed == "unknown"
            assert b"secret" not in reply.body
    finally:
        await broker.drain(1)
        await broker.stop()


async def test_what_cannot_be_published_is_answered_all_the_same(bus, caller, traces):
    """An invalid header fails after the handler, where FastStream alone would leave the caller waiting."""

    async def bad_header(msg):
        return b"fine", {Header.STATUS.value: Status.OK.value, "no: header": "x"}

    async def connect():
        return await bus.connect("test")

    broker = CallBroker(
        connect, ["tool.test.*"], "test", bad_header, at_once=2, middlewares=Tracing(traces).middlewares
    )
    await broker.connect()
    await broker.start()
    try:
        assert (await caller.send("tool.test.x", b"")).error.code is ErrorCode.INTERNAL
    finally:
        await broker.drain(1)
        await broker.stop()


@pytest.mark.parametrize("bound", ["BACKLOG_MAX", "BACKLOG_BYTES_MAX"])
async def test_a_flood_is_told_busy_and_nobody_waits_in_vain(run_worker, caller, monkeypatch, bound):
    gate["open"].set()
    monkeypatch.setattr("opsbus.broker.TURN", 1)
    monkeypatch.setattr(f"opsbus.broker.{bound}", 3)
    async with run_worker(worker, concurrency=100):
        replies = await asyncio.gather(*(caller.call("test", "wait", {"number": n}) for n in range(200)))
        assert (await caller.call("test", "wait")).status is Status.OK
    refused = [reply for reply in replies if reply.status is Status.ERROR]
    assert 0 < len(refused) < 200
    assert {(reply.error.code, reply.executed) for reply in refused} == {(ErrorCode.BUSY, "no")}


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_drain_answers_all_that_came(run_worker, caller, concurrency):
    """Running, waiting in the queue, and still on the way when the worker is told to stop."""
    async with run_worker(worker, concurrency=concurrency, queue=20) as running:
        calls = [asyncio.create_task(caller.call("test", "wait", {"number": n})) for n in range(10)]
        await gate["started"].wait()
        await until(lambda: running.gate.in_flight + running.gate.waiting == 10)
        stopping = asyncio.create_task(running.stop())
        await until(lambda: nobody_listens(caller))  # the subscription leaves the server a moment after the stop began
        assert not stopping.done()
        gate["open"].set()
        replies = await asyncio.gather(*calls)
        await stopping
    assert [reply.structured["result"] for reply in replies] == list(range(10))


async def nobody_listens(caller) -> bool:
    try:
        await caller.call("test", "wait", deadline_s=-1)
    except NoRespondersError:
        return True
    return False


async def test_drain_of_a_burst_loses_nothing(run_worker, caller):
    """Stop in the middle of a burst: each call is answered, or nobody was there and it was not executed."""
    gate["open"].set()
    async with run_worker(worker, concurrency=4, queue=1000) as running:
        calls = [asyncio.create_task(caller.call("test", "wait", {"number": n})) for n in range(300)]
        await gate["started"].wait()
        await running.stop()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    answered = [end for end in ends if not isinstance(end, BaseException)]
    assert all(isinstance(end, NoRespondersError) for end in ends if isinstance(end, BaseException))
    assert answered
    assert all(reply.status is Status.OK for reply in answered)


async def test_drain_timeout_answers_what_does_not_end(run_worker, caller):
    async with run_worker(worker, drain_timeout_s=0.2) as running:
        call = asyncio.create_task(caller.call("test", "wait"))
        await gate["started"].wait()
        await running.stop()
        reply = await call
    assert reply.error.code is ErrorCode.UNAVAILABLE
    assert reply.executed == "no"  # it only reads


async def test_ready_means_ready(run_worker, caller):
    """The first request after the start is answered, at every start."""
    gate["open"].set()
    for _ in range(15):
        async with run_worker(worker):
            assert (await caller.call("test", "wait")).status is Status.OK


async def test_no_reply_subject_is_no_call(run_worker, caller, bus):
    """Who cannot be answered is not served."""
    async with run_worker(worker):
        headers = {
            Header.CALL.value: secrets.token_hex(16),
            Header.IDENTITY.value: caller.token("tester", service="test"),
        }
        await caller.client.publish("tool.test.wait", json.dumps({}).encode(), headers=headers)
        await caller.client.flush()
        gate["open"].set()
        assert (await caller.call("test", "big", {"size": 1})).status is Status.OK
        assert not gate["started"].is_set()
