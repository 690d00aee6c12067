"""The catalogue: there when ready, gone when drained or dead, back after the server was away."""

import asyncio
import json

import pytest
from nats.js.errors import NotFoundError

from opsbus import Context, Worker, announce, settings
from opsbus.provision import provision
from opsbus.runtime import Runtime
from opsbus.testing.caller import Caller, NoRespondersError
from opsbus.testing.waiting import until
from opsbus_contracts import Manifest, Status
from opsbus_contracts.catalog import CATALOG_TTL_S, MANIFEST_BYTES_MAX


def make_worker() -> Worker:
    worker = Worker("test", version="1.2.3", title="Test", description="For tests.")

    @worker.tool(permission="test:read", read_only=True, title="A")
    async def one(ctx: Context[None], x: int = 1) -> str:
        """One."""
        return "one"

    @worker.resource("test://a", permission="test:read", subscribable=True)
    async def a(ctx: Context[None]) -> str:
        """A."""
        return "a"

    @worker.resource("test://t/{id}", permission="test:read", mime_type="text/plain")
    async def t(ctx: Context[None], id: str) -> str:
        """T."""
        return id

    @worker.prompt(permission="test:read")
    async def p(ctx: Context[None], who: str, how: str = "well") -> str:
        """P.

        Args:
            who: Whom.
        """
        return who

    @p.completion("who")
    async def who(ctx: Context[None], value: str, resolved: dict[str, str]) -> list[str]:
        return []

    return worker


async def entries(bus) -> dict[str, Manifest]:
    """The catalogue as it is. Not by nats-py's watch, which may say "that was all" before what is there has come."""
    js = await bus.jetstream()
    subjects = (await js.stream_info("KV_CATALOG", subjects_filter="$KV.CATALOG.>")).state.subjects or {}
    found = {}
    for subject in subjects:
        try:
            message = await js.get_last_msg("KV_CATALOG", subject)
        except NotFoundError:
            continue  # it has left meanwhile
        if message.data:
            found[subject.removeprefix("$KV.CATALOG.")] = Manifest.model_validate_json(message.data)
    return found


async def test_the_manifest(run_worker, bus):
    async with run_worker(make_worker(), concurrency=7) as running:
        found = await entries(bus)
        manifest = found[f"test.{running.instance}"]
        assert (manifest.service, manifest.version, manifest.title) == ("test", "1.2.3", "Test")
        assert manifest.concurrency == 7
        assert manifest.metrics_url == f"{running.http_url}/metrics"
        (tool,) = manifest.tools
        assert (tool.name, tool.title, tool.permission, tool.description) == ("one", "A", "test:read", "One.")
        assert manifest.resources[0].subscribable
        assert manifest.resource_templates[0].uri_template == "test://t/{id}"
        listed = [(item.name, item.description, item.required) for item in manifest.prompts[0].arguments]
        assert listed == [("who", "Whom.", True), ("how", "", False)]
        assert manifest.completions == ["prompt:p:who"]
        assert len(manifest.schema_hash) == 64


async def test_gone_when_drained(run_worker, bus):
    async with run_worker(make_worker()):
        assert len(await entries(bus)) == 1
    assert await entries(bus) == {}


async def test_the_same_offer_has_the_same_hash(run_worker, bus):
    async with run_worker(make_worker()), run_worker(make_worker()):
        async with asyncio.timeout(30):  # a machine that stood still for seconds has forgotten them for a moment
            while len(found := await entries(bus)) < 2:
                await asyncio.sleep(0.05)
    assert len({manifest.schema_hash for manifest in found.values()}) == 1


async def test_a_change_is_announced_at_once(run_worker, bus, caller):
    worker = make_worker()

    async def two(ctx: Context[None]) -> str:
        """Two."""
        return "two"

    async with run_worker(worker) as running:
        bucket = await (await bus.jetstream("edge")).key_value("CATALOG")
        watcher = await bucket.watch(f"test.{running.instance}")
        await until(watcher.updates)  # nats-py's mark of the end may come before what is there
        worker.add_tool(two, permission="test:read", read_only=True)
        worker.announce_changed()
        while True:
            update = await watcher.updates(timeout=30)
            if update is not None and [t["name"] for t in json.loads(update.value)["tools"]] == ["one", "two"]:
                break
        assert (await caller.call("test", "two")).status is Status.OK
        worker.remove_tool("two")
        worker.announce_changed()
        await until(lambda: tools_are(bus, ["one"]))
        assert (await caller.call("test", "two")).error.did_you_mean == []


async def tools_are(bus, names: list[str]) -> bool:
    return [[tool.name for tool in manifest.tools] for manifest in (await entries(bus)).values()] == [names]


