"""Rates over all edges, shedding, and whom a limit follows: on a real bus, with edges that serve HTTP."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import ValidationError

from opsbus import Context, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_edge.limits import Leases, rate_of, shared
from opsbus_edge.limits.leases import held_max
from opsbus_edge.settings import EdgeSettings


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine's bus is slow, and not away."""
    monkeypatch.setattr(shared, "TIMEOUT_S", 30.0)


def demo(holding: asyncio.Event | None = None) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> str:
        if holding is not None:
            await holding.wait()
        return "seen"

    @worker.tool(permission="demo:read", read_only=True)
    async def other(ctx: Context[None]) -> str:
        return "seen"

    return worker


@pytest.mark.parametrize(
    ("text", "per_s", "burst"),
    [
        ("100/minute", 100 / 60, 100),
        ("1000/hour burst 50", 1000 / 3600, 50),
        (" 5/second  burst 5 ", 5.0, 5),
        ("1/day", 1 / 86_400, 1),
    ],
)
def test_a_rate_is_read(text: str, per_s: float, burst: int) -> None:
    rate = rate_of(text)
    assert (rate.per_s, rate.burst) == (pytest.approx(per_s), burst)


@pytest.mark.parametrize(
    "text", ["100", "0/minute", "x/minute", "100/week", "-1/hour", "1/hour burst 0", "1/hour 5", "1.5/hour"]
)
def test_a_wrong_rate_stops_the_start_with_a_line(text: str) -> None:
    for setting in ("rate_global", "rate_caller", "rate_address"):
        with pytest.raises(ValidationError, match="no rate"):
            EdgeSettings(**{setting: text})
    with pytest.raises(ValidationError, match="no rate"):
        EdgeSettings(rate_tools={"k8s_*": text})


