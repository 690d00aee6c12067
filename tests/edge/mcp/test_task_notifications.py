"""``notifications/tasks``: who listens is told how their own tasks stand, at any edge, as tasks/get would say it."""

import asyncio
import json

import pytest

from opsbus import Context, Elicit, Text, ToolResult, Worker
from opsbus_contracts.tasks import Task, TaskStatus, task_digest
from opsbus_edge.mcp_face import streams
from opsbus_edge.tasks import TaskSeal, runner, store

EXTENSION = "io.modelcontextprotocol/tasks"
CAN = {"elicitation": {}, "extensions": {EXTENSION: {}}}
SOON = {"task_after_s": 0.2, "drain_timeout_s": 1}
WAIT_S = 30
ID = "io.modelcontextprotocol/subscriptionId"


class Long:
    """A worker whose tool waits, then asks, then ends."""

    def __init__(self):
        self.worker = Worker("test", version="1.0.0")
        self.go = asyncio.Event()

        @self.worker.tool(permission="test:read", read_only=True)
        async def simple_text(ctx: Context, ask: bool = False) -> ToolResult:
            """Waits."""
            await ctx.progress(1, 2, "half of it")
            await self.go.wait()
            if ask:
                schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
                answer = await ctx.ask("name", Elicit("Who?", schema=schema))
                return ToolResult(content=[Text(answer["x"])], structured={"who": answer["x"], "owner": None})
            return ToolResult(content=[Text("done")], structured={"who": "nobody", "owner": None})


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


async def ask(client, url, method, params, capabilities=CAN):
    response = await client.modern(url, method, params, capabilities)
    assert response.status_code == 200, f"{response.status_code} {response.text}"
    return response.json()["result"]


async def made(client, url, **arguments):
    result = await ask(client, url, "tools/call", {"name": "test_simple_text", "arguments": arguments})
    assert result["resultType"] == "task", result
    return result["taskId"]


class Told:
    """What a listen stream says."""

    def __init__(self, lines, client, url, ids, **more):
        body, headers = client.envelope("subscriptions/listen", {"notifications": {"taskIds": ids, **more}}, CAN)
        self._lines = lines(client, "POST", url, headers, body)
        self._at = 0

    async def __aenter__(self):
        await self._lines.__aenter__()
        found = await self.next()
        assert found["method"] == "notifications/subscriptions/acknowledged"
        self.honoured = found["params"]["notifications"]
        return self

    async def __aexit__(self, *exc):
        await self._lines.__aexit__(*exc)

    def all(self):
        return [json.loads(line.removeprefix("data:")) for line in self._lines.lines if line.startswith("data:")]

    async def next(self):
        async with asyncio.timeout(WAIT_S):
            while len(self.all()) <= self._at:
                assert not self._lines.over.is_set(), self._lines.lines
                await asyncio.sleep(0.02)
        self._at += 1
        return self.all()[self._at - 1]

    async def task(self, status):
        """The next notification with this status."""
        while True:
            found = await self.next()
            assert found["method"] == "notifications/tasks"
            assert "id" not in found
            params = found["params"]
            assert params.pop("_meta") == {ID: 1}
            assert "resultType" not in params
            if params["status"] == status:
                return params


def of_get(result):
    return {key: value for key, value in result.items() if key not in ("resultType", "_meta")}


async def test_a_task_is_told_from_working_by_its_questions_to_its_end_at_both_edges(edges, long, raw, lines):
    client = raw()
    id = await made(client, edges[0], ask=True)
    async with Told(lines, client, edges[0], [id]) as here, Told(lines, client, edges[1], [id]) as there:
        for told in (here, there):
            assert told.honoured == {"taskIds": [id]}
            assert (await told.task("working"))["taskId"] == id
        long.go.set()
        for told in (here, there):
            asks = await told.task("input_required")
            assert asks["inputRequests"]["name"]["method"] == "elicitation/create"
            assert asks == of_get(await ask(client, edges[1], "tasks/get", {"taskId": id}))
        answer = {"name": {"action": "accept", "content": {"x": "ada"}}}
        await ask(client, edges[1], "tasks/update", {"taskId": id, "inputResponses": answer})
        for told in (here, there):
            ended = await told.task("completed")
            assert ended["result"]["content"] == [{"type": "text", "text": "ada"}]
            assert ended["result"]["structuredContent"] == {"who": "ada", "owner": None}
            assert ended == of_get(await ask(client, edges[0], "tasks/get", {"taskId": id}))


