"""Every way a dispatch can end, against a worker that is written by hand and misbehaves on demand."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.kv import KeyValue

from opsbus import tasks
from opsbus.testing.bus import Bus
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_edge.dispatch import inbox
from opsbus_edge.dispatch.dispatcher import ATTEMPTS_MAX

HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
OK = {"Opsbus-Status": "ok", "Opsbus-Instance": "demo-raw", "Opsbus-Executed": "yes"}
RESULT = b'{"resultType":"complete","content":[],"isError":false}'

Handle = Callable[[Msg], Awaitable[None]]


def tool(name: str, **more: Any) -> dict[str, Any]:
    """A tool of a manifest."""
    return {
        "name": name,
        "inputSchema": {"type": "object"},
        "annotations": HINTS,
        "permission": "demo:read",
    } | more


def manifest(*tools: dict[str, Any], instance: str = "demo-raw", **more: Any) -> bytes:
    """A manifest of the service ``demo``."""
    head = {"service": "demo", "instance": instance, "version": "1.0.0", "started_at": datetime.now(UTC).isoformat()}
    return json.dumps(head | {"tools": list(tools)} | more).encode()


class Raw:
    """A worker without the kit."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.seen: list[Msg] = []
        self.cancelled = asyncio.Event()
        self.handle: Handle = self.fine
        self._beats: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.nc.subscribe("tool.demo.*", queue="demo", cb=self._received)
        await self.nc.subscribe("cancel.demo", cb=self._cancel)
        await self.announce("demo-raw")

    async def announce(self, instance: str) -> None:
        bucket = await self.nc.jetstream().key_value("CATALOG")
        write = HINTS | {"readOnlyHint": False, "idempotentHint": False}
        tools = (tool("read"), tool("write", annotations=write), tool("brief", timeout_s=0.3, annotations=write))
        said = manifest(*tools, instance=instance)
        await bucket.put(f"demo.{instance}", said)
        await self.nc.flush()
        self._beats.append(asyncio.create_task(self._beat(bucket, f"demo.{instance}", said)))

    async def _beat(self, bucket: KeyValue, key: str, said: bytes) -> None:
        """What is said once is forgotten after CATALOG_TTL_S, in the middle of a test on a busy machine."""
        while True:
            await asyncio.sleep(CATALOG_TTL_S / 4)
            await bucket.put(key, said)

    async def stop(self) -> None:
        await tasks.end(*self._beats)

    async def fine(self, msg: Msg) -> None:
        await self.reply(msg, RESULT, OK)

    async def reply(self, msg: Msg, body: bytes, headers: dict[str, str]) -> None:
        await self.nc.publish(msg.reply, body, headers=headers)

    async def _received(self, msg: Msg) -> None:
        self.seen.append(msg)
        await self.handle(msg)

    async def _cancel(self, msg: Msg) -> None:
        self.cancelled.set()


@pytest.fixture
async def raw(bus: Bus, running) -> AsyncIterator[Raw]:
    worker = Raw(await bus.connect("demo"))
    await worker.start()
    await running.knows("demo_read", "demo_write", "demo_brief")
    yield worker
    await worker.stop()


