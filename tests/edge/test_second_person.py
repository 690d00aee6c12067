"""Calls that a second person has to approve: bound to caller, tool, arguments, object, policy and time; spent once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from opsbus import Change, Context, Plan, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_approvals.app import build
from opsbus_contracts import ApprovalDecision, ApprovalRequest

CAN_ASK: dict[str, Any] = {"elicitation": {"form": {}}}
GO_ON = {"approval": {"action": "accept", "content": {"proceed": True}}}
POLICY = """\
roles:
  asker: {allow: ["demo:*", "approvals:read"]}
  approver: {allow: ["approvals:*"]}
  both: {allow: ["*"]}
  viewer: {}
tools:
  demo_*: {approval: two_person}
"""


class World:
    """What the demo changes."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.version = "v1"


def demo(world: World) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write", destructive=True, plans=True)
    async def change(ctx: Context[None], name: str) -> str:
        await ctx.confirm(Plan(summary=f"Change {name}", changes=[Change(path="x", after=name)]), version=world.version)
        world.done.append(name)
        return f"changed, approved by {ctx.approver}"

    @worker.tool(permission="demo:write")
    async def plain(name: str, password: str = "") -> str:
        world.done.append(name)
        return "done"

    return worker


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
async def platform(run_edge, run_worker: RunWorker, world: World, policy: Path) -> AsyncIterator[Any]:
    """An edge, the demo, and the approvals worker."""
    async with run_worker(demo(world)), run_worker(build()), run_edge(policy_file=policy) as running:
        await running.knows("demo_change", "demo_plain", "approvals_approve")
        yield running


async def ask(running: Any, name: str = "web", tool: str = "demo_change", role: str = "asker", **more: Any) -> Any:
    """Calls; again when a bucket did not answer in time, which a machine that is busy may bring about."""
    async with asyncio.timeout(60):
        while True:
            answer = await running.call(tool, {"name": name}, role=role, **more)
            error = answer.result.get("structuredContent", {}).get("error", {}) if "result" in answer.last else {}
            if error.get("code") != "unavailable":
                return answer


async def waits(running: Any, name: str = "web", **more: Any) -> dict[str, Any]:
    """Asks, and gives the error's details: nothing has been done."""
    error = (await ask(running, name, **more)).tool_error
    assert (error["code"], error["executed"]) == ("confirmation_required", "no")
    return error["details"]


async def decide(running: Any, key: str, tool: str = "approve", role: str = "approver", comment: str = "") -> Any:
    """As a person does: see the plan, then confirm it."""
    service, id = key.split(".")
    arguments = {"service": service, "id": id, "comment": comment}
    shown = await running.call(f"approvals_{tool}", arguments, role=role)
    if "error" in shown.last:
        return shown
    error = shown.tool_error
    assert error["code"] == "confirmation_required"
    return await running.call(f"approvals_{tool}", arguments | {"confirm": error["details"]["confirm"]}, role=role)


async def test_somebody_else_approves_and_the_caller_s_retry_completes(platform, world: World, audit_events) -> None:
    details = await waits(platform)
    assert details["plan"].startswith("Change web\n")
    assert world.done == []
    listed = await platform.call("approvals_list", role="approver")
    assert [(one["tool"], one["caller"]) for one in listed.result["structuredContent"]["items"]] == [
        ("demo_change", "asker@shop.example")
    ]
    assert await waits(platform) | {"expires_in_s": 0} == details | {"expires_in_s": 0}, "asking again changes nothing"
    assert (await decide(platform, details["approval"], comment="seen")).result["isError"] is False
    answer = await ask(platform)
    assert answer.result["structuredContent"] == {"result": "changed, approved by approver@shop.example"}
    assert world.done == ["web"]
    # Spent: the same call again is another one.
    again = await waits(platform)
    assert world.done == ["web"]
    assert again["approval"] == details["approval"]
    assert [one async for one in listing(platform)] == [again["approval"]]

    done = []
    async with asyncio.timeout(30):
        while not done:  # there are more events than usual where ``ask`` had to ask again
            events = await audit_events(15)
            done = [event for event in events if (event["stage"], event.get("tool")) == ("completed", "demo_change")]
    approved = [event for event in events if event["stage"] == "approved" and event["tool"] == "demo_change"]
    assert [(one["actor"], one["approver"], one["reason"]) for one in approved] == [
        ("asker@shop.example", "approver@shop.example", "seen")
    ]
    assert approved[0]["details"]["plan"].startswith("Change web")
    assert [one["approver"] for one in done] == ["approver@shop.example"]


async def listing(running: Any) -> AsyncIterator[str]:
    answer = await running.call("approvals_list", role="approver")
    for one in answer.result["structuredContent"]["items"]:
        yield f"{one['service']}.{one['id']}"


