"""What the record says of a call beyond its outcome: session, address, reason and change, who approved it and how."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp_types import ElicitResult

from opsbus import Context, Plan, Worker
from opsbus.testing.bus import Bus

CAN = {"elicitation": {}}
TOOL = "demo_scale"


def demo(written: list[int]) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write", destructive=True)
    async def scale(
        ctx: Context[None], replicas: int, reason: str = "", change_id: str = "", confirm: str | None = None
    ) -> dict[str, int]:
        plan = Plan(summary=f"Scale to {replicas}", changes=[], blast_radius="the shop")
        await ctx.confirm(plan, version="v7", confirm=confirm)
        written.append(replicas)
        return {"replicas": replicas}

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> str:
        return "seen"

    return worker


@pytest.fixture
def written() -> list[int]:
    return []


@pytest.fixture
async def platform(run_edge: Any, run_worker: Any, wait_known: Any, written: list[int]) -> AsyncIterator[Any]:
    async with run_worker(demo(written)), run_edge() as served:
        await wait_known(served, TOOL)
        yield served


async def record(bus: Bus, edge: Any) -> list[dict[str, Any]]:
    """All events of calls, in the stream's order, once the edge has no more to store."""
    async with asyncio.timeout(30):
        while edge.audit.pending:
            await asyncio.sleep(0.02)
    js = await bus.jetstream()
    last = (await js.stream_info("AUDIT")).state.last_seq
    messages = [await js.get_msg("AUDIT", sequence) for sequence in range(1, last + 1)]
    return [json.loads(message.data or b"")["data"] | {"subject": message.subject} for message in messages]


def stages(events: list[dict[str, Any]]) -> list[list[str]]:
    """Of each call, in the order of the calls."""
    calls: dict[str, list[str]] = {}
    for event in events:
        calls.setdefault(event["call"], []).append(event["stage"])
    return list(calls.values())


def approval(events: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [event for event in events if event["stage"] == "approved"]
    return found


async def ask(client: Any, url: str, arguments: dict[str, Any], capabilities: dict[str, Any], **more: Any) -> Any:
    response = await client.modern(url, "tools/call", {"name": TOOL, "arguments": arguments, **more}, capabilities)
    assert response.status_code == 200, response.text
    return response.json()["result"]


def answer(result: Any, **content: Any) -> dict[str, Any]:
    given = {"action": "accept", "content": content} if content else {"action": "decline"}
    return {"inputResponses": {"confirm": given}, "requestState": result["requestState"]}


async def test_a_call_that_comes_back_confirmed_was_approved(
    bus: Bus, platform: Any, raw: Any, written: list[int]
) -> None:
    client, arguments = raw("ada"), {"replicas": 5, "reason": "sale", "change_id": "CHG-7"}
    asked = await ask(client, platform.mcp_url, arguments, CAN)
    done = await ask(client, platform.mcp_url, arguments, CAN, **answer(asked, proceed=True))
    assert done["structuredContent"] == {"replicas": 5}
    assert written == [5]
    events = await record(bus, platform.edge)
    assert stages(events) == [["requested", "input_required"], ["requested", "approved", "completed"]]
    approved = approval(events)
    assert approved["subject"] == "audit.demo.approved"
    assert (approved["actor"], approved["approver"], approved["tool"]) == ("ada", "ada", TOOL)
    assert (approved["mutating"], approved["auth"], approved["service"]) == (True, events[0]["auth"], "demo")
    assert approved["details"] == {"how": "asked", "asked_in": events[0]["call"], "version": "v7"}


async def test_a_token_that_is_spent_is_an_approval(bus: Bus, platform: Any, raw: Any, written: list[int]) -> None:
    client = raw("ada")
    asked = await ask(client, platform.mcp_url, {"replicas": 5}, {})
    error = asked["structuredContent"]["error"]
    assert error["code"] == "confirmation_required"
    token = error["details"]["confirm"]
    done = await ask(client, platform.mcp_url, {"replicas": 5, "confirm": token}, {})
    again = await ask(client, platform.mcp_url, {"replicas": 5, "confirm": token}, {})
    assert done["structuredContent"] == {"replicas": 5}
    assert again["isError"] is True
    assert written == [5]
    events = await record(bus, platform.edge)
    assert stages(events) == [
        ["requested", "failed"], ["requested", "approved", "completed"], ["requested", "failed"],
    ]  # fmt: skip
    assert approval(events)["approver"] == "ada"
    assert approval(events)["details"] == {"how": "token", "asked_in": events[0]["call"], "version": "v7"}


@pytest.mark.parametrize("content", [{"proceed": False}, {}])
async def test_whoever_says_no_approves_nothing(
    bus: Bus, platform: Any, raw: Any, written: list[int], content: dict[str, Any]
) -> None:
    client = raw("ada")
    asked = await ask(client, platform.mcp_url, {"replicas": 5}, CAN)
    refused = await ask(client, platform.mcp_url, {"replicas": 5}, CAN, **answer(asked, **content))
    assert refused["structuredContent"]["error"]["code"] == "declined"
    assert written == []
    assert stages(await record(bus, platform.edge)) == [["requested", "input_required"], ["requested", "failed"]]


async def test_in_a_session_both_rounds_name_it(bus: Bus, platform: Any, connect: Any, written: list[int]) -> None:
    async def yes(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"proceed": True})

    async with connect(platform.mcp_url, mode="legacy", sub="ada", elicitation_callback=yes) as client:
        done = await client.call_tool(TOOL, {"replicas": 5})
    assert done.structured_content == {"replicas": 5}
    events = await record(bus, platform.edge)
    assert stages(events) == [["requested", "input_required"], ["requested", "approved", "completed"]]
    assert approval(events)["details"]["asked_in"] == events[0]["call"]
    sessions = {event.get("session") for event in events if event["subject"].startswith("audit.edge.")}
    assert len(sessions) == 1
    assert len(sessions.pop() or "") == 64


