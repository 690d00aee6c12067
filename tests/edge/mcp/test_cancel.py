"""A client that no longer wants an answer: its worker is told, in the way of its era."""

import asyncio

import pytest

from opsbus import Context, Text, ToolResult, Worker


class Slow:
    """A worker with a tool that waits until it is let go, and says how it ended."""

    def __init__(self):
        self.worker = Worker("test", version="1.0.0")
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()

        @self.worker.tool(permission="test:read", read_only=True)
        async def simple_text(ctx: Context) -> ToolResult:
            """Waits."""
            self.started.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return ToolResult(content=[Text("done")])


@pytest.fixture
async def slow(run_worker):
    made = Slow()
    async with run_worker(made.worker):
        yield made


@pytest.fixture
async def edge(run_edge, slow, wait_known):
    async with run_edge() as served:
        await wait_known(served)
        yield served


async def within(seconds, awaitable):
    async with asyncio.timeout(seconds):
        return await awaitable


@pytest.mark.parametrize("extra", [{}, {"_meta": {"progressToken": "p"}}], ids=["plain", "progress"])
async def test_a_modern_client_cancels_by_going_away(edge, slow, raw, extra):
    params = {"name": "test_simple_text", "arguments": {}, **extra}
    request = asyncio.create_task(raw().modern(edge.mcp_url, "tools/call", params))
    await within(30, slow.started.wait())
    request.cancel()
    await within(30, slow.cancelled.wait())


async def test_a_session_cancels_with_a_notification(edge, slow, raw, read_events):
    client = raw()
    session = await client.initialize(edge.mcp_url)
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "test_simple_text"}}
    request = asyncio.create_task(client.post(edge.mcp_url, session, message))
    await within(30, slow.started.wait())
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7, "reason": "enough"}}
    assert (await client.post(edge.mcp_url, session, cancel)).status_code == 202
    await within(30, slow.cancelled.wait())
    response = await within(30, request)
    assert read_events(response.text)[-1]["error"]["code"] == -32800


async def test_a_session_that_loses_its_stream_cancels_nothing(edge, slow, raw, read_events):
    client = raw()
    session = await client.initialize(edge.mcp_url)
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "test_simple_text"}}
    headers = client.session_headers(session)
    async with client.http.stream("POST", edge.mcp_url, json=message, headers=headers) as response:
        event_id = None
        async for line in response.aiter_lines():
            if line.startswith("id:"):
                event_id = line.removeprefix("id:").strip()
                break
        await within(30, slow.started.wait())
    slow.go.set()
    headers["Last-Event-ID"] = event_id
    async with client.http.stream("GET", edge.mcp_url, headers=headers) as resumed:
        assert resumed.status_code == 200
        async for line in resumed.aiter_lines():
            if line.startswith("data:") and '"result"' in line:
                assert '"done"' in line
                break
        else:
            pytest.fail("the stream ended without the result")
    assert not slow.cancelled.is_set()


async def test_the_record_says_cancelled(edge, slow, raw, bus):
    params = {"name": "test_simple_text", "arguments": {}}
    js = await bus.jetstream("provisioner")
    request = asyncio.create_task(raw().modern(edge.mcp_url, "tools/call", params))
    await within(30, slow.started.wait())
    request.cancel()
    await within(30, slow.cancelled.wait())
    async with asyncio.timeout(30):
        while (await js.stream_info("AUDIT", subjects_filter="audit.edge.cancelled")).state.subjects is None:
            await asyncio.sleep(0.05)
