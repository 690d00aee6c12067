"""Resources that change: from a worker's event to whoever watches, at any edge and in both eras, and to nobody else."""

import asyncio
import contextlib
import json
import os
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification

from opsbus import Context, Worker, apikeys
from opsbus.apikey_store import ApiKeyStore
from opsbus.nats_client import flush_twice
from opsbus.platform_audit import PlatformAudit
from opsbus.quarantine_store import QuarantineStore
from opsbus_contracts.access import QuarantineKind
from opsbus_contracts.events import Event
from opsbus_edge.mcp_face import app as mcp_app
from opsbus_edge.mcp_face.rights import may_watch

WAIT_S = 30
ALL = "demo://things"
ONE = "demo://things/one"
TWO = "demo://things/two"
ASSETS = "enterprise://cmdb/assets"
CHECKOUT = "service:shop/checkout"


def things():
    worker = Worker("demo", version="1.0.0")

    @worker.resource(ALL, name="things", permission="demo:read", subscribable=True)
    async def listed(ctx: Context) -> str:
        """All of them."""
        return "all"

    @worker.resource(ALL + "/{id}", name="thing", permission="demo:read")
    async def thing(ctx: Context, id: str) -> str:
        """One of them."""
        return id

    @worker.resource("demo://secrets", name="secrets", permission="demo:secrets", subscribable=True)
    async def hidden(ctx: Context) -> str:
        """Not for all."""
        return "secret"

    @worker.tool(permission="demo:touch", read_only=True)
    async def touch(ctx: Context, uris: list[str], times: int = 1) -> str:
        """Says that they changed."""
        for _ in range(times):
            for uri in uris:
                await ctx.resource_updated(uri)
        return "touched"

    return worker


class Heard:
    """URIs that a session is told of."""

    def __init__(self):
        self.uris = []
        self._some = asyncio.Event()

    async def handler(self, message):
        if isinstance(message, ResourceUpdatedNotification):
            self.uris.append(str(message.params.uri))
            self._some.set()

    async def wait(self, *uris):
        async with asyncio.timeout(WAIT_S):
            while not set(uris) <= set(self.uris):
                self._some.clear()
                await self._some.wait()


async def next_of(stream):
    async with asyncio.timeout(WAIT_S):
        return (await anext(aiter(stream))).uri


async def ended(stream):
    async with asyncio.timeout(WAIT_S):
        return [event async for event in stream]


async def touch(client, *uris, times=1):
    result = await client.call_tool("demo_touch", {"uris": list(uris), "times": times})
    assert not result.is_error, result


def event_of(service, uri):
    return (
        Event(
            id=os.urandom(8).hex(),
            source=f"/opsbus/{service}/1",
            type="opsbus.event.v1.resource_updated",
            time=datetime.now(UTC),
            data={"uri": uri},
        )
        .model_dump_json()
        .encode()
    )


@pytest.fixture
async def edge(run_edge, run_worker, wait_known):
    async with run_worker(things()), run_edge() as one:
        await wait_known(one, "demo_touch")
        yield one


async def test_a_write_in_the_cmdb_reaches_both_eras_at_two_edges(run_edge, run_worker, wait_known, connect, tmp_path):
    from opsbus_cmdb.app import build

    heard = [Heard(), Heard()]
    database = f"sqlite:///{tmp_path}/cmdb.sqlite3"
    async with run_worker(build(), database_url=database, seed="shop"), run_edge() as one, run_edge() as two:
        for edge in (one, two):
            await wait_known(edge, "cmdb_update_asset_status")
        async with contextlib.AsyncExitStack() as stack:
            old = [
                await stack.enter_async_context(connect(edge.mcp_url, mode="legacy", message_handler=one_heard.handler))
                for edge, one_heard in zip((one, two), heard, strict=True)
            ]
            new = [await stack.enter_async_context(connect(edge.mcp_url)) for edge in (one, two)]
            found = await new[0].call_tool("cmdb_query_assets", {"filters": {"ref": CHECKOUT}})
            asset = f"{ASSETS}/{found.structured_content['items'][0]['id']}"
            other = f"{ASSETS}/999999"
            streams = []
            for client in new:
                stream = await stack.enter_async_context(client.listen(resource_subscriptions=[asset, other]))
                assert stream.honored.resource_subscriptions == [asset, other]
                streams.append(stream)
            for client in old:
                assert client.server_capabilities.resources.subscribe is True
                for uri in (ASSETS, asset, other):
                    await client.subscribe_resource(uri)
            arguments = {"id": CHECKOUT, "status": "degraded", "reason": "errors at 12 percent"}
            plan = await new[0].call_tool("cmdb_update_asset_status", arguments)
            confirm = plan.structured_content["error"]["details"]["confirm"]
            done = await new[0].call_tool("cmdb_update_asset_status", {**arguments, "confirm": confirm})
            assert done.structured_content["applied"], done
            assert [await next_of(stream) for stream in streams] == [asset, asset]
            for each in heard:
                await each.wait(ASSETS, asset)
                assert other not in each.uris
            text = (await old[1].read_resource(asset)).contents[0].text
            assert json.loads(text)["status"] == "degraded"


