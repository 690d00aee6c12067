"""Questions to the user on the express lane: asked with sealed state, answered at any edge, refused when altered."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from opsbus import Context, Elicit, Worker
from opsbus.testing.plugin import RunWorker

CAN_ASK = {"elicitation": {}}


class Sure(BaseModel):
    sure: bool


@pytest.fixture
async def edges(run_edge, run_worker: RunWorker) -> AsyncIterator[list[Any]]:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write")
    async def remove(ctx: Context, name: str) -> dict[str, str]:
        """Removes, if you are sure."""
        answer = await ctx.ask("sure", Elicit(f"Remove {name}?", Sure))
        return {"removed": name if answer.sure else "nothing"}

    async with run_edge() as one, run_edge() as two, run_worker(worker):
        for edge in (one, two):
            await edge.knows("demo_remove")
        yield [one, two]


def answers(accept: bool = True) -> dict[str, Any]:
    return {"sure": {"action": "accept", "content": {"sure": accept}}}


async def test_a_question_is_asked_and_answered_at_another_edge(edges, audit_events) -> None:
    one, two = edges
    asked = await one.call("demo_remove", {"name": "web"}, capabilities=CAN_ASK)
    assert asked.result["resultType"] == "input_required"
    assert asked.result["inputRequests"]["sure"]["method"] == "elicitation/create"
    state = asked.result["requestState"]
    again = {"inputResponses": answers(), "requestState": state}
    done = await two.call("demo_remove", {"name": "web"}, capabilities=CAN_ASK, params=again)
    assert done.result["structuredContent"] == {"removed": "web"}
    events = await audit_events(4)
    stages = [event["stage"] for event in events]
    assert sorted(stages) == ["completed", "input_required", "requested", "requested"]
    assert [event["message"] for event in events if event["stage"] == "input_required"] == ["Remove web?"]


async def test_the_state_is_good_for_this_caller_and_these_arguments_alone(edges) -> None:
    one, _ = edges
    state = (await one.call("demo_remove", {"name": "web"}, capabilities=CAN_ASK)).result["requestState"]
    again = {"inputResponses": answers(), "requestState": state}
    tampered = {"inputResponses": answers(), "requestState": state[:-6] + "AAAAAA"}
    for name, params, role in (
        ("everything", again, "admin"),
        ("web", tampered, "admin"),
        ("web", again | {"requestState": "x"}, "admin"),
    ):
        answer = await one.call("demo_remove", {"name": name}, capabilities=CAN_ASK, params=params, role=role)
        assert answer.status == 400
        assert answer.error["code"] == -32602
        assert "requestState" in answer.error["message"]
    other = {"authorization": f"Bearer {one.keys.token('admin', sub='eve')}"}
    answer = await one.call("demo_remove", {"name": "web"}, capabilities=CAN_ASK, params=again, headers=other)
    assert answer.error["code"] == -32602


async def test_a_client_that_cannot_ask_is_not_asked(edges) -> None:
    one, _ = edges
    answer = await one.call("demo_remove", {"name": "web"})
    assert answer.status == 400
    assert answer.error["code"] == -32021
    assert answer.error["data"]["requiredCapabilities"] == {"elicitation": {}}