async def test_the_request_carries_what_the_contract_says(running, raw: Raw) -> None:
    answer = await running.call(
        "demo_read",
        {"a": [1, {"b": "ü"}]},
        headers={"idempotency-key": "key-1", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"},
        meta={"progressToken": 5, "io.modelcontextprotocol/logLevel": "warning"},
        capabilities={"elicitation": {}},
    )
    assert answer.result["isError"] is False
    (msg,) = raw.seen
    body, headers = json.loads(msg.data), msg.headers
    assert body["arguments"] == {"a": [1, {"b": "ü"}]}
    assert body["client"] == {
        "name": "test", "version": "1", "protocol": "2026-07-28", "capabilities": {"elicitation": {}},
    }  # fmt: skip
    assert body["progress"] is True
    assert body["log_level"] == "warning"
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["traceparent"].split("-")[1] == "1" * 32
    assert headers["Opsbus-Attempt"] == "1"
    assert len(headers["Opsbus-Call"]) == 32
    assert 0 < int(headers["Opsbus-Deadline"]) / 1000 - time.time() < 31
    assert headers["Opsbus-Identity"].count(".") == 2
    token = running.keys.token("admin")
    assert token.split(".")[2] not in str(headers)
    assert token.split(".")[2].encode() not in msg.data


async def test_the_identity_is_minted_once_per_caller(running, raw: Raw) -> None:
    for role in ("admin", "admin", "viewer"):
        await running.call("demo_read", role=role)
    tokens = [msg.headers["Opsbus-Identity"] for msg in raw.seen]
    assert tokens[0] == tokens[1] != tokens[2]


BAD_REPLIES = {
    "no status": (b"{}", {}),
    "unknown status": (b"{}", {"Opsbus-Status": "perhaps"}),
    "no object": (b"[]", OK),
    "empty": (b"", OK),
    "cut off": (b'{"content":[', OK),
    "error without a body": (b"", {"Opsbus-Status": "error", "Opsbus-Executed": "no"}),
    "error that is none": (b'{"message": 5}', {"Opsbus-Status": "error", "Opsbus-Executed": "no"}),
}


@pytest.mark.parametrize("kind", BAD_REPLIES)
async def test_a_reply_that_is_none_is_told_as_bad_reply(running, raw: Raw, kind: str) -> None:
    body, headers = BAD_REPLIES[kind]
    raw.handle = lambda msg: raw.reply(msg, body, headers)
    error = (await running.call("demo_write")).tool_error
    assert error["code"] == "bad_reply"
    assert error["executed"] == headers.get("Opsbus-Executed", "unknown")
    assert len(raw.seen) == 1


async def test_results_that_bend_the_form_still_arrive(running, raw: Raw) -> None:
    pretty = json.dumps({"content": [{"type": "text", "text": "x"}], "_meta": {"mine": 1}}, indent=2).encode()
    raw.handle = lambda msg: raw.reply(msg, pretty, OK)
    result = (await running.call("demo_read")).result
    assert result["resultType"] == "complete"
    assert result["_meta"]["mine"] == 1
    assert "io.modelcontextprotocol/serverInfo" in result["_meta"]
    raw.handle = lambda msg: raw.reply(msg, b'{"content":[],"_meta":{"a":1},}', OK)
    assert (await running.call("demo_read")).tool_error["code"] == "bad_reply"


async def test_header_and_body_that_disagree_about_execution_are_not_believed(running, raw: Raw) -> None:
    body = json.dumps({"code": "conflict", "message": "m", "executed": "no"}).encode()
    raw.handle = lambda msg: raw.reply(msg, body, {"Opsbus-Status": "error", "Opsbus-Executed": "yes"})
    error = (await running.call("demo_write")).tool_error
    assert (error["code"], error["executed"]) == ("conflict", "unknown")


async def test_busy_is_tried_again_and_then_told(running, raw: Raw) -> None:
    busy = json.dumps({"code": "busy", "message": "full", "executed": "no", "retryable": True}).encode()
    headers = {"Opsbus-Status": "error", "Opsbus-Error-Code": "busy", "Opsbus-Executed": "no"}

    async def second_time(msg: Msg) -> None:
        await raw.reply(msg, *((busy, headers) if len(raw.seen) == 1 else (RESULT, OK)))

    raw.handle = second_time
    assert (await running.call("demo_write")).result["isError"] is False
    assert [msg.headers["Opsbus-Attempt"] for msg in raw.seen] == ["1", "2"]
    raw.seen.clear()
    raw.handle = lambda msg: raw.reply(msg, busy, headers)
    error = (await running.call("demo_write")).tool_error
    assert (error["code"], error["executed"]) == ("busy", "no")
    assert len(raw.seen) == ATTEMPTS_MAX


async def test_an_old_instance_that_does_not_know_the_tool_is_passed_over(running, raw: Raw) -> None:
    unknown = json.dumps({"code": "unknown_tool", "message": "?", "executed": "no"}).encode()
    headers = {"Opsbus-Status": "error", "Opsbus-Error-Code": "unknown_tool", "Opsbus-Executed": "no"}

    async def second_time(msg: Msg) -> None:
        await raw.reply(msg, *((unknown, headers) if len(raw.seen) == 1 else (RESULT, OK)))

    raw.handle = second_time
    await raw.announce("demo-raw2")
    async with asyncio.timeout(30):
        while len(running.edge.catalog.tool("demo_write").instances) < 2:
            await asyncio.sleep(0.01)
    assert (await running.call("demo_write")).result["isError"] is False
    assert len(raw.seen) == 2


async def test_a_silent_write_is_unknown_and_a_silent_read_tried_elsewhere(running, raw: Raw) -> None:
    async def silent(msg: Msg) -> None:
        if len(raw.seen) > 2:
            await raw.fine(msg)

    raw.handle = silent
    read, write = await asyncio.gather(running.call("demo_read"), running.call("demo_write"))
    assert write.tool_error["code"] == "outcome_unknown"
    assert read.result["isError"] is False
    subjects = [msg.subject for msg in raw.seen]
    assert subjects.count("tool.demo.write") == 1
    assert subjects.count("tool.demo.read") == 2


async def test_heartbeats_keep_a_call_alive_beyond_the_silence_bound(running, raw: Raw, monkeypatch) -> None:
    monkeypatch.setattr("opsbus_edge.dispatch.dispatcher.SILENCE_MAX_S", 2.0)

    async def beating(msg: Msg) -> None:
        for _ in range(25):
            await raw.reply(msg, b"", {"Opsbus-Status": "heartbeat"})
            await asyncio.sleep(0.1)
        await raw.fine(msg)

    raw.handle = beating
    assert (await running.call("demo_write")).result["isError"] is False


async def test_the_deadline_ends_a_call_and_the_worker_is_told(running, raw: Raw, monkeypatch) -> None:
    monkeypatch.setattr("opsbus_edge.dispatch.dispatcher.DEADLINE_GRACE_S", 0.2)

    async def beating(msg: Msg) -> None:
        while not raw.cancelled.is_set():
            await raw.reply(msg, b"", {"Opsbus-Status": "heartbeat"})
            await asyncio.sleep(0.05)

    raw.handle = beating
    error = (await running.call("demo_brief")).tool_error
    assert (error["code"], error["executed"]) == ("deadline_exceeded", "unknown")
    await asyncio.wait_for(raw.cancelled.wait(), 30)


def _ignored(running: Any, why: str) -> float:
    return running.edge.metrics.replies_ignored.labels(why)._value.get()


async def test_a_second_final_reply_is_counted_and_not_delivered(running, raw: Raw) -> None:
    async def twice(msg: Msg) -> None:
        await raw.reply(msg, RESULT, OK)
        await raw.reply(msg, b'{"content":[{"type":"text","text":"again"}]}', OK)

    raw.handle = twice
    answer = await running.call("demo_read")
    assert answer.result["content"] == []
    async with asyncio.timeout(30):
        while _ignored(running, "duplicate") != 1:
            await asyncio.sleep(0.01)


async def test_a_late_reply_is_ignored(running, raw: Raw, monkeypatch) -> None:
    monkeypatch.setattr("opsbus_edge.dispatch.dispatcher.SILENCE_MAX_S", 0.2)

    async def late(msg: Msg) -> None:
        await asyncio.sleep(0.5)
        await raw.fine(msg)

    raw.handle = late
    assert (await running.call("demo_write")).tool_error["code"] == "outcome_unknown"
    async with asyncio.timeout(30):
        while _ignored(running, "late") != 1:
            await asyncio.sleep(0.01)


async def test_a_strangers_message_on_the_inbox_hurts_nobody(running, raw: Raw, bus: Bus) -> None:
    edge = await bus.connect("edge")
    await edge.publish(f"_INBOX.edge.{running.edge.instance}.nonsense", b"x" * 1000, headers={"Opsbus-Status": "ok"})
    await edge.flush()
    assert (await running.call("demo_read")).result["isError"] is False
    async with asyncio.timeout(30):
        while _ignored(running, "stranger") != 1:  # a flush may go ahead of what was just published
            await asyncio.sleep(0.01)


async def test_garbage_between_is_dropped_and_progress_only_rises(running, raw: Raw) -> None:
    async def noisy(msg: Msg) -> None:
        for body in (b'{"progress":1}', b"garbage", b'{"progress":1}', b'{"progress":0.5}', b"[]", b'{"progress":2}'):
            await raw.reply(msg, body, {"Opsbus-Status": "progress"})
        for body in (b'{"level":"info","data":1}', b'{"level":7,"data":1}', b'{"level":"info"}'):
            await raw.reply(msg, body, {"Opsbus-Status": "log"})
        await raw.fine(msg)

    raw.handle = noisy
    meta = {"progressToken": "t", "io.modelcontextprotocol/logLevel": "debug"}
    answer = await running.call("demo_read", meta=meta)
    kinds = [message.get("method") for message in answer.messages[:-1]]
    assert kinds == ["notifications/progress"] * 2 + ["notifications/message"]
    assert [m["params"]["progress"] for m in answer.messages[:2]] == [1, 2]


async def test_a_flood_of_progress_is_bounded_and_the_answer_still_comes(running, raw: Raw) -> None:
    slot = inbox.Slot("t")
    for number in range(5_000):
        slot.push(Msg(_client=None, subject="s", headers={"Opsbus-Status": "progress"}, data=b"%d" % number))
    slot.push(Msg(_client=None, subject="s", headers=OK, data=RESULT))
    assert slot.dropped == 5_000 - inbox.WAITING_MAX
    found = [await slot.next(0) for _ in range(inbox.WAITING_MAX + 1)]
    assert found[-1].data == RESULT
    assert await slot.next(0) is None


async def test_a_few_large_messages_are_bounded_by_their_bytes() -> None:
    slot = inbox.Slot("t")
    for _ in range(10):
        slot.push(Msg(_client=None, subject="s", headers={"Opsbus-Status": "progress"}, data=b"x" * 800_000))
    assert slot.dropped == 10 - inbox.WAITING_BYTES_MAX // 800_000
    await slot.next(0)
    slot.push(Msg(_client=None, subject="s", headers={"Opsbus-Status": "progress"}, data=b"x" * 800_000))
    assert slot.dropped == 5


async def test_requests_too_large_for_the_bus_are_refused_unsent(running, raw: Raw) -> None:
    answer = await running.call("demo_write", {"text": "x" * 950_000})
    assert answer.error["data"]["code"] == "request_too_large"
    assert answer.error["data"]["executed"] == "no"
    assert raw.seen == []


async def test_a_callers_share_of_concurrency_is_bounded(run_edge, bus: Bus) -> None:
    async with run_edge(calls_per_caller=2) as running:
        worker = Raw(await bus.connect("demo"))
        release = asyncio.Event()

        async def wait(msg: Msg) -> None:
            asyncio.get_running_loop().create_task(later(msg))

        async def later(msg: Msg) -> None:
            await release.wait()
            await worker.fine(msg)

        worker.handle = wait
        await worker.start()
        await running.knows("demo_read")
        held = [asyncio.create_task(running.call("demo_read")) for _ in range(2)]
        async with asyncio.timeout(30):
            while len(worker.seen) < 2:
                await asyncio.sleep(0.01)
        refused = await running.call("demo_read")
        assert refused.error["code"] == -32006
        assert refused.error["data"]["retry_after_ms"] > 0
        other = asyncio.create_task(running.call("demo_read", role="viewer"))
        async with asyncio.timeout(30):
            while len(worker.seen) < 3:
                await asyncio.sleep(0.01)
        release.set()
        for answer in await asyncio.gather(*held, other):
            assert answer.result["isError"] is False
        assert (await running.call("demo_read")).result["isError"] is False
        await worker.stop()