async def test_every_uri_of_a_template_can_be_watched_and_hears_of_itself_alone(edge, connect):
    heard = Heard()
    async with (
        connect(edge.mcp_url, mode="legacy", message_handler=heard.handler) as old,
        connect(edge.mcp_url) as new,
        new.listen(resource_subscriptions=[ONE, "demo://elsewhere/one", ALL + "/a/b"]) as stream,
    ):
        assert stream.honored.resource_subscriptions == [ONE]
        await old.subscribe_resource(ONE)
        with pytest.raises(MCPError) as caught:
            await old.subscribe_resource("demo://elsewhere/one")
        assert caught.value.code == -32002
        await touch(new, TWO, ALL, ONE)
        assert await next_of(stream) == ONE
        await heard.wait(ONE)
        assert heard.uris == [ONE]


async def test_what_every_instance_says_outside_of_calls_is_told_at_every_edge(
    run_edge, run_worker, wait_known, connect
):
    """As a watch says it: three instances see the same, and each says so."""
    heard = [Heard(), Heard()]
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(run_worker(things())) for _ in range(3)]
        for each in heard:
            edge = await stack.enter_async_context(run_edge())
            await wait_known(edge, "demo_touch")
            old = await stack.enter_async_context(
                connect(edge.mcp_url, mode="legacy", message_handler=each.handler, sub=f"of-{edge.edge.instance}")
            )
            for uri in (ONE, TWO):
                await old.subscribe_resource(uri)
        began = asyncio.get_running_loop().time()
        for _ in range(10):
            await asyncio.gather(*(worker.events.emit("resource_updated", {"uri": ONE}, ONE) for worker in workers))
        for each in heard:
            await each.wait(ONE)
        await asyncio.sleep(0.6)
        await workers[0].events.emit("resource_updated", {"uri": TWO}, TWO)
        for each in heard:
            await each.wait(TWO)
        took = asyncio.get_running_loop().time() - began
        for each in heard:
            assert each.uris.count(ONE) <= 2 + took / 0.5


async def test_scopes_of_a_token_and_a_service_in_quarantine_count(edge, bus):
    caller = edge.edge.stdio_caller()
    assert may_watch(edge.edge, caller, ONE)
    assert may_watch(edge.edge, replace(caller, scopes=("demo:*",)), ONE)
    assert not may_watch(edge.edge, replace(caller, scopes=("cmdb:*",)), ONE)
    assert not may_watch(edge.edge, replace(caller, scopes=()), ONE)
    js = await bus.jetstream("keeper")
    store = QuarantineStore(js, PlatformAudit(js, "keeper"), "ops@shop.example")
    await store.add(QuarantineKind.SERVICE, "demo", "lies", 60)
    async with asyncio.timeout(WAIT_S):
        while may_watch(edge.edge, caller, ONE):
            await asyncio.sleep(0.02)


async def test_what_is_said_often_is_told_seldom_and_at_the_end_once_more(edge, connect):
    heard = Heard()
    async with connect(edge.mcp_url, mode="legacy", message_handler=heard.handler) as client:
        for uri in (ONE, TWO):
            await client.subscribe_resource(uri)
        began = asyncio.get_running_loop().time()
        await touch(client, ONE, times=200)
        await heard.wait(ONE)
        async with asyncio.timeout(WAIT_S):
            while heard.uris.count(ONE) < 2:  # what came while it rested is not lost
                await asyncio.sleep(0.05)
        await touch(client, TWO)
        await heard.wait(TWO)
        took = asyncio.get_running_loop().time() - began
        assert 2 <= heard.uris.count(ONE) <= 3 + took / 0.5


