"""What clients of either era may do, through the real edge and bus, with the SDK's own client."""

import pytest
from mcp.shared.exceptions import MCPError

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@ERAS
async def test_tools_are_listed_and_called(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["test_simple_text"].annotations.read_only_hint is True
        result = await client.call_tool("test_simple_text")
        assert result.content[0].text == "This is a simple text response for testing."
        assert not result.is_error


@ERAS
async def test_a_failed_tool_is_a_result_that_says_why(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        result = await client.call_tool("test_error_handling")
        assert result.is_error
        assert "intentionally returns an error" in result.content[0].text
        assert result.structured_content["error"]["code"] == "backend_error"


@ERAS
async def test_an_unknown_tool_is_an_error_with_a_hint(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("test_simple_txt")
        assert caught.value.code == -32602
        assert caught.value.data["code"] == "unknown_tool"
        assert "test_simple_text" in caught.value.data["did_you_mean"]


@ERAS
async def test_resources_templates_and_prompts(served, fixtures, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        assert {r.uri for r in (await client.list_resources()).resources} >= {"test://static-text"}
        assert [t.uri_template for t in (await client.list_resource_templates()).resource_templates] == [
            "test://template/{id}/data"
        ]
        read = await client.read_resource("test://template/7/data")
        assert '"id":"7"' in read.contents[0].text.replace(" ", "")
        binary = await client.read_resource("test://static-binary")
        assert binary.contents[0].blob == fixtures.PNG_BASE64
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "test_prompt_with_arguments" in prompts
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert prompt.messages[0].content.text == "Prompt with arguments: arg1='a', arg2='b'"


@ERAS
async def test_a_missing_resource_has_the_code_of_its_era(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("test://nowhere")
        assert caught.value.code == {"auto": -32602, "legacy": -32002}[mode]
        assert caught.value.data["uri"] == "test://nowhere"