async def test_one_that_has_ended_before_is_told_at_once_and_nothing_twice(edges, long, raw, lines, monkeypatch):
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.1)
    client = raw()
    long.go.set()
    first = await made_and_ended(client, edges[0], long)
    long.go.clear()
    second = await made(client, edges[0])
    async with Told(lines, client, edges[1], [first, second]) as told:
        assert (await told.task("completed"))["taskId"] == first
        await told.task("working")
        long.go.set()
        assert (await told.task("completed"))["taskId"] == second
        await asyncio.sleep(0.5)
        ends = [one["params"]["taskId"] for one in told.all()[1:] if one["params"]["status"] == "completed"]
        assert ends == [first, second]


async def made_and_ended(client, url, long):
    long.go.clear()
    id = await made(client, url)
    long.go.set()
    async with asyncio.timeout(WAIT_S):
        while (await ask(client, url, "tasks/get", {"taskId": id}))["status"] != "completed":
            await asyncio.sleep(0.05)
    return id


async def test_only_its_caller_is_told_and_only_of_what_was_asked(edges, long, raw, lines):
    ada, bob = raw("ada"), raw("bob")
    id, other = await made(ada, edges[0]), await made(ada, edges[0])
    theirs = await made(bob, edges[1])
    unknown = "0" * 40
    async with (
        Told(lines, bob, edges[1], [id, theirs, unknown, "x", "x"], toolsListChanged=True) as told,
        Told(lines, ada, edges[1], [id, id]) as mine,
    ):
        assert told.honoured == {"taskIds": [theirs], "toolsListChanged": True}
        assert mine.honoured == {"taskIds": [id]}
        long.go.set()
        await told.task("completed")
        await mine.task("completed")
        assert {one["params"]["taskId"] for one in told.all()[1:]} == {theirs}
        assert {one["params"]["taskId"] for one in mine.all()[1:]} == {id}
        assert other not in json.dumps(mine.all())
    async with Told(lines, raw("eve"), edges[0], [id]) as nothing:
        assert nothing.honoured == {}


@pytest.mark.parametrize("ids", ["4" * 40, {}, {"a": 1}, [None, 5, ["x"], "", "é", "*", ">"], 7, ["0" * 40] * 5_000])
async def test_what_is_no_task_id_is_not_acknowledged_and_breaks_nothing(run_edge, long, wait_known, raw, lines, ids):
    async with run_edge(**SOON) as edge:
        await wait_known(edge)
        async with Told(lines, raw(), edge.mcp_url, ids, toolsListChanged=True) as told:
            assert told.honoured == {"toolsListChanged": True}


async def test_who_lost_the_tool_s_right_is_told_no_more(run_edge, long, wait_known, raw, lines, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("roles: {admin: {allow: ['*']}, some: {allow: ['test:read']}}")
    async with run_edge(**SOON, policy_file=policy, stdio_roles=["admin"]) as edge:
        await wait_known(edge)
        ada, admin = raw("ada", ("some",)), raw("admin")
        id, free = await made(ada, edge.mcp_url), await made(admin, edge.mcp_url)
        async with Told(lines, ada, edge.mcp_url, [id]) as told, Told(lines, admin, edge.mcp_url, [free]) as other:
            await told.task("working")
            before = edge.edge.policy_watch._policy.digest
            policy.write_text("roles: {admin: {allow: ['*']}, some: {}}")
            async with asyncio.timeout(WAIT_S):
                while edge.edge.policy_watch._policy.digest == before:
                    await asyncio.sleep(0.05)
            long.go.set()
            await other.task("completed")
            await asyncio.sleep(0.5)
            assert [one["params"]["status"] for one in told.all()[1:]][-1] == "working"


async def test_listeners_are_told_that_a_task_s_edge_has_died(run_edge, long, wait_known, raw, lines, bus, monkeypatch):
    """Nobody says so on the bus: the edge that listens looks."""
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(runner, "BEAT_S", 0.2)
    now, id = store.now_ms(), "4" * 40
    gone = store.TaskStore(await bus.connect("edge"), "edge-gone", TaskSeal())
    async with run_edge(**SOON) as stays:
        await wait_known(stays)
        await gone.beat()
        task = Task(
            sub="ada",
            call="c" * 32,
            tool="test_simple_text",
            permission="test:read",
            status=TaskStatus.WORKING,
            created_ms=now,
            updated_ms=now,
            ttl_ms=60_000,
            owner="edge-gone",
        )
        await gone.create(task_digest(id), task)
        async with Told(lines, raw("ada"), stays.mcp_url, [id]) as told:
            await told.task("working")
            monkeypatch.setattr(store, "DEAD_AFTER_S", 0.5)
            ended = await told.task("failed")
            assert ended["error"]["data"]["code"] == "outcome_unknown"
            assert "died" in ended["statusMessage"]
