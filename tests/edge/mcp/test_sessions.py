"""Sessions of the older eras: owned by one edge and one caller, reachable through every edge."""

import asyncio
import json
import signal

import pytest
from mcp_types import JSONRPCNotification, JSONRPCResponse

from opsbus_contracts.calls import SILENCE_MAX_S
from opsbus_edge.mcp_face import forward
from opsbus_edge.mcp_face.eventlog import EventLogs


@pytest.fixture
async def two(run_edge, fixtures, wait_known):
    async with run_edge() as one, run_edge() as other:
        await wait_known(one)
        await wait_known(other)
        yield one, other


async def test_a_session_names_its_edge_and_every_edge_serves_it(two, raw):
    one, other = two
    client = raw()
    session = await client.initialize(one.mcp_url)
    assert session.startswith(f"{one.edge.instance}.")
    for number, served in enumerate((other, one, other)):
        answer = await client.call(served.mcp_url, session, "test_simple_text", number)
        assert answer["result"]["content"][0]["text"].startswith("This is a simple text")


async def test_get_stream_and_questions_pass_through_another_edge(two, connect, raw, read_events):
    """The POST stream, the answer to a question and the GET stream may all take other ways."""
    one, other = two
    client = raw()
    session = await client.initialize(one.mcp_url, elicitation={})
    headers = client.session_headers(session)
    call = {"jsonrpc": "2.0", "id": 5, "method": "tools/call"}
    call["params"] = {"name": "test_input_required_result_elicitation", "arguments": {}}
    async with asyncio.timeout(60), client.http.stream("POST", other.mcp_url, json=call, headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["mcp-session-id"] == session
        async for line in stream.aiter_lines():
            if not line.startswith("data: {"):
                continue
            message = json.loads(line.removeprefix("data: "))
            if message.get("method") == "elicitation/create":
                answer = {"jsonrpc": "2.0", "id": message["id"]}
                answer["result"] = {"action": "accept", "content": {"name": "Ada"}}
                assert (await client.post(one.mcp_url, session, answer)).status_code == 202
            elif message.get("id") == 5:
                assert message["result"]["content"][0]["text"] == "Hello, Ada!"
                break
    async with asyncio.timeout(60), client.http.stream("GET", other.mcp_url, headers=headers) as stream:
        assert stream.status_code == 200
        await client.call(one.mcp_url, session, "test_trigger_tool_change", 6)
        async for line in stream.aiter_lines():
            if "notifications/tools/list_changed" in line:
                break


async def test_a_large_answer_arrives_whole(run_edge, run_worker, wait_known, raw):
    from opsbus import Context, Text, ToolResult, Worker

    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True, budget_bytes=800_000)
    async def large(ctx: Context, size: int) -> ToolResult:
        """Much text."""
        return ToolResult(content=[Text("0123456789" * (size // 10))])

    async with run_worker(worker), run_edge() as one, run_edge() as other:
        await wait_known(one, "demo_large")
        client = raw()
        session = await client.initialize(one.mcp_url)
        answer = await client.call(other.mcp_url, session, "demo_large", size=700_000)
        assert answer["result"]["content"][0]["text"] == "0123456789" * 70_000


async def test_a_session_is_its_owner_s_alone(two, raw):
    one, other = two
    session = await raw("ada").initialize(one.mcp_url)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for served in (one, other):
        assert (await raw("bob").post(served.mcp_url, session, ping)).status_code == 404
        assert (await raw("ada").post(served.mcp_url, session, ping)).status_code == 200


async def test_the_owner_checks_the_credentials_again(two, raw, bus):
    """What another edge says about who calls is not believed: the token itself must hold."""
    one, _ = two
    session = await raw().initialize(one.mcp_url)
    nc = await bus.connect("edge")
    inbox = "_INBOX.edge.test.http.x"
    subscription = await nc.subscribe(inbox)
    head = {"method": "POST", "path": "/mcp", "client": "", "headers": []}
    head["headers"] = [
        ["mcp-session-id", session],
        ["content-type", "application/json"],
        ["authorization", "Bearer x.y.z"],
    ]
    headers = {"Opsbus-Http": json.dumps(head), "Opsbus-Call": "0" * 32}
    await nc.publish(f"edge.{one.edge.instance}.session", b"{}", reply=inbox, headers=headers)
    first = await subscription.next_msg(30)
    assert json.loads(first.headers["Opsbus-Http"])["status"] == 401


async def test_delete_ends_a_session_from_anywhere(two, raw):
    one, other = two
    client = raw()
    session = await client.initialize(one.mcp_url)
    assert (await client.http.delete(other.mcp_url, headers=client.session_headers(session))).status_code == 200
    for served in two:
        ping = await client.post(served.mcp_url, session, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert ping.status_code == 404


@pytest.mark.parametrize(
    "session",
    [
        "",
        "x",
        "nobody.1",
        "edge-00000000.abc",
        "*.abc",
        ">.x",
        "edge.*.session",
        "a b.c",
        "." * 300,
        "edge-1." + "x" * 3000,
    ],
)
async def test_ids_that_no_edge_gave_out_are_not_found(served, raw, session):
    response = await raw().post(served.mcp_url, session, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert response.status_code in (400, 404), response.text
    assert response.json()["error"]["message"]


async def test_events_of_one_session_are_not_replayed_to_another(served, raw):
    """Streams are named by request id, which clients choose alike: logs must not mix."""
    ada, bob = raw("ada"), raw("bob")
    hers, his = await ada.initialize(served.mcp_url), await bob.initialize(served.mcp_url)
    await ada.call(served.mcp_url, hers, "test_simple_text", 1)
    await bob.call(served.mcp_url, his, "test_image_content", 1)
    for client, session in ((ada, hers), (bob, his)):
        for event_id in ("1", "2", "3", "99", "x", "-1", "9" * 30):
            headers = client.session_headers(session) | {"Last-Event-ID": event_id}
            async with asyncio.timeout(30), client.http.stream("GET", served.mcp_url, headers=headers) as stream:
                lines = []
                async for line in stream.aiter_lines():
                    lines.append(line)
                    if line.startswith("data: {"):
                        break
            text = "\n".join(lines)
            assert ("image" in text) <= (client is bob), text


async def test_what_comes_while_a_stream_is_resumed_is_not_lost():
    logs = EventLogs()
    logs.opened("a", logs.enter(None))
    first = await logs.store_event("7", None)
    told = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    answer = JSONRPCResponse(jsonrpc="2.0", id=7, result={})
    await logs.store_event("7", told)
    sent = []

    async def send(event):
        sent.append(event.message)
        if len(sent) == 1:
            await logs.store_event("7", told)

    resumed = asyncio.create_task(logs.replay_events_after(first, send))
    async with asyncio.timeout(30):
        while len(sent) < 2:
            await asyncio.sleep(0.01)
    await logs.store_event("8", told)
    await logs.store_event("7", answer)
    assert await asyncio.wait_for(resumed, 30) is None
    assert sent == [told, told, answer]
    waits = asyncio.create_task(logs.replay_events_after(await logs.store_event("9", None), send))
    await asyncio.sleep(0)
    logs.closed("a")
    assert await asyncio.wait_for(waits, 30) is None


async def test_a_resumed_stream_ends_with_its_session(run_edge, run_worker, wait_known, raw):
    from opsbus import Context, Worker

    worker, started = Worker("demo", version="1.0.0"), asyncio.Event()

    @worker.tool(permission="demo:read", read_only=True)
    async def wait(ctx: Context) -> str:
        """Takes long."""
        started.set()
        await asyncio.sleep(50)
        return "done"

    async with run_worker(worker, drain_timeout_s=0), run_edge() as served:
        await wait_known(served, "demo_wait")
        client = raw()
        session = await client.initialize(served.mcp_url)
        headers = client.session_headers(session)
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "demo_wait", "arguments": {}}}
        async with client.http.stream("POST", served.mcp_url, json=call, headers=headers) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("id:"):
                pass
            await asyncio.wait_for(started.wait(), 30)
        resuming = headers | {"Last-Event-ID": line.removeprefix("id:").strip()}
        async with asyncio.timeout(30), client.http.stream("GET", served.mcp_url, headers=resuming) as stream:
            assert stream.status_code == 200
            assert (await client.http.delete(served.mcp_url, headers=headers)).status_code == 200
            assert not any('"result"' in line for line in [line async for line in stream.aiter_lines()])


async def test_a_body_over_the_bound_is_refused_at_either_edge(two, raw):
    one, _ = two
    client = raw()
    session = await client.initialize(one.mcp_url)
    for served in two:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "test_sampling"}}
        message["params"]["arguments"] = {"prompt": "x" * 950_000}
        response = await client.post(served.mcp_url, session, message)
        assert response.status_code == 413
        assert response.json()["error"]["data"]["code"] == "request_too_large"


async def test_a_client_that_goes_away_is_noticed_by_the_owner(two, raw):
    one, other = two
    client = raw()
    session = await client.initialize(one.mcp_url)
    headers = client.session_headers(session)
    for _ in range(3):  # a stream that were not ended would be a conflict: one per session
        async with asyncio.timeout(30):
            while True:
                async with client.http.stream("GET", other.mcp_url, headers=headers) as stream:
                    if stream.status_code == 200:
                        break
                    assert stream.status_code == 409
                await asyncio.sleep(0.02)


async def test_a_session_left_alone_ends(run_edge, raw):
    async with run_edge(session_idle_s=2) as served:
        client = raw()
        session = await client.initialize(served.mcp_url)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await client.post(served.mcp_url, session, ping)).status_code == 200
        idle_s = 2.5
        while (await client.post(served.mcp_url, session, ping)).status_code != 404:  # which begins its time anew
            assert idle_s < 30
            await asyncio.sleep(idle_s)
            idle_s *= 2


@pytest.mark.parametrize("drains", [0, 1], ids=["owner", "other"])
async def test_a_stream_through_another_edge_ends_when_either_drains(two, raw, drains):
    client = raw()
    session = await client.initialize(two[0].mcp_url)
    headers = client.session_headers(session)
    async with asyncio.timeout(30), client.http.stream("GET", two[1].mcp_url, headers=headers) as stream:
        assert stream.status_code == 200
        two[drains].edge.drain.set()
        assert [line async for line in stream.aiter_lines() if line.startswith("data")] == []


async def test_sessions_are_bounded(run_edge, raw):
    async with run_edge(sessions_max=2) as served:
        client = raw()
        for _ in range(2):
            await client.initialize(served.mcp_url)
        with pytest.raises(AssertionError, match="Too many open sessions"):
            await client.initialize(served.mcp_url)


async def test_a_dead_owner_s_session_is_not_found_and_a_new_one_works(run_edge, fixtures, wait_known, spawn_edge, raw):
    client = raw()
    async with run_edge() as served, spawn_edge() as dying:
        await wait_known(served)
        session = await client.initialize(dying.mcp_url)
        assert "result" in await client.call(served.mcp_url, session, "test_simple_text")
        dying.signal(signal.SIGKILL)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        async with asyncio.timeout(SILENCE_MAX_S + 30):
            response = await client.post(served.mcp_url, session, ping)
        assert response.status_code == 404
        assert "hint" in response.json()["error"]["data"]
        session = await client.initialize(served.mcp_url)
        assert "result" in await client.call(served.mcp_url, session, "test_simple_text")


async def test_an_owner_that_falls_silent_in_mid_call_leaves_the_truth(
    run_edge, run_worker, wait_known, spawn_edge, raw, read_events, monkeypatch
):
    """Frozen, not dead: no responders is not heard. The client is told that the outcome is unknown."""
    from opsbus import Context, Worker

    monkeypatch.setattr(forward, "SILENCE_MAX_S", 1.5)
    worker, started = Worker("demo", version="1.0.0"), asyncio.Event()

    @worker.tool(permission="demo:write")
    async def write(ctx: Context) -> str:
        """Takes long."""
        started.set()
        await asyncio.sleep(20)
        return "written"

    client = raw()
    async with run_worker(worker, drain_timeout_s=0), run_edge() as served, spawn_edge() as dying:
        await wait_known(served, "demo_write")
        session = await client.initialize(dying.mcp_url)
        call = asyncio.create_task(client.call(served.mcp_url, session, "demo_write"))
        async with asyncio.timeout(30):
            await started.wait()
        dying.signal(signal.SIGSTOP)
        async with asyncio.timeout(60):
            answer = await call
        assert answer["result"]["isError"] is True
        assert answer["result"]["structuredContent"]["error"]["code"] == "outcome_unknown"
        async with asyncio.timeout(60):
            ping = await client.post(served.mcp_url, session, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert ping.status_code == 404