async def test_a_session_is_recorded_as_a_digest_of_what_the_client_sends(bus: Bus, platform: Any, raw: Any) -> None:
    client = raw("ada")
    sessions = [await client.initialize(platform.mcp_url) for _ in range(2)]
    for session in (*sessions, sessions[0]):
        assert "result" in await client.call(platform.mcp_url, session, "demo_look")
    # A modern request has no session, whatever header it sends.
    headers = client.modern_headers("tools/call", {"name": "demo_look"}) | {"Mcp-Session-Id": sessions[0]}
    client.http.headers.update(headers)
    await client.modern(platform.mcp_url, "tools/call", {"name": "demo_look", "arguments": {}})
    events = await record(bus, platform.edge)
    digests = [hashlib.sha256(session.encode()).hexdigest() for session in sessions]
    requested = [event for event in events if event["stage"] == "requested"]
    assert [event.get("session") for event in requested] == [digests[0], digests[1], digests[0], None]
    assert all(session not in json.dumps(events) for session in sessions)


async def test_a_session_served_by_another_edge_is_the_same(
    bus: Bus, run_edge: Any, platform: Any, wait_known: Any, raw: Any
) -> None:
    client = raw("ada")
    async with run_edge() as other:
        await wait_known(other, TOOL)
        session = await client.initialize(platform.mcp_url)
        assert "result" in await client.call(other.mcp_url, session, "demo_look")
    events = await record(bus, platform.edge)
    assert {event["session"] for event in events} == {hashlib.sha256(session.encode()).hexdigest()}
    assert {event["address"] for event in events} == {"127.0.0.1"}


async def test_address_reason_and_change_are_recorded_of_every_way_in(
    bus: Bus, platform: Any, raw: Any, written: list[int]
) -> None:
    client, arguments = raw("ada"), {"replicas": 5, "reason": "sale", "change_id": "CHG-7"}
    await ask(client, platform.mcp_url, arguments, {})
    session = await client.initialize(platform.mcp_url)
    await client.call(platform.mcp_url, session, TOOL, **arguments)
    rest = await client.http.post(f"{platform.url}/api/v1/tools/{TOOL}/execute", json={"arguments": arguments})
    assert "confirmation_required" in rest.text
    await client.modern(platform.mcp_url, "tools/call", {"name": "demo_none", "arguments": arguments})
    events = await record(bus, platform.edge)
    assert {event["address"] for event in events} == {"127.0.0.1"}
    first = [event for event in events if event["stage"] == "requested"]
    assert [(event["protocol"], event["reason"], event["change_id"]) for event in first] == [
        ("2026-07-28", "sale", "CHG-7"), ("2025-11-25", "sale", "CHG-7"), ("rest", "sale", "CHG-7"),
    ]  # fmt: skip
    (denied,) = [event for event in events if event["stage"] == "denied"]
    assert (denied["reason"], denied["change_id"]) == ("sale", "CHG-7")
    assert written == []