async def test_three_edges_keep_one_rate_and_the_error_is_bounded(
    bus: Bus, run_edge: Any, run_worker: RunWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = rate_of("300/minute burst 30")  # far below what a busy machine can ask for
    async with AsyncExitStack() as stack:
        edges = [await stack.enter_async_context(run_edge(rate_caller=rate.text)) for _ in range(3)]
        await stack.enter_async_context(run_worker(demo()))
        for edge in edges:
            await edge.knows("demo_look")
        admitted = refused = 0
        began = time.monotonic()
        ends = began + 6.0
        refused_at = {edge.url: 0.0 for edge in edges}

        def limited() -> bool:
            """Whether the rate is what holds them: a machine that is slower than it says nothing about the rate."""
            return time.monotonic() - min(refused_at.values()) < 1.0

        async def client(edge: Any) -> None:
            nonlocal admitted, refused
            while time.monotonic() < ends or not limited():
                answer = await edge.call("demo_look")
                if "result" in answer.last:
                    admitted += 1
                else:
                    assert answer.error["code"] == -32006
                    assert answer.error["data"]["retry_after_ms"] > 0
                    refused += 1
                    refused_at[edge.url] = time.monotonic()
                    await asyncio.sleep(0.005)

        async with asyncio.timeout(90):
            await asyncio.gather(*(client(edge) for edge in edges for _ in range(4)))
        took = time.monotonic() - began
    exact = rate.burst + rate.per_s * took
    below = 3 * held_max(rate)
    with capsys.disabled():
        print(
            f"\nthree edges, {rate.text}: {admitted} admitted, {refused} refused in {took:.1f} s; exact {exact:.0f},"
            f" error {admitted - exact:+.0f}, bound -{below} .. +1"
        )
    assert refused
    assert exact - below - 1 <= admitted <= exact + 1


async def test_rest_says_429_and_when(run_edge: Any, run_worker: RunWorker, audit_events: Any) -> None:
    async with run_edge(rate_tools={"demo_l*": "1/hour"}) as running, run_worker(demo()):
        await running.knows("demo_look", "demo_other")
        path = "/api/v1/tools/demo_look/execute"
        assert (await running.rest("POST", path, json={})).status_code == 200
        refused = await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 3_000
        error = refused.json()["error"]
        assert (error["code"], error["executed"]) == ("rate_limited", "no")
        assert "1/hour" in error["message"]
        assert (await running.call("demo_other")).result, "another tool has a rate of its own"
        lying = await running.call("demo_look", headers={"mcp-name": "demo_other"})
        assert lying.status == 400, "a header that names another tool than the body"
        assert 'mcp_rate_limit_hits_total{limit="tool"} 1.0' in (await running.http.get("/metrics")).text
    stages = [event["stage"] for event in await audit_events(6)]
    assert stages.count("limited") == 1


async def test_a_limit_follows_the_identity_over_edges_and_connections(run_edge: Any, run_worker: RunWorker) -> None:
    settings = {"rate_caller": "3/hour", "rate_roles": {"viewer": "1/hour"}}
    async with run_edge(**settings) as one, run_edge(**settings) as two, run_worker(demo()):
        await one.knows("demo_look")
        await two.knows("demo_look")
        for edge in (one, two, one):
            assert (await edge.call("demo_look", role="operator")).result
        for edge in (one, two):
            assert (await edge.call("demo_look", role="operator")).error["code"] == -32006
        assert (await two.call("demo_look", role="admin")).result, "another caller"
        assert (await two.call("demo_look", role="viewer")).result
        assert (await one.call("demo_look", role="viewer")).error["code"] == -32006


async def test_an_address_is_bounded_before_anybody_signs_in(run_edge: Any) -> None:
    async with run_edge(rate_address="1000/hour burst 25") as running:
        codes = [(await running.mcp("tools/list", role=None)).status for _ in range(5)]
        assert codes == [401, 401, 401, 429, 429], "a failed sign-in costs ten"
        assert (await running.http.get("/ready")).status_code == 200


async def test_what_one_limit_lets_in_and_another_refuses_is_not_spent(
    bus: Bus, run_edge: Any, run_worker: RunWorker
) -> None:
    async with run_edge(rate_caller="2/hour", rate_tools={"demo_look": "1/hour"}) as running, run_worker(demo()):
        await running.knows("demo_look", "demo_other")
        assert (await running.call("demo_look")).result
        for _ in range(3):
            assert (await running.call("demo_look")).error["code"] == -32006
        assert (await running.call("demo_other")).result
        assert (await running.call("demo_other")).error["code"] == -32006


async def test_unspent_tokens_go_back(bus: Bus) -> None:
    rate = rate_of("8/hour")
    first = Leases(await bus.connect("edge"))
    assert await first.take("caller", "ada", rate) == 0.0
    await first.stop()
    second = Leases(await bus.connect("edge"))
    taken = [await second.take("caller", "ada", rate) for _ in range(9)]
    assert taken[:7] == [0.0] * 7
    assert all(wait > 60 for wait in taken[7:])
    await second.stop()


@pytest.mark.parametrize(("share", "admitted"), [(0.25, 5), (0.0, 0)])
async def test_without_the_bus_a_share_is_admitted(bus: Bus, share: float, admitted: int) -> None:
    client = await bus.connect("edge")
    leases = Leases(client, share)
    await (await bus.jetstream()).delete_stream("KV_LIMITS")
    rate = rate_of("20/second")
    count, began = 0, time.monotonic()
    async with asyncio.timeout(30):
        while time.monotonic() < began + 1.0 or count < min(1, admitted):
            count += await leases.take("caller", "ada", rate) == 0.0
            await asyncio.sleep(0.01)
    assert count <= admitted * (2 + time.monotonic() - began) + 2
    assert count >= min(1, admitted)
    assert leases.failing
    await leases.stop()


async def test_load_is_shed_before_a_queue_grows(run_edge: Any, run_worker: RunWorker) -> None:
    holding = asyncio.Event()
    async with run_edge(load_factor=1.0) as running, run_worker(demo(holding), concurrency=2):
        await running.knows("demo_look")
        waiting = [
            asyncio.create_task(running.rest("POST", "/api/v1/tools/demo_look/execute", json={})) for _ in range(2)
        ]
        async with asyncio.timeout(30):
            while running.edge.dispatcher.in_flight < 2:
                await asyncio.sleep(0.01)
        shed = await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})
        assert shed.status_code == 503
        assert shed.headers["retry-after"] == "1"
        assert shed.json()["error"]["code"] == "busy"
        holding.set()
        assert [(await one).status_code for one in waiting] == [200, 200]
        assert (await running.call("demo_look")).result


async def test_a_burst_at_the_start_is_no_flood(bus: Bus) -> None:
    leases = Leases(await bus.connect("edge"))
    rate, began = rate_of("1000/hour"), time.monotonic()
    taken = await asyncio.gather(*(leases.take("caller", "ada", rate) for _ in range(300)))
    assert taken == [0.0] * 300
    more = await asyncio.gather(*(leases.take("caller", "ada", rate) for _ in range(900)))
    assert 695 <= more.count(0.0) <= 701 + (time.monotonic() - began) * rate.per_s
    await leases.stop()
