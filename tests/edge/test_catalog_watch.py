"""The catalogue on the bus: workers come, go, fall silent, announce garbage; the watch is lost and found."""

import asyncio
import contextlib
import json
import time

from nats.js.errors import NotFoundError

from opsbus import Context, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_contracts.catalog import CATALOG_TTL_S
from opsbus_edge.catalog import Catalog
from opsbus_edge.catalog.watch import CatalogWatch


def named(name: str) -> Worker:
    worker = Worker(name, version="1.0.0")

    @worker.tool(permission="a:get", read_only=True)
    async def look(ctx: Context) -> dict[str, int]:
        return {"n": 1}

    return worker


async def wait_for(condition, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_worker_is_seen_soon_and_its_leaving_too(running, run_worker: RunWorker) -> None:
    heard: list[set[str]] = []
    running.edge.catalog.subscribe(heard.append)
    took = float("inf")
    for _ in range(5):  # on a busy machine the best of some
        heard.clear()
        async with run_worker(named("demo")):
            since = time.monotonic()
            await wait_for(lambda: running.edge.catalog.tool("demo_look"))
            took = min(took, time.monotonic() - since)
            assert heard == [{"tools"}]
        since = time.monotonic()
        await wait_for(lambda: running.edge.catalog.tool("demo_look") is None)
        assert time.monotonic() - since < CATALOG_TTL_S
        assert heard == [{"tools"}, {"tools"}]
        if took < 1.0:
            break
    assert took < 1.0


async def test_a_tool_added_at_run_time_is_seen(running, run_worker: RunWorker) -> None:
    worker = named("demo")
    async with run_worker(worker):
        await wait_for(lambda: running.edge.catalog.tool("demo_look"))

        @worker.tool(permission="a:get", read_only=True)
        async def more(ctx: Context) -> dict[str, int]:
            return {"n": 2}

        worker.announce_changed()
        await wait_for(lambda: running.edge.catalog.tool("demo_more"))
        assert (await running.call("demo_more")).result["structuredContent"] == {"n": 2}


async def test_one_that_dies_without_a_word_leaves_within_its_time(bus: Bus) -> None:
    nc = await bus.connect("demo")
    bucket = await nc.jetstream().key_value("CATALOG")
    catalog = Catalog()
    watch = CatalogWatch(await bus.connect("edge"), catalog)
    manifest = {"service": "demo", "instance": "demo-1", "version": "1", "started_at": "2026-01-01T00:00:00Z"}
    since = time.monotonic()
    await bucket.put("demo.demo-1", json.dumps(manifest).encode())
    await watch.start()
    try:
        await wait_for(lambda: list(catalog.services()) == ["demo"])
        await wait_for(lambda: not catalog.services())
        assert time.monotonic() - since > CATALOG_TTL_S / 2
    finally:
        await watch.stop()


async def test_garbage_hurts_nobody_else(running, run_worker: RunWorker, bus: Bus) -> None:
    nc = await bus.connect("billing")
    bucket = await nc.jetstream().key_value("CATALOG")
    async with run_worker(named("demo")):
        await running.knows("demo_look")
        # Together: what was said first is forgotten after CATALOG_TTL_S.
        await asyncio.gather(*(bucket.put(f"billing.billing-{n}", bytes([n]) * 100) for n in range(20)))
        tool = {"name": "look", "inputSchema": {"type": "objekt"}, "permission": "x"}
        head = {"service": "billing", "instance": "billing-99", "version": "1", "started_at": "2026-01-01T00:00:00Z"}
        await bucket.put("billing.billing-99", json.dumps(head | {"tools": [tool]}).encode())
        await wait_for(lambda: len(running.edge.catalog.refusals) == 21)
        assert (await running.call("demo_look")).result["isError"] is False
        assert (await running.mcp("tools/list")).result["tools"][0]["name"] == "demo_look"
    js = await bus.jetstream()
    await wait_for_messages(js, 21)


async def wait_for_messages(js, count: int) -> None:
    async with asyncio.timeout(60):
        while (await js.stream_info("EVENTS")).state.messages < count:
            await asyncio.sleep(0.02)


async def test_two_edges_refuse_alike_and_one_event_is_kept(run_edge, bus: Bus) -> None:
    nc = await bus.connect("demo")
    bucket = await nc.jetstream().key_value("CATALOG")
    async with run_edge() as one, run_edge() as two:
        await bucket.put("demo.demo-1", b"garbage")
        await wait_for(lambda: one.edge.catalog.refusals and two.edge.catalog.refusals)
        assert one.edge.catalog.refusals == two.edge.catalog.refusals
        js = await bus.jetstream()
        await wait_for_messages(js, 1)
    assert (await js.stream_info("EVENTS")).state.messages == 1


async def test_a_watch_whose_consumer_vanished_is_set_up_again(running, run_worker: RunWorker, bus: Bus) -> None:
    async with run_worker(named("demo")):
        await running.knows("demo_look")
        js = await bus.jetstream()
        for consumer in await js.consumers_info("KV_CATALOG"):
            await js.delete_consumer("KV_CATALOG", consumer.name)
        async with run_worker(named("billing")):
            await wait_for(lambda: running.edge.catalog.tool("billing_look"))
        await wait_for(lambda: running.edge.catalog.tool("billing_look") is None)
        assert running.edge.catalog.tool("demo_look")


async def test_the_watch_survives_a_restart_of_nats(running, run_worker: RunWorker, bus: Bus) -> None:
    async with run_worker(named("demo")):
        await running.knows("demo_look")
        await asyncio.to_thread(bus.restart)
        async with run_worker(named("billing")):
            await running.knows("billing_look", "demo_look")
            await wait_for(lambda: running.edge.watch.healthy)


async def test_without_a_bucket_the_edge_is_not_ready_but_goes_on_trying(bus: Bus) -> None:
    js = await bus.jetstream()
    with contextlib.suppress(NotFoundError):
        await js.delete_key_value("CATALOG")
    catalog = Catalog()
    watch = CatalogWatch(await bus.connect("edge"), catalog)
    try:
        try:
            await watch.start(0.5)
        except TimeoutError:
            assert not catalog.ready
        else:
            raise AssertionError("there was no bucket")
        from opsbus.provision import provision

        await provision(js)
        await wait_for(lambda: catalog.ready)
    finally:
        await watch.stop()
