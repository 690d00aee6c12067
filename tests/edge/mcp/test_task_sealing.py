"""Tasks in the bus are sealed: who reads the bucket alone sees no person, no question, no answer, no result."""

import asyncio
import json

import pytest
from nats.js.errors import NotFoundError

from opsbus import Context, Elicit, Text, ToolResult, Worker
from opsbus_contracts.streams import TASKS
from opsbus_contracts.tasks import Task, TaskStatus, task_digest
from opsbus_edge.tasks import TaskSeal, TaskStore
from opsbus_edge.tasks.sealing import UnreadableError
from opsbus_edge.tasks.store import now_ms

EXTENSION = "io.modelcontextprotocol/tasks"
CAN = {"elicitation": {}, "extensions": {EXTENSION: {}}}
WAIT_S = 30
OLD, NEW = b"a-key-of-the-tests-that-is-long-enough-1", b"a-key-of-the-tests-that-is-long-enough-2"
PRIVATE = ("MaraSubject", "QuestionText", "AnswerText", "ResultText", "ArgumentText", "ProgressText", "StateText")


@pytest.fixture
async def asking(run_worker):
    worker = Worker("test", version="1.0.0")

    @worker.tool(permission="test:read", read_only=True)
    async def simple_text(ctx: Context, note: str) -> ToolResult:
        """Waits, asks twice, and ends."""
        await ctx.progress(1, 2, "ProgressText")
        await asyncio.sleep(0.4)
        schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
        answers = await ctx.ask_all({key: Elicit("QuestionText?", schema=schema) for key in ("one", "two")})
        return ToolResult(content=[Text(f"ResultText {answers['one']['x']}")])

    async with run_worker(worker):
        yield


async def all_of(bus):
    """Every value in the bucket, those that were replaced included where they are still there."""
    js = await bus.jetstream()
    info = await js.stream_info(f"KV_{TASKS.name}")
    found = {}
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        try:
            message = await js.get_msg(f"KV_{TASKS.name}", sequence)
        except NotFoundError:  # replaced
            continue
        found[message.subject] = message.data or b""
    return found


async def test_nothing_of_a_task_can_be_read_in_the_bucket(run_edge, asking, wait_known, raw, bus):
    async with run_edge(task_after_s=0.2) as one, run_edge(task_after_s=0.2) as two:
        await wait_known(one)
        await wait_known(two)
        client = raw("MaraSubject")

        async def ask(url, method, params):
            response = await client.modern(url, method, params, CAN)
            assert response.status_code == 200, response.text
            return response.json()["result"]

        async def until(status):
            async with asyncio.timeout(WAIT_S):
                while (found := await ask(two.mcp_url, "tasks/get", {"taskId": id}))["status"] != status:
                    await asyncio.sleep(0.05)
            return found

        arguments = {"note": "ArgumentText"}
        id = (await ask(one.mcp_url, "tools/call", {"name": "test_simple_text", "arguments": arguments}))["taskId"]
        await until("input_required")
        stored = [await all_of(bus)]
        for key in ("one", "two"):
            answer = {key: {"action": "accept", "content": {"x": "AnswerText"}}}
            await ask(two.mcp_url, "tasks/update", {"taskId": id, "inputResponses": answer})
            stored.append(await all_of(bus))
        ended = await until("completed")
        assert ended["result"]["content"][0]["text"] == "ResultText AnswerText"
        stored.append(await all_of(bus))
        digest = task_digest(id)
        assert f"$KV.{TASKS.name}.result.{digest}" in stored[-1]
        for values in stored:
            for subject, value in values.items():
                for text in PRIVATE:
                    assert text.encode() not in value, subject
        shown = json.loads(stored[-1][f"$KV.{TASKS.name}.task.{digest}"])
        assert (shown["status"], shown["tool"], shown["sub"]) == ("completed", "test_simple_text", "")


def task():
    now = now_ms()
    return Task(
        sub="mara",
        call="c" * 32,
        tool="test_simple_text",
        permission="test:read",
        status=TaskStatus.COMPLETED,
        message="well done",
        created_ms=now,
        updated_ms=now,
        ttl_ms=60_000,
        error={"code": 1, "data": None},
    )


async def test_what_lies_there_in_the_clear_or_under_an_older_key_is_read(bus):
    nc = await bus.connect("edge")
    clear, old, new = (TaskStore(nc, "edge-1", TaskSeal(keys)) for keys in ((), [OLD], [NEW, OLD]))
    for number, store in enumerate((clear, old, new)):
        await store.create(f"{number:040x}", task())
        await store.keep_result(f"{number:040x}", b'{"content":[]}')
        found = await new.find(f"{number:040x}")
        assert found is not None
        assert found.task.model_copy(update={"created_ms": 1, "updated_ms": 1}) == task().model_copy(
            update={"created_ms": 1, "updated_ms": 1}
        )
        assert await new.result(f"{number:040x}") == b'{"content":[]}'
    assert await old.find(f"{2:040x}") is None
    assert await old.result(f"{2:040x}") is None
    assert await clear.result(f"{1:040x}") is None


def test_what_is_sealed_is_bound_to_its_place_and_to_the_last_bit():
    seal = TaskSeal([OLD])
    kept = seal.seal(b"result", "result.1")
    assert seal.open(kept, "result.1") == b"result"
    assert seal.open(b'{"content":[]}', "result.1") == b'{"content":[]}'
    assert seal.seal(b"result", "result.1") != kept
    with pytest.raises(UnreadableError):
        seal.open(kept, "result.2")
    for at in range(4, len(kept)):
        changed = bytearray(kept)
        changed[at] ^= 1
        with pytest.raises(UnreadableError):
            seal.open(bytes(changed), "result.1")
    for short in range(4, len(kept)):
        with pytest.raises(UnreadableError):
            seal.open(kept[:short], "result.1")
    with pytest.raises(UnreadableError):
        TaskSeal([NEW]).open(kept, "result.1")
    with pytest.raises(UnreadableError):
        seal.open_text("not base64 at all", "task.1")
