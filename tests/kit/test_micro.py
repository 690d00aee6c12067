"""Service discovery, seen with nats-py's own types and with plain requests as ``nats micro`` sends them."""

import asyncio
import json

import pytest
from nats.errors import NoRespondersError
from nats.micro.service import EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats

from opsbus import Context, ErrorCode, ToolError, Worker

worker = Worker("test", version="1.2.3", description="For tests.")


@worker.tool(permission="test:read", read_only=True)
async def one(ctx: Context[None], fail: bool = False) -> str:
    """One."""
    if fail:
        raise ToolError(ErrorCode.NOT_FOUND, "nothing")
    return "one"


@worker.resource("test://a", permission="test:read")
async def a(ctx: Context[None]) -> str:
    return "a"


async def ask_all(client, subject: str, expected: int) -> list[dict]:
    """As ``nats micro ls``: one request, several answers."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    replies = [json.loads((await subscription.next_msg(timeout=30)).data) for _ in range(expected)]
    with pytest.raises(asyncio.TimeoutError):
        await subscription.next_msg(timeout=0.1)
    await subscription.unsubscribe()
    return replies


async def test_every_instance_answers(run_worker, bus):
    operator = await bus.connect("operator")
    async with run_worker(worker) as first, run_worker(worker) as second:
        for verb, kind in (("PING", ServicePing), ("INFO", ServiceInfo), ("STATS", ServiceStats)):
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.test"):
                replies = await ask_all(operator, subject, 2)
                assert {reply["id"] for reply in replies} == {first.instance, second.instance}
                for reply in replies:
                    assert reply["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
                    parsed = kind.from_dict(dict(reply))
                    assert (parsed.name, parsed.version) == ("test", "1.2.3")
            (one_reply,) = await ask_all(operator, f"$SRV.{verb}.test.{first.instance}", 1)
            assert one_reply["id"] == first.instance


async def test_info_and_statistics(run_worker, bus, caller):
    operator = await bus.connect("operator")
    async with run_worker(worker):
        await caller.call("test", "one")
        await caller.call("test", "one", {"fail": True})
        await caller.call("test", "no_such_tool")
        info = json.loads((await operator.request("$SRV.INFO.test", b"", timeout=30)).data)
        assert info["description"] == "For tests."
        assert [EndpointInfo.from_dict(endpoint).subject for endpoint in info["endpoints"]] == [
            "tool.test.one",
            "mcp.test.resources_read",
        ]
        stats = json.loads((await operator.request("$SRV.STATS.test", b"", timeout=30)).data)
        tool, resource = (EndpointStats.from_dict(endpoint) for endpoint in stats["endpoints"])
        assert (tool.num_requests, tool.num_errors, tool.last_error) == (2, 1, "not_found")
        assert tool.processing_time > tool.average_processing_time > 0
        assert resource.num_requests == 0
        assert stats["started"].endswith("Z")


async def test_nobody_answers_after_the_drain(run_worker, bus):
    operator = await bus.connect("operator")
    async with run_worker(worker):
        pass
    with pytest.raises(NoRespondersError):
        await operator.request("$SRV.PING.test", b"", timeout=30)
