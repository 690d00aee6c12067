"""A client that we did not write: FastMCP's lists and calls through the real edge."""

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError


@pytest.fixture
def open_client(served, make_token):
    transport = StreamableHttpTransport(served.mcp_url, headers={"Authorization": f"Bearer {make_token()}"})
    return lambda **options: Client(transport, **options)


async def test_it_lists_and_calls(open_client):
    async with open_client() as client:
        assert "test_simple_text" in {tool.name for tool in await client.list_tools()}
        result = await client.call_tool("test_simple_text")
        assert result.content[0].text.startswith("This is a simple text")
        contents = await client.read_resource("test://static-text")
        assert contents[0].text.startswith("This is the content")
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert "arg1='a'" in prompt.messages[0].content.text


async def test_it_hears_progress_and_answers_questions(open_client):
    seen = []

    async def told(progress, total, message):
        seen.append(progress)

    async def answer(message, response_type, params, context):
        return {"name": "Ada"}

    async with open_client(elicitation_handler=answer, progress_handler=told) as client:
        await client.call_tool("test_tool_with_progress")
        result = await client.call_tool("test_input_required_result_elicitation")
    assert seen == [0, 50, 100]
    assert result.content[0].text == "Hello, Ada!"


async def test_it_is_told_of_errors(open_client):
    async with open_client() as client:
        with pytest.raises(ToolError, match="intentionally returns an error"):
            await client.call_tool("test_error_handling")
