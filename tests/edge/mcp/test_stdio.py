"""``opsbus stdio``: both eras over the standard streams of a process, as an assistant starts it."""

import asyncio
import json
import os
import pty
import sys

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, ResourceUpdatedNotification, ToolListChangedNotification

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
WATCHED = "test://watched-resource"
COMMAND = ["-m", "opsbus", "stdio"]


@pytest.fixture
def environment(bus, run_edge, tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "NATS_URL": bus.url,
        "OPSBUS_NATS_SEED_FILE": str(bus.credentials("edge")),
        "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(tmp_path / "identity.pem"),
        "OPSBUS_EDGE_SEAL_KEY_FILE": str(tmp_path / "seal.key"),
        "OPSBUS_EDGE_STDIO_ROLES": '["admin"]',
        "OPSBUS_LOG_LEVEL": "error",
    }


@pytest.fixture
def server(environment):
    return StdioServerParameters(command=sys.executable, args=COMMAND, env=environment)


async def accepts(context, params):
    return ElicitResult(action="accept", content={"name": "Ada"})


@ERAS
async def test_a_client_lists_calls_and_answers_questions(server, fixtures, mode):
    heard, updated = asyncio.Event(), asyncio.Event()

    async def listen(message):
        if isinstance(message, ToolListChangedNotification):
            heard.set()
        if isinstance(message, ResourceUpdatedNotification):
            updated.set()

    async with Client(server, mode=mode, elicitation_callback=accepts, message_handler=listen) as client:
        assert "test_simple_text" in {tool.name for tool in (await client.list_tools()).tools}
        assert (await client.call_tool("test_simple_text")).content[0].text.startswith("This is a simple")
        result = await client.call_tool("test_input_required_result_elicitation")
        assert result.content[0].text == "Hello, Ada!"
        if mode == "legacy":
            await client.call_tool("test_trigger_tool_change")
            await asyncio.wait_for(heard.wait(), 30)
            await client.subscribe_resource(WATCHED)
            await client.call_tool("test_touch_watched")
            await asyncio.wait_for(updated.wait(), 30)
        else:
            async with client.listen(tools_list_changed=True) as changes:
                await client.call_tool("test_trigger_tool_change")
                async with asyncio.timeout(30):
                    assert type(await anext(aiter(changes))).__name__ == "ToolsListChanged"
            async with client.listen(resource_subscriptions=[WATCHED]) as changes:
                await client.call_tool("test_touch_watched")
                async with asyncio.timeout(30):
                    assert (await anext(aiter(changes))).uri == WATCHED


@ERAS
async def test_who_it_is_comes_from_the_settings(environment, fixtures, mode):
    environment |= {"OPSBUS_EDGE_STDIO_ROLES": '["viewer"]', "OPSBUS_EDGE_STDIO_USER": "ada"}
    server = StdioServerParameters(command=sys.executable, args=COMMAND, env=environment)
    async with Client(server, mode=mode) as client:
        assert "test_simple_text" in {tool.name for tool in (await client.list_tools()).tools}
    environment["OPSBUS_EDGE_STDIO_ROLES"] = "[]"
    server = StdioServerParameters(command=sys.executable, args=COMMAND, env=environment)
    async with Client(server, mode=mode) as client:
        assert (await client.list_tools()).tools == []
        with pytest.raises(MCPError) as caught:
            await client.call_tool("test_simple_text")
        assert caught.value.data["code"] == "forbidden"


async def test_it_ends_when_its_client_does(environment, fixtures):
    process = await start(environment)
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert await process.stdout.read() == b""


async def test_garbage_does_not_stop_it(environment, fixtures):
    process = await start(environment)
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    lines = [
        b"no json",
        b"{}",
        b"[]",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode(),
    ]
    process.stdin.write(b"\n".join(lines) + b"\n")
    answer = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    assert answer["id"] == 1
    assert answer["result"]["serverInfo"]["name"] == "opsbus"
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_without_a_bus_it_says_what_to_do(tmp_path):
    process = await start({"PATH": os.environ["PATH"]}, "--data", str(tmp_path / "nothing"))
    _, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"no platform runs in" in error
    assert b"opsbus up" in error
    assert b"Traceback" not in error


async def test_the_running_platform_s_bus_and_keys_are_found(environment, bus, fixtures, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "identity-signing.pem").write_bytes((tmp_path / "identity.pem").read_bytes())
    (tmp_path / "keys" / "edge-seal.key").write_bytes((tmp_path / "seal.key").read_bytes())
    facts = {"nats_url": bus.url, "seeds": {"edge": str(bus.credentials("edge"))}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    environment = {"PATH": os.environ["PATH"], "OPSBUS_DATA": str(tmp_path)}
    server = StdioServerParameters(command=sys.executable, args=COMMAND, env=environment)
    async with Client(server) as client:
        assert (await client.call_tool("test_simple_text")).content[0].text.startswith("This is a simple")


async def test_a_person_is_told_what_it_is_for(environment, fixtures):
    person, terminal = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *COMMAND, env=environment, stdin=terminal, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        line = await asyncio.wait_for(process.stderr.readline(), 60)
        assert b"speaks MCP" in line
        process.terminate()
        await asyncio.wait_for(process.communicate(), 60)
    finally:
        os.close(person)
        os.close(terminal)


async def start(environment, *more):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, *more, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    )
