"""Calls that take long, as tasks: made at one edge, asked for at any, theirs alone, and never working for ever."""

import asyncio
import json
import signal
import time

import pytest

from opsbus import Context, Elicit, ErrorCode, Text, ToolError, ToolResult, Worker
from opsbus_edge.tasks import desk, runner, store

EXTENSION = "io.modelcontextprotocol/tasks"
CAN = {"elicitation": {}, "extensions": {EXTENSION: {}}}
SOON = {"task_after_s": 0.2, "drain_timeout_s": 1}
ENDED = ("completed", "failed", "cancelled")
WAIT_S = 40


def said(text):
    return ToolResult(content=[Text(text)])


def form(message):
    return Elicit(message, schema={"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]})


class Long:
    """A worker whose tools wait until they are let go."""

    def __init__(self):
        self.worker = Worker("test", version="1.0.0")
        self.written = 0
        self.started, self.cancelled, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @self.worker.tool(permission="test:read", read_only=True)
        async def simple_text(ctx: Context, size: int = 4) -> ToolResult:
            """Waits."""
            await self.wait(ctx)
            return said("d" * size)

        @self.worker.tool(permission="test:read", read_only=True)
        async def asks(ctx: Context) -> ToolResult:
            """Waits, then asks two questions at once, then one of them again."""
            await self.wait(ctx)
            answers = await ctx.ask_all({"first": form("First?"), "second": form("Second?")})
            third = await ctx.ask("third", form("Third?"))
            return said(" ".join(one["x"] for one in (answers["first"], answers["second"], third)))

        @self.worker.tool(permission="test:write")
        async def writes(ctx: Context) -> ToolResult:
            """Waits, and may have done something by then."""
            await self.wait(ctx)
            return said("written")

        @self.worker.tool(permission="test:write")
        async def writes_when_told(ctx: Context) -> ToolResult:
            """Waits, asks, and counts how often it went on."""
            await self.wait(ctx)
            await ctx.ask_all({"first": form("First?"), "second": form("Second?")})
            self.written += 1
            return said("written")

        @self.worker.tool(permission="test:read", read_only=True)
        async def quick(ctx: Context) -> ToolResult:
            """Does not wait."""
            return said("quick")

        @self.worker.tool(permission="test:read", read_only=True)
        async def wrong(ctx: Context, code: str) -> ToolResult:
            """Waits, then fails."""
            await self.wait(ctx)
            raise ToolError(ErrorCode(code), "it is wrong")

    async def wait(self, ctx):
        self.started.set()
        await ctx.progress(1, 2, "half of it")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
async def long(run_worker):
    made = Long()
    async with run_worker(made.worker):
        yield made
        made.go.set()


@pytest.fixture
async def edges(run_edge, long, wait_known):
    async with run_edge(**SOON) as one, run_edge(**SOON) as two:
        await wait_known(one)
        await wait_known(two)
        yield one.mcp_url, two.mcp_url


async def ask(client, url, method, params, capabilities=CAN, status=200):
    response = await client.modern(url, method, params, capabilities)
    assert response.status_code == status, f"{response.status_code} {response.text}"
    return response.json()


async def call(client, url, tool="test_simple_text", capabilities=CAN, **arguments):
    return (await ask(client, url, "tools/call", {"name": tool, "arguments": arguments}, capabilities))["result"]


async def made(client, url, tool="test_simple_text", **arguments):
    """A task's id."""
    result = await call(client, url, tool, **arguments)
    assert result["resultType"] == "task", result
    assert result["status"] == "working"
    assert result["createdAt"] <= result["lastUpdatedAt"]
    assert result["ttlMs"] > 0 < result["pollIntervalMs"]
    assert not {"result", "error", "inputRequests", "requestState", "task"} & result.keys()
    return result["taskId"]


async def get(client, url, id):
    result = (await ask(client, url, "tasks/get", {"taskId": id}))["result"]
    assert result["resultType"] == "complete"
    assert result["taskId"] == id
    assert ("result" in result, "error" in result, "inputRequests" in result) == (
        result["status"] == "completed",
        result["status"] == "failed",
        result["status"] == "input_required",
    )
    return result


async def until(client, url, id, *statuses):
    async with asyncio.timeout(WAIT_S):
        while (task := await get(client, url, id))["status"] not in statuses:
            await asyncio.sleep(0.05)
    return task


async def events(bus, stage, tool, wanted=1):
    """Of one tool's calls, once there are so many."""
    js = await bus.jetstream()
    async with asyncio.timeout(WAIT_S):
        while True:
            last = (await js.stream_info("AUDIT")).state.last_seq
            stored = [await js.get_msg("AUDIT", sequence) for sequence in range(1, last + 1)]
            found = [json.loads(one.data)["data"] for one in stored if one.subject == f"audit.edge.{stage}"]
            found = [event for event in found if event.get("tool") == tool]
            if len(found) >= wanted:
                return found
            await asyncio.sleep(0.1)


async def test_a_long_call_is_polled_to_its_end_at_any_edge(edges, long, raw, bus):
    one, two = edges
    client = raw()
    id = await made(client, one)
    assert (await get(client, one, id))["status"] == "working"
    assert (await get(client, two, id))["status"] == "working"
    long.go.set()
    ended = await until(client, two, id, *ENDED)
    assert ended["status"] == "completed"
    assert ended["result"]["content"] == [{"type": "text", "text": "dddd"}]
    assert (await get(client, one, id))["result"] == ended["result"]
    assert ended["lastUpdatedAt"] >= ended["createdAt"]
    requested, completed = [await events(bus, stage, "test_simple_text") for stage in ("requested", "completed")]
    assert [event["call"] for event in requested] == [event["call"] for event in completed]
    assert completed[0]["actor"] == "tester"


async def test_what_is_quick_or_of_a_client_without_the_extension_is_no_task(edges, long, raw, run_edge, wait_known):
    one, _ = edges
    client = raw()
    async with run_edge(task_after_s=WAIT_S) as patient:
        await wait_known(patient, "test_quick")
        assert (await call(client, patient.mcp_url, "test_quick"))["content"][0]["text"] == "quick"
    waiting = asyncio.create_task(call(client, one, capabilities={"elicitation": {}}))
    async with asyncio.timeout(WAIT_S):
        await long.started.wait()
    await asyncio.sleep(4 * SOON["task_after_s"])
    assert not waiting.done()
    long.go.set()
    result = await asyncio.wait_for(waiting, WAIT_S)
    assert result["resultType"] == "complete"
    assert result["content"][0]["text"] == "dddd"


async def test_the_extension_is_declared_where_it_holds(edges, raw, connect, run_edge):
    one, _ = edges
    client = raw()
    found = (await ask(client, one, "server/discover", {}))["result"]["capabilities"]
    assert found["extensions"] == {EXTENSION: {}}
    assert "tasks" not in found
    async with connect(one, mode="legacy") as session:
        assert not session.server_capabilities.extensions
    async with run_edge(task_after_s=0) as off:
        found = (await ask(client, off.mcp_url, "server/discover", {}))["result"]["capabilities"]
        assert "extensions" not in found
        refused = await ask(client, off.mcp_url, "tasks/get", {"taskId": "0" * 40}, status=404)
        assert refused["error"]["code"] == -32601


async def test_progress_is_told_by_the_task(edges, long, raw):
    one, two = edges
    client = raw()
    id = await made(client, one)
    async with asyncio.timeout(WAIT_S):
        while "half of it" not in (await get(client, two, id)).get("statusMessage", ""):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("at", [0, 1], ids=["at its own edge", "at another edge"])
async def test_cancelled_by_its_caller(edges, long, raw, bus, at):
    client = raw()
    id = await made(client, edges[0])
    assert not {"status", "taskId"} & (await cancel(client, edges[at], id)).keys()
    async with asyncio.timeout(WAIT_S):
        await long.cancelled.wait()
    ended = await until(client, edges[1], id, *ENDED)
    assert ended["status"] == "cancelled"
    assert "not undone" in ended["statusMessage"]
    await cancel(client, edges[at], id)
    assert (await get(client, edges[0], id)) == ended
    assert (await events(bus, "cancelled", "test_simple_text"))[0]["executed"] == "unknown"


async def cancel(client, url, id):
    result = (await ask(client, url, "tasks/cancel", {"taskId": id}))["result"]
    assert result["resultType"] == "complete"
    return result


async def update(client, url, id, **answers):
    accepted = {key: {"action": "accept", "content": {"x": x}} for key, x in answers.items()}
    result = (await ask(client, url, "tasks/update", {"taskId": id, "inputResponses": accepted}))["result"]
    assert result["resultType"] == "complete"
    assert not {"status", "taskId", "inputRequests"} & result.keys()


async def test_questions_in_the_middle(edges, long, raw, bus):
    one, two = edges
    client = raw()
    id = await made(client, one, "test_asks")
    long.go.set()
    task = await until(client, two, id, "input_required", *ENDED)
    assert set(task["inputRequests"]) == {"first", "second"}
    assert task["inputRequests"]["first"]["method"] == "elicitation/create"
    await update(client, two, id, first="a", nobody="z")
    assert set((await get(client, one, id))["inputRequests"]) == {"second"}
    await update(client, one, id, first="again")
    await update(client, one, id, second="b")
    task = await until(client, two, id, "input_required", *ENDED)
    assert set(task["inputRequests"]) == {"third"}
    await update(client, two, id, third="c")
    ended = await until(client, one, id, *ENDED)
    assert ended["result"]["content"][0]["text"] == "a b c"
    await update(client, two, id, third="too late")
    assert (await get(client, two, id)) == ended
    assert len(await events(bus, "input_required", "test_asks", 2)) == 2


async def test_a_key_is_never_used_twice(edges, long, raw):
    """An answer that does not fit is asked for again; the client must not take that for what it has answered."""
    one, two = edges
    client = raw()
    id = await made(client, one, "test_asks")
    long.go.set()
    seen = set()
    await until(client, one, id, "input_required")
    for _ in range(3):
        keys = set((await until(client, two, id, "input_required"))["inputRequests"])
        assert not keys & seen
        seen |= keys
        bad = {key: {"action": "accept", "content": {"x": 7}} for key in keys}
        await ask(client, two, "tasks/update", {"taskId": id, "inputResponses": bad})
        task = await until(client, one, id, "input_required", *ENDED)
        if task["status"] in ENDED:
            assert task["result"]["isError"]
            break


async def test_answers_at_once_at_two_edges_make_it_go_on_once(edges, long, raw):
    clients = raw(), raw()
    ids = [await made(clients[0], edges[number % 2], "test_writes_when_told") for number in range(6)]
    long.go.set()
    for id in ids:
        await until(clients[0], edges[0], id, "input_required")
        both = [{"first": "a"}, {"second": "b"}, {"first": "c", "second": "d"}]
        await asyncio.gather(*(update(clients[n % 2], edges[n % 2], id, **both[n % 3]) for n in range(6)))
    for id in ids:
        assert (await until(clients[1], edges[1], id, *ENDED))["status"] == "completed"
    assert long.written == len(ids)


async def test_cancelled_while_it_waits_for_answers(edges, long, raw):
    one, two = edges
    client = raw()
    id = await made(client, one, "test_asks")
    long.go.set()
    await until(client, one, id, "input_required")
    await cancel(client, two, id)
    assert (await get(client, one, id))["status"] == "cancelled"
    await update(client, one, id, first="a", second="b")
    assert (await get(client, two, id))["status"] == "cancelled"


async def test_a_question_the_client_cannot_answer_fails_the_task(edges, long, raw):
    one, _ = edges
    client = raw()
    able = {"extensions": {EXTENSION: {}}}
    id = (await call(client, one, "test_asks", able))["taskId"]
    long.go.set()
    ended = await until(client, one, id, *ENDED)
    # The kit sees it before it asks, and says so as JSON-RPC's error.
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == -32021
    assert ended["error"]["data"]["requiredCapabilities"] == {"elicitation": {}}


@pytest.mark.parametrize(
    ("code", "status"),
    [("invalid_request", "failed"), ("unknown_resource", "failed"), ("not_found", "completed"), ("busy", "completed")],
)
async def test_an_error_of_the_protocol_fails_and_one_of_the_tool_completes(edges, long, raw, code, status):
    client = raw()
    id = await made(client, edges[0], "test_wrong", code=code)
    long.go.set()
    ended = await until(client, edges[1], id, *ENDED)
    assert ended["status"] == status
    assert "it is wrong" in ended["statusMessage"]
    if status == "failed":
        assert ended["error"]["code"] == -32602
        assert ended["error"]["data"]["code"] == code
    else:
        assert ended["result"]["isError"] is True
        assert ended["result"]["structuredContent"]["error"]["code"] == code


async def test_it_is_its_caller_s_alone(edges, long, raw):
    one, two = edges
    id = await made(raw("ada"), one)
    for url in (one, two):
        for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": {}}), ("tasks/cancel", {})):
            refused = await ask(raw("bob"), url, method, {"taskId": id, **more}, status=400)
            assert refused["error"]["code"] == -32602
    assert not long.cancelled.is_set()
    taken_away = await ask(raw("ada", ("none",)), two, "tasks/get", {"taskId": id})
    assert taken_away["error"]["code"] == -32003
    long.go.set()
    assert (await until(raw("ada"), two, id, *ENDED))["status"] == "completed"


async def test_requests_that_are_wrong_are_refused(edges, long, raw):
    one, _ = edges
    client = raw()
    id = await made(client, one)
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        params = {"taskId": id, "inputResponses": {}}
        refused = await ask(client, one, method, params, {"elicitation": {}}, 400)
        assert refused["error"]["code"] == -32021
        assert refused["error"]["data"]["requiredCapabilities"] == {"extensions": {EXTENSION: {}}}
        for bad in ("0" * 40, "", "x", "0" * 39 + "*", "é", ">", "task.>", "a" * 5_000):
            response = await client.http.post(
                one,
                json=body(method, {**params, "taskId": bad}),
                headers={**client.modern_headers(method, {}), "Mcp-Name": encoded(bad)},
            )
            assert response.status_code == 400, f"{bad[:50]} {response.text}"
            assert response.json()["error"]["code"] == -32602, bad[:50]
        for other in ({}, {"Mcp-Name": "0" * 40}):
            headers = {**client.modern_headers(method, {}), **other}
            response = await client.http.post(one, json=body(method, params), headers=headers)
            assert response.status_code == 400
            assert response.json()["error"]["code"] == -32020
    for answers in (None, [], "x", {"first": "x"}, {"first": None}):
        refused = await ask(client, one, "tasks/update", {"taskId": id, "inputResponses": answers}, status=400)
        assert refused["error"]["code"] == -32602
    for removed in ("tasks/list", "tasks/result"):
        assert (await ask(client, one, removed, {"taskId": id}, status=404))["error"]["code"] == -32601
    listen = {"notifications": {"taskIds": [id]}}
    refused = await ask(client, one, "subscriptions/listen", listen, {}, 400)
    assert refused["error"]["code"] == -32021


def body(method, params):
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": CAN,
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def encoded(value):
    from mcp.shared.inbound import encode_header_value

    return encode_header_value(value)


async def test_a_task_is_kept_for_its_time_and_then_gone(run_edge, long, wait_known, raw, monkeypatch):
    ahead_ms, now_ms = 0, store.now_ms
    for module in (store, runner, desk):
        monkeypatch.setattr(module, "now_ms", lambda: now_ms() + ahead_ms)
    async with run_edge(**SOON, task_ttl_s=600, tasks_per_caller=1) as served:
        await wait_known(served)
        client = raw()
        id = await made(client, served.mcp_url)
        ahead_ms += 700_000
        assert (await get(client, served.mcp_url, id))["status"] == "working"
        long.go.set()
        ended = await until(client, served.mcp_url, id, *ENDED)
        assert ended["ttlMs"] >= 1_300_000
        assert (await get(client, served.mcp_url, id)) == ended
        ahead_ms += 601_000
        gone = await ask(client, served.mcp_url, "tasks/get", {"taskId": id}, status=400)
        assert gone["error"]["code"] == -32602
        long.go.clear()
        await made(client, served.mcp_url)  # what has expired counts no more


async def test_who_has_enough_tasks_waits_for_further_calls(run_edge, long, wait_known, raw):
    async with run_edge(**SOON, tasks_per_caller=2) as one, run_edge(**SOON, tasks_per_caller=2) as two:
        await wait_known(one)
        await wait_known(two)
        calls = [asyncio.create_task(call(raw(), served.mcp_url)) for served in (one, two) for _ in range(3)]
        async with asyncio.timeout(WAIT_S):
            while sum(one.done() for one in calls) < 2:
                await asyncio.sleep(0.05)
        await made(raw("another"), one.mcp_url)
        long.go.set()
        results = await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)
        assert sorted(result["resultType"] for result in results) == ["complete"] * 4 + ["task"] * 2
        for id in [result["taskId"] for result in results if result["resultType"] == "task"]:
            assert (await until(raw(), one.mcp_url, id, *ENDED))["status"] == "completed"


async def test_a_result_that_is_too_large_is_said_to_be(run_edge, long, wait_known, raw):
    async with run_edge(**SOON, task_result_bytes_max=10_000) as served:
        await wait_known(served)
        client = raw()
        small, large = [await made(client, served.mcp_url, size=size) for size in (9_000, 20_000)]
        long.go.set()
        assert len((await until(client, served.mcp_url, small, *ENDED))["result"]["content"][0]["text"]) == 9_000
        ended = await until(client, served.mcp_url, large, *ENDED)
        error = ended["result"]["structuredContent"]["error"]
        assert (ended["status"], ended["result"]["isError"]) == ("completed", True)
        assert (error["code"], error["executed"]) == ("result_too_large", "yes")


async def test_a_client_that_goes_before_there_is_a_task_ends_the_call(run_edge, long, wait_known, raw):
    async with run_edge(task_after_s=60) as served:
        await wait_known(served)
        request = asyncio.create_task(call(raw(), served.mcp_url))
        async with asyncio.timeout(WAIT_S):
            await long.started.wait()
            request.cancel()
            await long.cancelled.wait()


async def test_an_edge_that_is_shut_down_lets_tasks_end_or_says_that_it_cut_them_short(run_edge, long, wait_known, raw):
    client = raw()
    async with run_edge(**SOON) as stays:
        await wait_known(stays)
        for let_go, status in ((True, "completed"), (False, "failed")):
            long.go.clear()
            async with run_edge(task_after_s=0.2, drain_timeout_s=WAIT_S if let_go else 0.2) as leaves:
                await wait_known(leaves)
                id = await made(client, leaves.mcp_url)
                leaving = asyncio.create_task(leaves.stop())
                if let_go:
                    await asyncio.sleep(0.5)
                    long.go.set()
                await asyncio.wait_for(leaving, WAIT_S)
            ended = await get(client, stays.mcp_url, id)
            assert ended["status"] == status
            if status == "failed":
                assert (ended["error"]["data"]["code"], ended["error"]["data"]["executed"]) == (
                    "outcome_unknown",
                    "unknown",
                )


@pytest.mark.timeout(120)
async def test_a_task_whose_edge_is_killed_ends_as_unknown(spawn_edge, run_edge, long, wait_known, raw, bus):
    client = raw()
    async with run_edge(**SOON) as stays, spawn_edge(OPSBUS_EDGE_TASK_AFTER_S="0.2") as killed:
        await wait_known(stays)
        async with asyncio.timeout(WAIT_S):
            while (await client.modern(killed.mcp_url, "tools/call", {"name": "test_quick"}, CAN)).status_code != 200:
                await asyncio.sleep(0.1)
        working = await made(client, killed.mcp_url)
        asking = await made(client, killed.mcp_url, "test_asks")
        writing = await made(client, killed.mcp_url, "test_writes")
        assert (await get(client, stays.mcp_url, working))["status"] == "working"
        killed.signal(signal.SIGKILL)
        began = time.monotonic()
        ended = await until(client, stays.mcp_url, working, *ENDED)
        print(f"known to be dead after {time.monotonic() - began:.1f} s")
        assert ended["status"] == "failed"
        error = ended["error"]
        assert (error["data"]["code"], error["data"]["executed"]) == ("outcome_unknown", "unknown")
        assert "died" in ended["statusMessage"]
        recorded = (await events(bus, "failed", "test_simple_text"))[0]
        assert (recorded["error"], recorded["executed"]) == ("outcome_unknown", "unknown")
        assert recorded["call"] == (await events(bus, "requested", "test_simple_text"))[0]["call"]
        await cancel(client, stays.mcp_url, working)
        assert (await get(client, stays.mcp_url, working)) == ended
        assert (await get(client, stays.mcp_url, writing))["error"]["data"]["executed"] == "unknown"
        assert [one["executed"] for one in await events(bus, "unknown", "test_writes")] == ["unknown"]
        await cancel(client, stays.mcp_url, asking)
        assert (await get(client, stays.mcp_url, asking))["status"] == "failed"


@pytest.mark.timeout(120)
async def test_a_task_that_waits_for_answers_outlives_its_edge(spawn_edge, run_edge, long, wait_known, raw):
    client = raw()
    async with run_edge(**SOON) as stays:
        await wait_known(stays)
        async with spawn_edge(OPSBUS_EDGE_TASK_AFTER_S="0.2") as killed:
            async with asyncio.timeout(WAIT_S):
                while "quick" not in (await client.modern(killed.mcp_url, "tools/call", {"name": "test_quick"})).text:
                    await asyncio.sleep(0.1)
            id = await made(client, killed.mcp_url, "test_asks")
            long.go.set()
            await until(client, stays.mcp_url, id, "input_required")
            killed.signal(signal.SIGKILL)
        await update(client, stays.mcp_url, id, first="a", second="b")
        assert set((await until(client, stays.mcp_url, id, "input_required"))["inputRequests"]) == {"third"}
        await update(client, stays.mcp_url, id, third="c")
        assert (await until(client, stays.mcp_url, id, *ENDED))["result"]["content"][0]["text"] == "a b c"