async def test_who_lost_the_right_hears_no_more_and_who_gets_it_back_does(
    run_edge, run_worker, wait_known, connect, tmp_path
):
    policy = tmp_path / "policy.yaml"
    more = "watcher: {allow: ['demo:*']}"
    policy.write_text(f"roles: {{admin: {{allow: ['*']}}, {more}}}")
    heard = Heard()
    async with run_worker(things()), run_edge(policy_file=policy, stdio_roles=["admin"]) as edge:
        await wait_known(edge, "demo_touch")
        roles = {"roles": ("watcher",), "sub": "mara"}

        async def takes(text):
            before = edge.edge.policy_watch._policy.digest
            fresh = tmp_path / "fresh.yaml"
            fresh.write_text(text)
            os.replace(fresh, policy)
            async with asyncio.timeout(WAIT_S):
                while edge.edge.policy_watch._policy.digest == before:
                    await asyncio.sleep(0.05)

        async with (
            connect(edge.mcp_url) as admin,
            connect(edge.mcp_url, mode="legacy", message_handler=heard.handler, **roles) as old,
            connect(edge.mcp_url, **roles) as new,
            new.listen(resource_subscriptions=[ONE, TWO, ALL, "demo://secrets"]) as stream,
        ):
            for uri in (ONE, TWO, ALL, "demo://secrets"):
                await old.subscribe_resource(uri)
            await takes("roles: {admin: {allow: ['*']}, watcher: {allow: ['demo:secrets']}}")
            await touch(admin, ONE, ALL, "demo://secrets")
            assert await next_of(stream) == "demo://secrets"
            await heard.wait("demo://secrets")
            assert heard.uris == ["demo://secrets"]
            with pytest.raises(MCPError):
                await old.subscribe_resource(ONE)
            await takes(f"roles: {{admin: {{allow: ['*']}}, {more}}}")
            await touch(admin, TWO)
            assert await next_of(stream) == TWO
            await heard.wait(TWO)
            assert set(heard.uris) == {"demo://secrets", TWO}


async def test_a_right_under_a_condition_is_none_to_watch_as_it_is_none_to_read(
    run_edge, run_worker, wait_known, connect, tmp_path
):
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "roles: {admin: {allow: ['*']}, some: {allow: [{permission: 'demo:read', where: {namespace: [a]}}]}}"
    )
    async with run_worker(things()), run_edge(policy_file=policy, stdio_roles=["admin"]) as edge:
        await wait_known(edge, "demo_touch")
        async with connect(edge.mcp_url, roles=("some",)) as new:
            with pytest.raises(MCPError):
                await new.read_resource(ONE)
            async with new.listen(resource_subscriptions=[ONE, ALL]) as stream:
                assert not stream.honored.resource_subscriptions


async def test_a_stream_ends_at_what_comes_after_its_caller_was_shut_out(edge, connect, bus):
    async with (
        connect(edge.mcp_url) as admin,
        connect(edge.mcp_url, sub="mara") as new,
        new.listen(resource_subscriptions=[ONE]) as stream,
    ):
        await touch(admin, ONE)
        assert await next_of(stream) == ONE
        js = await bus.jetstream("keeper")
        store = QuarantineStore(js, PlatformAudit(js, "keeper"), "ops@shop.example")
        await store.add(QuarantineKind.CALLER, "mara", "token leaked", 60)
        async with asyncio.timeout(WAIT_S):
            while not edge.edge.shut_out.quarantines.any:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.6)  # the resource has rested
        await touch(admin, ONE)
        assert await ended(stream) == []


@pytest.mark.parametrize("at", [0, 1], ids=["at the owner", "at another edge"])
async def test_nothing_is_told_to_a_proof_that_holds_no_more(
    run_edge, run_worker, wait_known, connect, raw, lines, bus, monkeypatch, at
):
    """The streams end, so that clients come back with a fresh proof; a session is then told what it missed."""
    monkeypatch.setattr(mcp_app, "PROVED_EVERY_S", 0.2)
    client = raw("mara")
    js = await bus.jetstream("keeper")
    keys = ApiKeyStore(js, PlatformAudit(js, "keeper"), "ops@shop.example")
    key = (await keys.create("mara", ["admin"], int(time.time()) + 600, "of the tests")).shown
    async with run_worker(things()), run_edge() as one, run_edge() as two:
        for edge in (one, two):
            await wait_known(edge, "demo_touch")
        url = (one, two)[at].mcp_url
        session = await client.initialize(one.mcp_url)
        proof = {"Authorization": f"Bearer {key}"}
        headers = {**client.session_headers(session), **proof}
        message = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": ONE}}
        assert (await client.http.post(url, json=message, headers=headers)).status_code == 200
        old = lines(client, "GET", url, headers)
        params = {"notifications": {"resourceSubscriptions": [ONE]}}
        body, modern = client.envelope("subscriptions/listen", params)
        new = lines(client, "POST", url, {**modern, **proof}, body)
        async with old, new, connect(one.mcp_url) as admin:
            await new.wait("acknowledged")
            await touch(admin, ONE)
            await old.wait("resources/updated")
            await new.wait("resources/updated")
            told = len(old.lines), len(new.lines)
            await keys.revoke(apikeys.parse(key).id, "leaked")
            await asyncio.wait_for(old.over.wait(), WAIT_S)
            for edge in (one, two):  # the one that ended the stream may have heard of it before the other
                async with asyncio.timeout(WAIT_S):
                    while (await client.http.get(f"{edge.url}/api/v1/tools", headers=proof)).status_code != 401:
                        await asyncio.sleep(0.02)
            await touch(admin, ONE)
            await asyncio.wait_for(new.over.wait(), WAIT_S)
            later = old.lines[told[0] :] + new.lines[told[1] :]
            assert not any("resources/updated" in line for line in later)
            assert (await client.http.get(url, headers=headers)).status_code == 401
            async with lines(client, "GET", url, client.session_headers(session)) as fresh:
                await fresh.wait("resources/updated")


