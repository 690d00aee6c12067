"""Lists that change and resources that are updated: whoever subscribed is told, at any edge, and nobody else."""

import asyncio
import json

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import (
    PromptListChangedNotification,
    ResourceUpdatedNotification,
    ToolListChangedNotification,
)

WATCHED = "test://watched-resource"


class Heard:
    """Notifications of a session."""

    def __init__(self):
        self.all = []
        self._some = asyncio.Event()

    async def handler(self, message):
        self.all.append(message)
        self._some.set()

    async def wait(self, kind, seconds=30):
        async with asyncio.timeout(seconds):
            while not any(isinstance(message, kind) for message in self.all):
                self._some.clear()
                await self._some.wait()
        return next(message for message in self.all if isinstance(message, kind))


async def next_of(subscription, seconds=30):
    async with asyncio.timeout(seconds):
        return await anext(aiter(subscription))


async def test_a_session_hears_of_new_tools_and_prompts(served, connect):
    heard = Heard()
    async with connect(served.mcp_url, mode="legacy", message_handler=heard.handler) as client:
        assert client.server_capabilities.tools.list_changed is True
        assert client.server_capabilities.prompts.list_changed is True
        assert client.server_capabilities.resources.list_changed is True
        await client.call_tool("test_trigger_tool_change")
        await heard.wait(ToolListChangedNotification)
        assert "test_appears" in {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool("test_trigger_prompt_change")
        await heard.wait(PromptListChangedNotification)


async def test_a_listening_client_hears_what_it_asked_for_alone(served, connect):
    async with (
        connect(served.mcp_url) as client,
        client.listen(tools_list_changed=True) as tools,
        client.listen(prompts_list_changed=True) as prompts,
    ):
        await client.call_tool("test_trigger_tool_change")
        assert type(await next_of(tools)).__name__ == "ToolsListChanged"
        with pytest.raises(TimeoutError):
            await next_of(prompts, 0.3)


async def test_a_new_worker_is_listed_within_a_second_or_so(served, connect, run_worker):
    from opsbus import Context, Worker

    late = Worker("demo", version="1.0.0")

    @late.tool(permission="demo:read", read_only=True)
    async def hello(ctx: Context) -> str:
        """Greets."""
        return "hello"

    heard = Heard()
    async with connect(served.mcp_url, mode="legacy", message_handler=heard.handler) as client, run_worker(late):
        await heard.wait(ToolListChangedNotification)
        assert "demo_hello" in {tool.name for tool in (await client.list_tools()).tools}


async def test_updates_reach_subscribers_at_every_edge(run_edge, fixtures, wait_known, connect):
    heard = Heard()
    async with run_edge() as one, run_edge() as two:
        await wait_known(one)
        await wait_known(two)
        async with (
            connect(one.mcp_url, mode="legacy", message_handler=heard.handler) as old,
            connect(two.mcp_url) as new,
            new.listen(resource_subscriptions=[WATCHED]) as subscription,
        ):
            await old.subscribe_resource(WATCHED)
            await new.call_tool("test_touch_watched")
            assert (await heard.wait(ResourceUpdatedNotification)).params.uri == WATCHED
            assert (await next_of(subscription)).uri == WATCHED


async def test_nothing_is_heard_after_unsubscribing(served, connect):
    heard = Heard()
    async with connect(served.mcp_url, mode="legacy", message_handler=heard.handler) as client:
        await client.subscribe_resource(WATCHED)
        await client.unsubscribe_resource(WATCHED)
        await client.call_tool("test_touch_watched")
        await client.call_tool("test_trigger_tool_change")
        await heard.wait(ToolListChangedNotification)
        assert not any(isinstance(message, ResourceUpdatedNotification) for message in heard.all)


@pytest.mark.parametrize("uri", ["test://nowhere", "test://static-text"], ids=["unknown", "not subscribable"])
async def test_only_what_can_be_watched_is_subscribed_to(served, connect, uri):
    async with connect(served.mcp_url, mode="legacy") as client:
        with pytest.raises(MCPError) as caught:
            await client.subscribe_resource(uri)
        assert caught.value.code == -32002
        assert caught.value.data["hint"]


async def test_the_acknowledgement_names_what_is_honoured(served, connect):
    asked = {"tools_list_changed": True, "resource_subscriptions": [WATCHED, "test://nowhere"]}
    async with connect(served.mcp_url) as client, client.listen(**asked) as stream:
        assert stream.honored.resource_subscriptions == [WATCHED]
        assert stream.honored.tools_list_changed is True
    async with connect(served.mcp_url, roles=("none",)) as stranger, stranger.listen(**asked) as stream:
        assert not stream.honored.resource_subscriptions


async def test_a_worker_is_believed_about_its_own_resources_alone(served, connect, bus):
    from datetime import UTC, datetime

    from opsbus_contracts.events import Event

    other = await bus.connect("demo")
    event = Event(
        id="1",
        source="/opsbus/demo/1",
        type="opsbus.event.v1.resource_updated",
        time=datetime.now(UTC),
        data={"uri": WATCHED},
    )
    async with connect(served.mcp_url) as client, client.listen(resource_subscriptions=[WATCHED]) as subscription:
        for body in (event.model_dump_json().encode(), b"no event", json.dumps({"data": {"uri": 5}}).encode()):
            await other.publish("event.demo.resource_updated", body)
        await other.flush()
        with pytest.raises(TimeoutError):
            await next_of(subscription, 0.3)
        await client.call_tool("test_touch_watched")
        assert (await next_of(subscription)).uri == WATCHED


async def test_a_stream_that_is_asked_for_while_the_edge_drains_ends_at_once(served, raw, read_events):
    served.edge.drain.set()
    async with asyncio.timeout(30):
        answer = await raw().modern(
            served.mcp_url, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}
        )
    acknowledged, ended = read_events(answer.text)
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert ended["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1


async def test_streams_end_in_good_order_when_the_edge_drains(run_edge, fixtures, wait_known, raw, read_events):
    client = raw()
    async with run_edge() as served:
        await wait_known(served)
        session = await client.initialize(served.mcp_url)

        async def listen():
            params = {"notifications": {"toolsListChanged": True}}
            return (await client.modern(served.mcp_url, "subscriptions/listen", params)).text

        async def get():
            headers = client.session_headers(session)
            return (await client.http.get(served.mcp_url, headers=headers)).status_code

        async with asyncio.timeout(60):
            async with asyncio.TaskGroup() as group:
                listening, getting = group.create_task(listen()), group.create_task(get())
                while served.edge.metrics.active_connections._value.get() < 2:
                    await asyncio.sleep(0.01)
                served.edge.drain.set()
    frames = read_events(listening.result())
    assert frames[0]["method"] == "notifications/subscriptions/acknowledged"
    assert frames[-1]["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1
    assert getting.result() == 200