async def test_a_client_that_can_ask_waits_as_input_required_and_any_edge_goes_on(
    run_edge, run_worker: RunWorker, world: World, policy: Path
) -> None:
    """Worker and edge are others than before when the caller goes on."""
    async with run_worker(build()):
        async with run_worker(demo(world)), run_edge(policy_file=policy) as first:
            await first.knows("demo_change", "approvals_approve")
            asked = await ask(first, capabilities=CAN_ASK)
            assert asked.result["resultType"] == "input_required"
            [question] = asked.result["inputRequests"].values()
            assert "opsbus approvals approve demo." in question["params"]["message"]
            key = question["params"]["message"].split("approvals approve ")[1].split()[0]
        async with run_worker(demo(world)), run_edge(policy_file=policy) as second:
            await second.knows("demo_change", "approvals_approve")
            again = {"inputResponses": GO_ON, "requestState": asked.result["requestState"]}
            early = await ask(second, capabilities=CAN_ASK, params=again)
            assert early.tool_error["code"] == "confirmation_required"
            await decide(second, key)
            assert (await ask(second, capabilities=CAN_ASK, params=again)).result["isError"] is False
    assert world.done == ["web"]


@pytest.mark.parametrize("answer", [{"action": "decline"}, {"action": "accept", "content": {"proceed": False}}])
async def test_the_caller_s_own_user_can_withdraw_it(platform, world: World, answer: dict[str, Any]) -> None:
    asked = await ask(platform, capabilities=CAN_ASK)
    [question] = asked.result["inputRequests"].values()
    await decide(platform, question["params"]["message"].split("approvals approve ")[1].split()[0])
    again = {"inputResponses": {"approval": answer}, "requestState": asked.result["requestState"]}
    refused = await ask(platform, capabilities=CAN_ASK, params=again)
    assert refused.tool_error["code"] == "declined"
    assert world.done == []
    assert await waits(platform)


async def test_a_decline_reaches_the_caller_once(platform, world: World) -> None:
    details = await waits(platform)
    assert (await decide(platform, details["approval"], "decline", comment="not today")).result["isError"] is False
    error = (await ask(platform)).tool_error
    assert (error["code"], error["message"]) == ("declined", "approver@shop.example declined it: not today")
    assert await waits(platform)
    assert world.done == []


async def test_other_arguments_are_another_call(platform, world: World) -> None:
    details = await waits(platform)
    await decide(platform, details["approval"])
    other = await waits(platform, "database")
    assert other["approval"] != details["approval"]
    assert world.done == []


async def test_another_caller_does_not_profit(platform, world: World) -> None:
    details = await waits(platform)
    await decide(platform, details["approval"])
    assert (await waits(platform, role="both"))["approval"] != details["approval"]
    assert world.done == []


async def test_nobody_approves_their_own(platform, world: World) -> None:
    details = await waits(platform, role="both")
    refused = await decide(platform, details["approval"], role="both")
    assert refused.error["data"]["code"] == "forbidden"
    assert "their own" in refused.error["message"]
    assert await waits(platform, role="both")
    assert world.done == []


async def test_a_decision_of_the_caller_is_refused_by_the_worker_too(platform, world: World, bus: Bus) -> None:
    """As if the approvals worker had let it pass."""
    details = await waits(platform, role="both")
    await write_decision(bus, details["approval"], approver="both@shop.example")
    refused = await ask(platform, role="both")
    assert refused.error["data"]["code"] == "forbidden"
    assert world.done == []


async def write_decision(bus: Bus, key: str, approver: str = "approver@shop.example", **changed: Any) -> None:
    js = (await bus.connect("approvals")).jetstream()
    body = (await (await js.key_value("APPROVALS")).get(key)).value or b""
    request = ApprovalRequest.model_validate_json(body)
    facts = {"nonce": request.nonce, "request": sha256(body).hexdigest(), "approved": True, "decided_ms": 1}
    decision = ApprovalDecision.model_validate(facts | {"approver": approver} | changed)
    await (await js.key_value("DECISIONS")).put(key, decision.model_dump_json().encode())


@pytest.mark.parametrize("changed", [{"nonce": "0" * 32}, {"request": "0" * 64}], ids=["another one", "altered since"])
async def test_a_decision_on_something_else_is_none(platform, world: World, bus: Bus, changed: dict[str, str]) -> None:
    details = await waits(platform)
    await write_decision(bus, details["approval"], **changed)
    await waits(platform)
    assert world.done == []


async def test_another_version_of_the_object_is_refused(platform, world: World) -> None:
    details = await waits(platform)
    await decide(platform, details["approval"])
    world.version = "v2"
    error = (await ask(platform)).tool_error
    assert error["code"] == "precondition_failed"
    assert "version of the object" in error["message"]
    assert await waits(platform)
    assert world.done == []