async def test_one_caller_watches_so_much_and_has_room_again(run_edge, run_worker, wait_known, connect):
    async with (
        run_worker(things()),
        run_edge(subscriptions_per_caller=3, listens_per_caller=2) as edge,
        contextlib.AsyncExitStack() as stack,
    ):
        await wait_known(edge, "demo_touch")
        old = await stack.enter_async_context(connect(edge.mcp_url, mode="legacy"))
        new = await stack.enter_async_context(connect(edge.mcp_url))
        other = await stack.enter_async_context(connect(edge.mcp_url, sub="another"))
        await old.subscribe_resource(ONE)
        await old.subscribe_resource(ONE)
        many = [f"{ALL}/{number}" for number in range(5)]
        async with new.listen(resource_subscriptions=many) as stream, new.listen(tools_list_changed=True):
            assert stream.honored.resource_subscriptions == many[:2]
            with pytest.raises(MCPError) as caught:
                async with new.listen(tools_list_changed=True):
                    pass
            assert caught.value.code == -32006
            with pytest.raises(MCPError) as caught:
                await old.subscribe_resource(TWO)
            assert "3 resources" in caught.value.message
            async with other.listen(resource_subscriptions=many) as theirs:
                assert theirs.honored.resource_subscriptions == many[:3]
        await old.unsubscribe_resource(ONE)
        async with asyncio.timeout(WAIT_S):
            while True:
                async with new.listen(resource_subscriptions=many) as stream:
                    if stream.honored.resource_subscriptions == many[:3]:
                        break
                await asyncio.sleep(0.05)


async def test_a_session_that_ends_leaves_room(run_edge, run_worker, wait_known, connect):
    async with run_worker(things()), run_edge(subscriptions_per_caller=1) as edge:
        await wait_known(edge, "demo_touch")
        for uri in (ONE, TWO):
            async with connect(edge.mcp_url, mode="legacy") as client, asyncio.timeout(WAIT_S):
                while True:
                    try:
                        await client.subscribe_resource(uri)
                        break
                    except MCPError:
                        await asyncio.sleep(0.05)


async def test_a_worker_cannot_tell_of_what_is_another_s(edge, connect, bus):
    """Neither of a resource nor of a template's URI; and the bus takes no event under another's name."""
    other = await bus.connect("test")
    async with connect(edge.mcp_url) as client, client.listen(resource_subscriptions=[ALL, ONE, TWO]) as stream:
        for uri in (ALL, ONE):
            await other.publish("event.test.resource_updated", event_of("demo", uri))
            await other.publish("event.demo.resource_updated", event_of("demo", uri))
        await flush_twice(other)
        await touch(client, TWO)
        assert await next_of(stream) == TWO
    async with asyncio.timeout(WAIT_S):
        while not any("permissions violation" in str(error).lower() for error in bus.errors):
            await asyncio.sleep(0.02)


async def test_after_the_bus_was_away_all_that_is_watched_may_have_changed(edge, connect, bus):
    heard = Heard()
    async with (
        connect(edge.mcp_url, mode="legacy", message_handler=heard.handler) as old,
        connect(edge.mcp_url) as new,
        new.listen(resource_subscriptions=[TWO]) as stream,
    ):
        await old.subscribe_resource(ONE)
        await asyncio.to_thread(bus.restart)
        await heard.wait(ONE)
        assert await next_of(stream) == TWO


def test_what_the_documentation_says_can_be_watched_is_offered_so():
    from opsbus_cmdb.app import build as cmdb
    from opsbus_k8s_ops.app import build as k8s
    from opsbus_monitoring.app import build as monitoring

    offered = set()
    for worker in (cmdb(), k8s(), monitoring()):
        fixed = [one.spec for one in worker.registry.resources.values()]
        offered |= {spec.uri for spec in fixed if spec.subscribable} | set(worker.registry.templates)
    text = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
    table = text.partition("What can be watched today:")[2].partition("\n\n**")[0]
    named = set(re.findall(r"`(enterprise://[^`]+)`", table))
    assert len(named) >= 4
    assert named <= offered