async def test_it_stays_while_it_lives_and_leaves_when_it_dies(run_worker, bus, monkeypatch):
    """Longer than the TTL (here a quarter of the real one): put again and again; without the announcer it ages out."""
    monkeypatch.setattr(announce, "EVERY_S", announce.EVERY_S / 4)
    js = await bus.jetstream()
    config = (await js.stream_info("KV_CATALOG")).config
    await js.update_stream(config, max_age=CATALOG_TTL_S / 4, duplicate_window=1.0)
    async with run_worker(make_worker()) as running:
        puts = running.metrics.announcements.labels("ok")._value
        before = puts.get()
        await until(lambda: puts.get() >= before + 4)
        await until(lambda: tools_are(bus, ["one"]))  # a machine that stood still has forgotten it for a moment
        running._announcer._task.cancel()  # as if the process were gone
        await until(lambda: is_empty(bus), every_s=0.2)


async def is_empty(bus) -> bool:
    return await entries(bus) == {}


async def test_the_server_restarts_and_everything_goes_on(run_worker, bus):
    worker = make_worker()
    async with run_worker(worker) as running:
        bus.restart()
        await until(lambda: running.client.is_connected and running.metrics.reconnects._value.get() >= 1)
        await until(lambda: tools_are(bus, ["one"]))
        js = await bus.jetstream("edge")
        assert js is not None
        caller = Caller(await bus.connect("edge"), bus.signer, bus.errors)
        await caller.start()
        await until(lambda: answers(caller))
        assert running._check()[0]


async def answers(caller) -> bool:
    try:
        return (await caller.call("test", "one", deadline_s=5)).status is Status.OK
    except NoRespondersError:  # connected again, and its subscriptions on their way
        return False


async def test_announced_at_once_after_a_reconnect(run_worker, bus, monkeypatch):
    monkeypatch.setattr(announce, "EVERY_S", 3600.0)  # nothing else puts the manifest again
    async with run_worker(make_worker()) as running:
        puts = running.metrics.announcements.labels("ok")._value
        assert puts.get() == 1
        bus.restart()
        await until(lambda: puts.get() >= 2)


async def test_an_identity_that_is_refused_for_a_while_comes_back(run_worker, bus):
    """A server that reloads without the identity ends the connection; with it again, the worker goes on by itself."""
    worker = Worker("demo", version="1.0.0")
    async with run_worker(worker) as running:
        refused = running.metrics.nats_errors.labels("authorization")._value
        everybody = dict(bus.server.options.users)
        bus.server.reload({name: key for name, key in everybody.items() if name != "demo"})
        await until(lambda: refused.get() >= 2)
        assert not running._check()[0]
        bus.server.reload(everybody)
        await until(lambda: running._check()[0])
        assert not running.lost.is_set()


async def test_stopping_without_a_server_ends(run_worker, bus):
    async with run_worker(make_worker()) as running:
        bus.stop()
        await until(lambda: not running.client.is_connected)
        await asyncio.wait_for(running.stop(), 30)
    bus.start()


async def test_a_connection_that_is_closed_for_good_is_told(run_worker, bus):
    async with run_worker(make_worker()) as running:
        await running.client.close()
        await asyncio.wait_for(running.lost.wait(), 30)
        assert not running._check()[0]
        await asyncio.wait_for(running.stop(), 30)


async def test_not_ready_while_the_server_is_away(run_worker, bus):
    async with run_worker(make_worker()) as running:
        assert running._check()[0]
        bus.stop()
        await until(lambda: not running._check()[0])
        bus.start()
        await until(lambda: running._check()[0])


async def test_a_worker_waits_for_the_bucket(run_worker, bus, caller):
    """Started before the bus is provisioned: not ready, then ready by itself."""
    js = await bus.jetstream()
    await js.delete_stream("KV_CATALOG")
    worker = make_worker()

    async def later():
        await until(lambda: worker_failed(runtimes))
        assert not any(runtime.ready for runtime in runtimes)
        await provision(js)

    runtimes: list = []
    loaded = settings.load(worker.settings_class, "test", nats_url=bus.url, nats_seed_file=bus.credentials("test"))
    runtimes.append(Runtime(worker, loaded))
    try:
        await asyncio.gather(runtimes[0].start(), later())
        assert runtimes[0].ready
    finally:
        await runtimes[0].stop()


def worker_failed(runtimes) -> bool:
    return runtimes[0].metrics.announcements.labels("failed")._value.get() > 0


async def test_a_manifest_over_the_bound_stops_the_start(run_worker, bus):
    worker = make_worker()
    worker.description = "x" * MANIFEST_BYTES_MAX
    with pytest.raises(ValueError, match="manifest"):
        async with run_worker(worker):
            raise AssertionError("it must not start")
    assert await entries(bus) == {}


def test_the_period_is_a_third_of_the_ttl():
    assert announce.EVERY_S * 3 == CATALOG_TTL_S
