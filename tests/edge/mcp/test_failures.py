"""What goes wrong inside never reaches a client as it is: a code, a sentence, a hint."""

import asyncio
import json

import pytest
from mcp.shared.exceptions import MCPError

from opsbus import tasks
from opsbus_contracts.calls import Header
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_contracts.errors import ErrorBody, Executed
from opsbus_edge.mcp_face.results import checked, for_era

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
SECRET = "password=hunter2 in /some/file.py"


@ERAS
async def test_a_bug_is_told_without_its_text(served, connect, mode, monkeypatch):
    def broken(*_):
        raise RuntimeError(SECRET)

    async with connect(served.mcp_url, mode=mode) as client:
        monkeypatch.setattr(served.edge.catalog, "_pages", type("Broken", (), {"page": broken}))
        with pytest.raises(MCPError) as caught:
            await client.list_prompts()
        assert caught.value.code == -32603
        assert caught.value.data["code"] == "internal"
        assert caught.value.data["hint"]
        assert "hunter2" not in f"{caught.value} {caught.value.data}"


@ERAS
async def test_a_cursor_that_no_list_gave_out(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.list_resources(cursor="nonsense")
        assert caught.value.code == -32602


async def test_lists_come_in_pages(run_edge, fixtures, wait_known, connect):
    async with run_edge(list_page_size=3) as served:
        await wait_known(served)
        for mode in ("auto", "legacy"):
            async with connect(served.mcp_url, mode=mode) as client:
                names, cursor, pages = [], None, 0
                while pages == 0 or cursor:
                    page = await client.list_prompts(cursor=cursor)
                    names += [prompt.name for prompt in page.prompts]
                    cursor, pages = page.next_cursor, pages + 1
                assert pages == 2
                assert len(set(names)) == 5


@ERAS
async def test_nobody_sees_what_is_not_theirs(served, connect, mode):
    async with connect(served.mcp_url, mode=mode, roles=("nobody",)) as client:
        assert (await client.list_tools()).tools == []
        assert (await client.list_resources()).resources == []
        assert (await client.list_prompts()).prompts == []
        for attempt in (
            client.call_tool("test_simple_text"),
            client.read_resource("test://static-text"),
            client.get_prompt("test_simple_prompt"),
        ):
            with pytest.raises(MCPError) as caught:
                await attempt
            assert caught.value.data["code"] == "forbidden"


GARBAGE = [
    *(b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b"[" * 5000),
    b'{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","id":1,"method":5}',
    b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
]


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", None, "1999-01-01", "x" * 3000])
async def test_garbage_is_refused_with_a_4xx(served, raw, version):
    client = raw()
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": "tools/list"} if version else {}
    for body in GARBAGE:
        response = await client.http.post(served.mcp_url, content=body, headers=headers)
        assert 400 <= response.status_code < 500, f"{body[:50]!r}: {response.status_code} {response.text}"
        assert "Traceback" not in response.text
        assert 'File "' not in response.text


async def test_a_session_without_initialize(served, raw):
    client = raw()
    headers = {"MCP-Protocol-Version": "2025-11-25"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert (await client.http.post(served.mcp_url, json=message, headers=headers)).status_code == 400
    assert (await client.http.get(served.mcp_url, headers=headers)).status_code == 400
    assert (await client.http.delete(served.mcp_url, headers=headers)).status_code == 400
    assert (await client.http.put(served.mcp_url, json=message, headers=headers)).status_code in (400, 405)
    for method in ("GET", "DELETE"):
        response = await client.http.request(method, served.mcp_url, headers={"MCP-Protocol-Version": "2026-07-28"})
        assert response.status_code == 405


class RawWorker:
    """A worker of no kit: it answers with exactly these bytes."""

    def __init__(self, nc, service):
        self._nc = nc
        self._service = service
        self.body = b""
        self.status = "ok"

    async def start(self, js, tools):
        await self._nc.subscribe(f"tool.{self._service}.*", queue=self._service, cb=self._answer)
        await self._nc.subscribe(f"mcp.{self._service}.*", queue=self._service, cb=self._answer)
        await self._nc.flush()
        await self._nc.flush()
        manifest = {
            "service": self._service,
            "instance": f"{self._service}-1",
            "version": "1.0.0",
            "started_at": "2026-01-01T00:00:00Z",
            "tools": tools,
            "resources": [{"uri": "demo://x", "name": "x", "permission": "demo:read"}],
        }
        kv = await js.key_value("CATALOG")
        await kv.put(f"{self._service}.{self._service}-1", json.dumps(manifest).encode())
        self._beating = asyncio.create_task(self._beat(kv, json.dumps(manifest).encode()))

    async def _beat(self, kv, said):
        """What is said once is forgotten after CATALOG_TTL_S, in the middle of a test on a busy machine."""
        while True:
            await asyncio.sleep(CATALOG_TTL_S / 4)
            await kv.put(f"{self._service}.{self._service}-1", said)

    async def stop(self):
        await tasks.end(self._beating)

    async def _answer(self, msg):
        headers = {
            Header.STATUS.value: self.status,
            Header.INSTANCE.value: f"{self._service}-1",
            Header.EXECUTED.value: "yes",
        }
        await self._nc.publish(msg.reply, self.body, headers=headers)


HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
LIST_TOOL = {
    "name": "odd",
    "inputSchema": {"type": "object"},
    "outputSchema": {"type": "array", "items": {"type": "integer"}},
    "annotations": HINTS,
    "permission": "demo:read",
}


@pytest.fixture
async def raw_worker(bus, run_edge, wait_known):
    worker = RawWorker(await bus.connect("demo"), "demo")
    async with run_edge() as served:
        await worker.start((await bus.connect("demo")).jetstream(), [LIST_TOOL])
        await wait_known(served, "demo_odd")
        yield worker, served
        await worker.stop()


BAD = [
    *(b"", b"null", b"[]", b"5", b'{"content":"nope"}', b'{"content":[{"type":"text"}]}'),
    b'{"content":[{"type":"new","x":1}]}',
]


@ERAS
async def test_a_result_that_is_none_is_the_worker_s_fault(raw_worker, connect, mode):
    worker, served = raw_worker
    async with connect(served.mcp_url, mode=mode) as client:
        for worker.body in BAD:
            with pytest.raises(MCPError) as caught:
                await client.read_resource("demo://x")
            assert caught.value.data["code"] == "bad_reply"
        if mode == "auto":
            return  # modern tool calls take the express lane, which has its own tests
        for worker.body in BAD:
            result = await client.call_tool("demo_odd")
            assert result.is_error
            assert result.structured_content["error"]["code"] == "bad_reply"


async def test_structured_lists_are_for_the_modern_era(raw_worker, connect):
    worker, served = raw_worker
    body = {"resultType": "complete", "content": [{"type": "text", "text": "[1]"}], "structuredContent": [1]}
    worker.body = json.dumps(body).encode()
    async with connect(served.mcp_url, mode="legacy") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["demo_odd"].output_schema is None
        result = await client.call_tool("demo_odd")
        assert result.structured_content is None
        assert result.content[0].text == "[1]"
    async with connect(served.mcp_url) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["demo_odd"].output_schema["type"] == "array"
        assert (await client.call_tool("demo_odd")).structured_content == [1]


@pytest.mark.parametrize(
    "questions",
    [{"a": {"method": "tools/list", "params": {}}}, {"a": 5}, {str(n): {"method": "roots/list"} for n in range(100)}],
    ids=["no question", "no object", "too many"],
)
@ERAS
async def test_questions_that_are_none_are_not_asked(raw_worker, connect, questions, mode):
    worker, served = raw_worker
    worker.status = "input_required"
    worker.body = json.dumps({"resultType": "input_required", "inputRequests": questions, "requestState": "s"}).encode()

    async def roots(context):
        raise AssertionError("asked")

    async with connect(served.mcp_url, mode=mode, list_roots_callback=roots) as client:
        result = await client.call_tool("demo_odd")
        assert result.is_error
        assert result.structured_content["error"]["code"] == "bad_reply"


async def test_a_worker_that_never_stops_asking_is_stopped(raw_worker, connect):
    worker, served = raw_worker
    worker.status = "input_required"
    question = {"a": {"method": "roots/list", "params": {}}}
    worker.body = json.dumps({"resultType": "input_required", "inputRequests": question, "requestState": "s"}).encode()

    async def roots(context):
        from mcp_types import ListRootsResult

        return ListRootsResult(roots=[])

    async with asyncio.timeout(60), connect(served.mcp_url, mode="legacy", list_roots_callback=roots) as client:
        result = await client.call_tool("demo_odd")
        assert "20 rounds" in result.content[0].text


def test_what_is_checked_names_the_place_and_not_the_value():
    error = checked("tools/call", b'{"content":[{"type":"text","text":5,"secret":"x"}]}', Executed.YES)
    assert isinstance(error, ErrorBody)
    assert "content" in error.message
    assert error.executed is Executed.YES
    good = {"content": [], "structuredContent": {"a": 1}, "_meta": {"k": "v"}}
    assert checked("tools/call", json.dumps(good).encode(), Executed.YES) == good
    assert for_era(good, "modern") == {"resultType": "complete", **good}
    assert for_era(good, "legacy") == good
