"""The express lane: a modern tools/call and tools/list, end to end over the bus."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from opsbus import Context, ErrorCode, ToolError, Worker
from opsbus.testing.plugin import RunWorker


def demo() -> Worker:
    worker = Worker("demo", version="1.2.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str, number: int = 0) -> dict[str, object]:
        """Says it again."""
        return {"text": text, "number": number, "caller": ctx.identity.sub, "client": ctx.client.name}

    @worker.tool(permission="demo:read", read_only=True)
    async def count(ctx: Context, to: int) -> dict[str, int]:
        """Counts, and says so."""
        for number in range(1, to + 1):
            await ctx.progress(number, to, f"at {number}")
            await ctx.notify("info", {"at": number})
        return {"counted": to}

    @worker.tool(permission="demo:read", read_only=True)
    async def refuse(ctx: Context) -> dict[str, int]:
        """Refuses."""
        raise ToolError(ErrorCode.NOT_FOUND, "no deployment 'chekout'", hint="Look again.", did_you_mean=["checkout"])

    @worker.tool(permission="demo:write")
    async def change(ctx: Context, reason: str = "") -> dict[str, str]:
        """Changes something."""
        return {"changed": "yes"}

    return worker


@pytest.fixture
async def served(running, run_worker: RunWorker) -> AsyncIterator[object]:
    async with run_worker(demo()):
        await running.knows("demo_echo", "demo_count", "demo_change")
        yield running


async def test_a_call_goes_to_the_worker_and_back(served) -> None:
    answer = await served.call("demo_echo", {"text": "hello", "number": 3})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.last["id"] == 7
    assert answer.result["resultType"] == "complete"
    assert answer.result["isError"] is False
    assert answer.result["structuredContent"] == {
        "text": "hello", "number": 3, "caller": "admin@shop.example", "client": "test",
    }  # fmt: skip
    assert answer.result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "opsbus"


async def test_progress_and_logs_come_as_events_when_asked_for(served) -> None:
    meta = {"progressToken": "p-1", "io.modelcontextprotocol/logLevel": "info"}
    answer = await served.call("demo_count", {"to": 3}, meta=meta)
    assert answer.headers["content-type"].startswith("text/event-stream")
    progress = [m["params"] for m in answer.messages if m.get("method") == "notifications/progress"]
    assert [p["progress"] for p in progress] == [1, 2, 3]
    assert {p["progressToken"] for p in progress} == {"p-1"}
    logs = [m["params"] for m in answer.messages if m.get("method") == "notifications/message"]
    assert [entry["data"]["at"] for entry in logs] == [1, 2, 3]
    assert answer.result["structuredContent"] == {"counted": 3}


async def test_without_asking_there_is_plain_json(served) -> None:
    answer = await served.call("demo_count", {"to": 3})
    assert answer.headers["content-type"] == "application/json"
    assert answer.result["structuredContent"] == {"counted": 3}


async def test_a_tools_error_is_a_result_with_the_error_shape(served) -> None:
    answer = await served.call("demo_refuse")
    assert answer.status == 200
    error = answer.tool_error
    assert error["code"] == "not_found"
    assert error["did_you_mean"] == ["checkout"]
    assert error["executed"] == "no"
    assert "Look again." in answer.result["content"][0]["text"]


async def test_unknown_arguments_are_named(served) -> None:
    error = (await served.call("demo_echo", {"txt": "x"})).tool_error
    assert error["code"] == "invalid_arguments"


async def test_an_unknown_tool_is_a_protocol_error_that_proposes_names(served) -> None:
    answer = await served.call("demo_ecko")
    assert answer.status == 400
    assert answer.error["code"] == -32602
    assert answer.error["data"]["did_you_mean"][0] == "demo_echo"


async def test_a_viewer_neither_sees_nor_calls_what_it_may_not(served) -> None:
    listed = await served.mcp("tools/list", role="viewer")
    assert [tool["name"] for tool in listed.result["tools"]] == ["demo_count", "demo_echo", "demo_refuse"]
    assert listed.result["cacheScope"] == "private"
    assert listed.result["ttlMs"] == served.edge.settings.list_ttl_ms
    refused = await served.call("demo_change", role="viewer")
    assert refused.error["code"] == -32003
    assert refused.error["data"]["details"] == {"permission": "demo:write"}
    assert "demo_change" not in json.dumps((await served.call("demo_chang", role="viewer")).error)
    everything = await served.mcp("tools/list")
    assert "demo_change" in [tool["name"] for tool in everything.result["tools"]]


async def test_a_bad_cursor_is_refused(served) -> None:
    for cursor in ("%%%", "bm90aGluZw", "x" * 10_000):
        answer = await served.mcp("tools/list", {"cursor": cursor})
        assert answer.status == 400
        assert answer.error["code"] == -32602


async def test_pages_are_followed_to_the_end(run_edge, run_worker: RunWorker) -> None:
    async with run_edge(list_page_size=2) as served, run_worker(demo()):
        await served.knows("demo_echo", "demo_count", "demo_change")
        names: list[str] = []
        params: dict[str, str] = {}
        for _ in range(5):
            result = (await served.mcp("tools/list", params)).result
            names += [tool["name"] for tool in result["tools"]]
            if "nextCursor" not in result:
                break
            params = {"cursor": result["nextCursor"]}
        assert names == ["demo_change", "demo_count", "demo_echo", "demo_refuse"]


async def test_large_integers_arrive_unchanged(running, run_worker: RunWorker) -> None:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def digits(ctx: Context, number: int) -> dict[str, str]:
        return {"text": str(number)}

    async with run_worker(worker):
        await running.knows("demo_digits")
        number = 123456789012345678901234567890
        answer = await running.call("demo_digits", {"number": number})
        assert answer.result["structuredContent"] == {"text": str(number)}


async def test_a_client_that_goes_away_cancels_the_call(running, run_worker: RunWorker) -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write", timeout_s=60)
    async def wait(ctx: Context) -> dict[str, int]:
        started.set()
        try:
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            ended.set()
            raise
        return {}

    async with run_worker(worker):
        await running.knows("demo_wait")
        async with httpx.AsyncClient(base_url=running.url) as client:
            params = {
                "name": "demo_wait",
                "arguments": {},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            }
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            headers = running.headers("tools/call", "demo_wait", "admin")
            task = asyncio.create_task(client.post("/mcp", json=body, headers=headers, timeout=60))
            await asyncio.wait_for(started.wait(), 30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), 30)


async def test_silence_makes_a_stream_with_comments(run_edge, run_worker: RunWorker) -> None:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def slow(ctx: Context) -> dict[str, int]:
        await asyncio.sleep(0.5)
        return {"done": 1}

    async with run_edge(keep_alive_s=0.1) as served, run_worker(worker):
        await served.knows("demo_slow")
        answer = await served.call("demo_slow")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.result["structuredContent"] == {"done": 1}


async def test_a_client_that_does_not_read_is_given_up(running, run_worker: RunWorker, monkeypatch) -> None:
    monkeypatch.setattr("opsbus_edge.asgi.exchange.READ_S", 0.3)
    ended = asyncio.Event()
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True, timeout_s=60)
    async def talk(ctx: Context) -> dict[str, int]:
        try:
            for number in range(4_000):
                await ctx.progress(number, None, "x" * 20_000)
                await asyncio.sleep(0.001)
        finally:
            ended.set()
        return {}

    async with run_worker(worker):
        await running.knows("demo_talk")
        host, port = running.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1)
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": 1,
        }
        params = {"name": "demo_talk", "arguments": {}, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = running.headers("tools/call", "demo_talk", "admin") | {"host": "localhost"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /mcp HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        await asyncio.wait_for(ended.wait(), 30)
        async with asyncio.timeout(30):
            while running.edge.pipeline.under_way:
                await asyncio.sleep(0.01)
        writer.close()
    text = (await running.http.get("/metrics")).text
    assert 'mcp_tool_calls_total{status="cancelled",tool="demo_talk"} 1.0' in text


async def test_too_many_connections_are_answered_at_once(run_edge) -> None:
    async with run_edge(connections_max=3) as running:
        held = [await asyncio.open_connection(*running.url.removeprefix("http://").split(":")) for _ in range(3)]
        async with httpx.AsyncClient(base_url=running.url) as client:
            assert (await client.get("/live")).status_code == 503
        for _, writer in held:
            writer.close()
