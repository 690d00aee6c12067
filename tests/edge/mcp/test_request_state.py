"""Sealed request state: good at any edge, for one caller, one request and a while; otherwise refused."""

TOOL = "test_input_required_result_request_state"
PROMPT = "test_input_required_result_prompt"
CAN = {"elicitation": {}}
YES = {"confirm": {"action": "accept", "content": {"ok": True}}}


async def first_round(client, url, **arguments):
    response = await client.modern(url, "tools/call", {"name": TOOL, "arguments": arguments}, CAN)
    result = response.json()["result"]
    assert result["resultType"] == "input_required"
    assert list(result["inputRequests"]) == ["confirm"]
    return result["requestState"]


async def second_round(client, url, state, name=TOOL, **arguments):
    params = {"name": name, "arguments": arguments, "inputResponses": YES, "requestState": state}
    return await client.modern(url, "tools/call", params, CAN)


async def test_each_round_may_take_another_edge(run_edge, fixtures, wait_known, raw):
    client = raw()
    async with run_edge() as one, run_edge() as two, run_edge() as three:
        for served in (one, two, three):
            await wait_known(served)
        steps = [(one, None), (two, {"step1": {"name": "Ada"}}), (three, {"step2": {"color": "blue"}})]
        state = result = None
        for served, answers in steps:
            params = {"name": "test_input_required_result_multi_round", "arguments": {}}
            if answers is not None:
                responses = {key: {"action": "accept", "content": content} for key, content in answers.items()}
                params |= {"inputResponses": responses, "requestState": state}
            result = (await client.modern(served.mcp_url, "tools/call", params, CAN)).json()["result"]
            state = result.get("requestState")
        assert result["resultType"] == "complete"
        assert result["content"][0]["text"] == "Ada likes blue"


async def test_state_that_was_altered_is_refused(served, raw, read_events):
    client = raw()
    state = await first_round(client, served.mcp_url)
    middle = len(state) // 2  # the last character has bits that count for nothing
    altered = state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :]
    for bad in (altered, "", "v1.", state[: len(state) // 2], state + "A"):
        response = await second_round(client, served.mcp_url, bad)
        assert response.status_code == 400, bad
        assert response.json()["error"]["code"] == -32602
        assert response.json()["error"]["data"]["hint"]
    good = await second_round(client, served.mcp_url, state)
    assert good.json()["result"]["content"][0]["text"] == "state-ok"


async def test_state_of_another_caller_is_refused(served, raw):
    state = await first_round(raw("ada"), served.mcp_url)
    response = await second_round(raw("bob"), served.mcp_url, state)
    assert response.json()["error"]["code"] == -32602


async def test_state_of_another_request_is_refused(served, raw):
    client = raw()
    state = await first_round(client, served.mcp_url)
    other = await second_round(client, served.mcp_url, state, name="test_input_required_result_tampered_state")
    assert other.json()["error"]["code"] == -32602


async def test_state_that_expired_is_refused(run_edge, fixtures, wait_known, raw):
    import asyncio

    async with run_edge(seal_ttl_s=0.05) as served:
        await wait_known(served)
        client = raw()
        state = await first_round(client, served.mcp_url)
        await asyncio.sleep(0.1)
        response = await second_round(client, served.mcp_url, state)
        assert response.json()["error"]["code"] == -32602


async def test_a_prompt_s_state_is_sealed_as_well(served, raw):
    """Prompts take the SDK's way, tools the express lane: both must refuse what is not theirs."""
    params = {"name": PROMPT, "arguments": {}}
    result = (await raw("ada").modern(served.mcp_url, "prompts/get", params, CAN)).json()["result"]
    state = result["requestState"]
    assert "user_context" not in state
    answers = {"user_context": {"action": "accept", "content": {"context": "night"}}}
    params |= {"inputResponses": answers, "requestState": state}
    refused = await raw("bob").modern(served.mcp_url, "prompts/get", params, CAN)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == -32602
    good = (await raw("ada").modern(served.mcp_url, "prompts/get", params, CAN)).json()["result"]
    assert good["messages"][0]["content"]["text"] == "Prompt with context: night"


async def test_a_question_the_client_cannot_answer_is_not_sent(served, raw):
    for method, params in (("tools/call", {"name": TOOL, "arguments": {}}), ("prompts/get", {"name": PROMPT})):
        response = await raw().modern(served.mcp_url, method, params, {"sampling": {}})
        assert response.status_code == 400
        assert response.json()["error"]["code"] == -32021
        assert response.json()["error"]["data"]["requiredCapabilities"] == {"elicitation": {}}