async def test_a_changed_policy_is_refused(run_edge, run_worker: RunWorker, world: World, policy: Path) -> None:
    async with run_worker(build()), run_worker(demo(world)):
        async with run_edge(policy_file=policy) as before:
            await before.knows("demo_change", "approvals_approve")
            details = await waits(before)
            await decide(before, details["approval"])
        await asyncio.to_thread(policy.write_text, POLICY + "  other_*: {approval: none}\n")
        async with run_edge(policy_file=policy) as after:
            await after.knows("demo_change", "approvals_approve")
            error = (await ask(after)).tool_error
            assert (error["code"], "policy" in error["message"]) == ("precondition_failed", True)
    assert world.done == []


async def test_it_expires(platform, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsbus.second_person.VALID_S", 0.4)
    details = await waits(platform)
    await write_when_over(platform, details["approval"])
    assert [one async for one in listing(platform)] == []
    monkeypatch.setattr("opsbus.second_person.VALID_S", 600.0)
    await waits(platform)
    assert world.done == []


async def write_when_over(running: Any, key: str) -> None:
    """Tries to approve until it is too late."""
    service, id = key.split(".")
    async with asyncio.timeout(30):
        while True:
            arguments = {"service": service, "id": id}
            error = (await running.call("approvals_approve", arguments, role="approver")).tool_error
            if (error["code"], "is over" in error["message"]) == ("precondition_failed", True):
                return


async def test_what_was_approved_in_time_is_not_spent_too_late(
    platform, world: World, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsbus.second_person.VALID_S", 0.3)
    details = await waits(platform)
    await write_decision(bus, details["approval"])
    await write_when_over(platform, details["approval"])
    monkeypatch.setattr("opsbus.second_person.VALID_S", 600.0)
    await waits(platform)
    assert world.done == []


async def test_two_at_once_spend_it_once(platform, world: World) -> None:
    details = await waits(platform)
    await decide(platform, details["approval"])
    answers = await asyncio.gather(*(ask(platform) for _ in range(8)))
    assert sum(answer.result["isError"] is False for answer in answers) == 1
    assert world.done == ["web"]


async def test_a_tool_without_a_plan_shows_its_arguments(platform, world: World) -> None:
    shown = await platform.call("demo_plain", {"name": "db", "password": "hunter2"}, role="asker")
    assert "hunter2" not in shown.tool_error["details"]["plan"]
    details = await waits(platform, tool="demo_plain")
    assert details["plan"].splitlines()[0] == "Call demo_plain"
    assert "name: None -> 'web'" in details["plan"]
    assert world.done == []
    await decide(platform, details["approval"])
    assert (await ask(platform, tool="demo_plain")).result["isError"] is False
    assert world.done == ["web"]


async def test_a_worker_that_waits_for_nobody_does_not_get_the_call(
    run_edge, run_worker: RunWorker, world: World, policy: Path
) -> None:
    """Also when another instance of it would wait."""
    old = demo(world)
    for name, tool in list(old.registry.tools.items()):
        spec = tool.spec.model_copy(update={"two_person": False})
        object.__setattr__(old.registry.tools[name], "spec", spec)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(run_edge(policy_file=policy))
        await stack.enter_async_context(run_worker(demo(world)))
        await stack.enter_async_context(run_worker(old))
        await running.knows("demo_change")
        async with asyncio.timeout(30):
            while len(running.edge.catalog.tool("demo_change").instances) < 2:
                await asyncio.sleep(0.02)
        refused = await ask(running)
        assert refused.error["data"]["code"] == "forbidden"
        assert "second person" in refused.error["message"]
    assert world.done == []


@pytest.mark.parametrize("arguments", [{"service": "demo", "id": "0" * 20}, {"service": "k8s", "id": "a" * 20}])
async def test_what_does_not_wait_cannot_be_approved(platform, arguments: dict[str, str]) -> None:
    error = (await platform.call("approvals_approve", arguments, role="approver")).tool_error
    assert error["code"] == "not_found"


async def test_who_may_not_decide_is_refused(platform, world: World) -> None:
    details = await waits(platform)
    service, id = details["approval"].split(".")
    refused = await platform.call("approvals_approve", {"service": service, "id": id}, role="asker")
    assert refused.error["data"]["code"] == "forbidden"


async def test_a_damaged_request_is_asked_for_anew(platform, world: World, bus: Bus) -> None:
    details = await waits(platform)
    js = (await bus.connect("demo")).jetstream()
    await (await js.key_value("APPROVALS")).put(details["approval"], b"{")
    assert [one async for one in listing(platform)] == []
    assert (await waits(platform))["approval"] == details["approval"]
    assert json.dumps(world.done) == "[]"
