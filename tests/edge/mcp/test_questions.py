"""Questions of workers: as results to modern clients, as requests to the clients of sessions."""

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CreateMessageResult, ElicitResult, ErrorData, ListRootsResult, Root, TextContent

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


def says(action="accept", **content):
    """An elicitation callback with this answer."""

    async def answer(context, params):
        return ElicitResult(action=action, content=content or None)

    return answer


async def samples(context, params):
    return CreateMessageResult(
        role="assistant", content=TextContent(type="text", text="Paris"), model="m", stop_reason="endTurn"
    )


async def roots(context):
    return ListRootsResult(roots=[Root(uri="file:///home", name="home")])


@ERAS
async def test_the_user_is_asked_and_the_answer_counts(served, connect, mode):
    async with connect(served.mcp_url, mode=mode, elicitation_callback=says(name="Ada")) as client:
        result = await client.call_tool("test_input_required_result_elicitation")
        assert result.content[0].text == "Hello, Ada!"


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_ends_the_call_with_its_reason(served, connect, mode, action):
    async with connect(served.mcp_url, mode=mode, elicitation_callback=says(action)) as client:
        result = await client.call_tool("test_input_required_result_elicitation")
        assert result.is_error
        assert result.structured_content["error"]["code"] == "declined"


@ERAS
async def test_model_and_roots_are_asked(served, connect, mode):
    callbacks = {"sampling_callback": samples, "list_roots_callback": roots, "elicitation_callback": says(name="Ada")}
    async with connect(served.mcp_url, mode=mode, **callbacks) as client:
        result = await client.call_tool("test_input_required_result_multiple_inputs")
        assert result.content[0].text == "Paris Ada, roots: 1"
        result = await client.call_tool("test_input_required_result_list_roots")
        assert result.content[0].text == "Roots: home file:///home"


@ERAS
async def test_several_rounds(served, connect, mode):
    async def answer(context, params):
        field = next(iter(params.requested_schema["properties"]))
        return ElicitResult(action="accept", content={field: {"name": "Ada", "color": "blue"}[field]})

    async with connect(served.mcp_url, mode=mode, elicitation_callback=answer) as client:
        result = await client.call_tool("test_input_required_result_multi_round")
        assert result.content[0].text == "Ada likes blue"


@ERAS
async def test_a_prompt_may_ask_too(served, connect, mode):
    async with connect(served.mcp_url, mode=mode, elicitation_callback=says(context="night")) as client:
        prompt = await client.get_prompt("test_input_required_result_prompt")
        assert prompt.messages[0].content.text == "Prompt with context: night"


@ERAS
async def test_what_the_client_cannot_do_is_named(served, connect, mode):
    async with connect(served.mcp_url, mode=mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("test_missing_capability")
        assert caught.value.code == -32021
        assert caught.value.data["requiredCapabilities"] == {"sampling": {}}


async def test_a_client_that_fails_to_answer_is_told_that_nothing_was_done(served, connect):
    async def fails(context, params):
        return ErrorData(code=-1, message="User rejected sampling request")

    async with connect(served.mcp_url, mode="legacy", sampling_callback=fails) as client:
        result = await client.call_tool("test_sampling", {"prompt": "hi"})
        assert result.is_error
        assert result.structured_content["error"]["code"] == "declined"


async def test_a_session_that_never_answers_ends_in_time(run_edge, fixtures, wait_known, connect):
    import asyncio

    async def sleeps(context, params):
        await asyncio.sleep(60)

    async with run_edge(answer_timeout_s=0.3) as served:
        await wait_known(served)
        async with connect(served.mcp_url, mode="legacy", elicitation_callback=sleeps) as client:
            result = await client.call_tool("test_input_required_result_elicitation")
            assert result.is_error
            assert "0.3 s" in result.content[0].text
