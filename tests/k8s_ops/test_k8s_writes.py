"""The write tools on the bus: plan, confirmation, the act, its proof, its event, its undo; and what is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from opsbus.testing.waiting import until
from opsbus_contracts import ErrorCode, Status
from opsbus_sandbox.app import Estate, serve

SCALE = {"namespace": "shop-staging", "name": "frontend", "reason": "load test at noon"}
CAN_ASK = {"client": {"capabilities": {"elicitation": {}}}}
PATIENT = {"deadline_s": 100.0, "timeout_s": 110.0}


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    """An estate to write to, alive: pods become ready quickly."""
    running = await serve(state_dir=tmp_path / "estate", speed=20)
    yield running
    await running.close()


def replicas(estate: Any, namespace: str = "shop-staging", name: str = "frontend") -> int:
    return int(estate.store.get("deployments", namespace, name)["spec"]["replicas"])


async def confirmed(ask: Any, tool: str, **arguments: Any) -> Any:
    """Calls twice: without a token, then with the one that came with the plan."""
    first = (await ask(tool, **arguments)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED
    return await ask(tool, options=PATIENT, **arguments, confirm=first.details["confirm"])


async def events(bus: Any) -> asyncio.Queue[Any]:
    client: Client = await bus.connect("operator")
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def keep(msg: Any) -> None:
        queue.put_nowait(json.loads(msg.data))

    await client.subscribe("event.k8s.>", cb=keep)
    await client.flush()
    return queue


async def test_scaling_is_planned_confirmed_done_proved_and_told(ask: Any, estate: Any, bus: Any) -> None:
    heard = await events(bus)
    plan = await ask("scale_deployment", **SCALE, replicas=3, dry_run=True)
    assert plan.structured["outcome"] == "planned"
    assert plan.structured["plan"]["changes"] == [{"path": "spec.replicas", "before": 1, "after": 3}]
    assert replicas(estate) == 1

    first = (await ask("scale_deployment", **SCALE, replicas=3)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED
    assert first.details["plan"]["summary"].startswith("Scale shop-staging/frontend")
    assert replicas(estate) == 1
    assert heard.empty()

    done = await ask("scale_deployment", **SCALE, replicas=3, confirm=first.details["confirm"])
    assert done.structured["outcome"] == "done"
    assert replicas(estate) == 3
    spent = (await ask("scale_deployment", **SCALE, replicas=3, confirm=first.details["confirm"])).structured
    assert spent["outcome"] == "unchanged"


async def test_a_confirmation_is_for_the_same_arguments(ask: Any, estate: Any) -> None:
    token = (await ask("scale_deployment", **SCALE, replicas=3)).error.details["confirm"]
    other = (await ask("scale_deployment", **SCALE, replicas=4, confirm=token)).error
    assert other.code is ErrorCode.PRECONDITION_FAILED
    stranger = (await ask("scale_deployment", role="admin", **SCALE, replicas=3, confirm=token)).error
    assert stranger.code is ErrorCode.PRECONDITION_FAILED
    assert replicas(estate) == 1


async def test_the_answer_undoes_itself(ask: Any, estate: Any, bus: Any) -> None:
    heard = await events(bus)
    done = (await confirmed(ask, "scale_deployment", **SCALE, replicas=3, wait_s=60)).structured
    assert (done["outcome"], done["before"], done["after"], done["verified"]) == ("done", 1, 3, True)
    assert (done["state"], done["replicas"]["ready"]) == ("complete", 3)
    assert replicas(estate) == 3
    async with asyncio.timeout(30):
        event = await heard.get()
    assert event["type"] == "opsbus.event.v1.deployment_scaled"
    assert event["subject"] == "shop-staging/frontend"
    assert event["data"] == {
        "cluster": "lab", "namespace": "shop-staging", "name": "frontend", "before": 1, "after": 3,
        "reason": "load test at noon",
    }  # fmt: skip
    assert done["undo"]["tool"] == "k8s_scale_deployment"
    undone = (await confirmed(ask, "scale_deployment", **done["undo"]["arguments"], wait_s=60)).structured
    assert (undone["before"], undone["after"]) == (3, 1)
    assert replicas(estate) == 1


async def test_a_user_who_can_be_asked_is_asked(ask: Any, estate: Any) -> None:
    arguments = {**SCALE, "delta": 1, "wait_s": 0}
    asked = await ask("scale_deployment", options=CAN_ASK, **arguments)
    assert asked.status is Status.INPUT_REQUIRED
    (key, question) = next(iter(asked.result["inputRequests"].items()))
    assert "1 to 2 replicas" in question["params"]["message"]
    state = {"request_state": asked.result["requestState"]}
    no = {key: {"action": "accept", "content": {"proceed": False}}}
    declined = await ask("scale_deployment", options=CAN_ASK | state | {"input_responses": no}, **arguments)
    assert declined.error.code is ErrorCode.DECLINED
    assert replicas(estate) == 1
    yes = {key: {"action": "accept", "content": {"proceed": True}}}
    done = await ask("scale_deployment", options=CAN_ASK | state | {"input_responses": yes}, **arguments)
    assert done.structured["outcome"] == "done"
    assert replicas(estate) == 2


async def test_a_change_in_between_makes_the_confirmation_void(ask: Any, estate: Any) -> None:
    token = (await ask("scale_deployment", **SCALE, replicas=3)).error.details["confirm"]
    await confirmed(ask, "scale_deployment", role="admin", **{**SCALE, "replicas": 2, "wait_s": 0})
    late = (await ask("scale_deployment", **SCALE, replicas=3, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED
    assert replicas(estate) == 2


async def test_an_expected_version_guards(ask: Any, estate: Any) -> None:
    row = (await ask("get_deployments", namespaces=["shop-staging"], name="frontend")).structured["items"][0]
    stale = (await ask("scale_deployment", **SCALE, replicas=2, expected_version="1")).error
    assert stale.code is ErrorCode.PRECONDITION_FAILED
    assert stale.details["version"] == row["version"]
    plan = await ask("scale_deployment", **SCALE, replicas=2, expected_version=row["version"], dry_run=True)
    assert plan.structured["outcome"] == "planned"


async def test_the_same_key_scales_once(ask: Any, estate: Any) -> None:
    arguments = {**SCALE, "delta": 1, "wait_s": 0, "idempotency_key": "noon-1"}
    first = (await ask("scale_deployment", **arguments)).error
    arguments |= {"confirm": first.details["confirm"]}
    one, two = [(await ask("scale_deployment", **arguments)) for _ in range(2)]
    assert one.structured == two.structured
    assert replicas(estate) == 2


async def test_what_is_so_already_is_not_done_again(ask: Any) -> None:
    reply = await ask("scale_deployment", **SCALE, replicas=1)
    assert reply.structured["outcome"] == "unchanged"
    assert "already" in reply.text


async def test_the_plan_tells_what_stands_against_it(ask: Any) -> None:
    async def warnings(name: str, count: int) -> str:
        found = await ask("scale_deployment", namespace="shop", name=name, replicas=count, reason="try", dry_run=True)
        return " | ".join(found.structured["plan"]["warnings"])

    checkout = await warnings("checkout", 2)
    assert "the autoscaler checkout (3 to 6 replicas)" in checkout
    assert "2 is outside its range" in checkout
    assert "disruption budget checkout" in checkout
    assert "jump" in await warnings("frontend", 40)
    assert "zero replicas" in await warnings("recommendations", 0)
    assert "no replica to spare" in await warnings("cart", 2)


NOT_SCALED: list[tuple[dict[str, Any], ErrorCode, str]] = [
    ({}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
    ({"replicas": 1, "delta": 1}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
    ({"replicas": -1}, ErrorCode.INVALID_ARGUMENTS, "replicas"),
    ({"delta": -5}, ErrorCode.INVALID_ARGUMENTS, "-4"),
    ({"replicas": 201}, ErrorCode.INVALID_ARGUMENTS, "200"),
    ({"replicas": 2, "reason": ""}, ErrorCode.INVALID_ARGUMENTS, "reason"),
    ({"replicas": 2, "name": "frontent"}, ErrorCode.NOT_FOUND, "frontent"),
    ({"replicas": 2, "namespace": "shop-stagin"}, ErrorCode.NOT_FOUND, "shop-stagin"),
    ({"replicas": 2, "cluster": "prod"}, ErrorCode.NOT_FOUND, "prod"),
    ({"replicas": 2, "confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
    ({"replicas": 2, "wait_s": 999}, ErrorCode.INVALID_ARGUMENTS, "wait_s"),
]


async def test_what_is_not_scaled(ask: Any, estate: Any) -> None:
    for arguments, code, word in NOT_SCALED:
        reply = await ask("scale_deployment", **(SCALE | arguments))
        assert reply.error.code is code, arguments
        assert word in reply.error.message
        assert reply.executed == "no"
    assert replicas(estate) == 1


async def test_a_viewer_of_the_cluster_cannot_write_and_is_not_even_asked(ask: Any, estate: Any) -> None:
    for tool, arguments in (("scale_deployment", {"replicas": 2}), ("restart_deployment", {})):
        error = (await ask(tool, role="viewer", **SCALE, **arguments)).error
        assert error.code is ErrorCode.FORBIDDEN
        assert "viewer@shop.example" in error.message
    assert replicas(estate) == 1


async def test_the_person_is_who_writes(ask: Any, estate: Any) -> None:
    await confirmed(ask, "scale_deployment", **SCALE, replicas=2, wait_s=0)
    managers = [
        entry["manager"]
        for entry in estate.store.get("deployments", "shop-staging", "frontend")["metadata"].get("managedFields", [])
    ]
    assert managers == [] or "opsbus" in managers


async def test_a_restart_replaces_every_pod(ask: Any, estate: Any) -> None:
    def pods() -> set[str]:
        return {
            pod["metadata"]["name"]
            for pod in estate.store.list("pods", "shop-staging")
            if pod["metadata"]["name"].startswith("frontend-")
        }

    before = pods()
    arguments = {"namespace": "shop-staging", "name": "frontend", "reason": "stale cache"}
    plan = (await ask("restart_deployment", **arguments, dry_run=True)).structured
    assert plan["outcome"] == "planned"
    assert pods() == before
    done = (await confirmed(ask, "restart_deployment", **arguments, wait_s=60)).structured
    assert (done["outcome"], done["verified"], done["state"]) == ("done", True, "complete")
    assert "undo" not in done
    assert done["undo_note"]
    await until(lambda: not pods() & before, 30)  # the last is told to stop before it has


async def test_a_restart_is_refused_while_there_is_trouble(ask: Any) -> None:
    for name, states in (("checkout", {"stuck"}), ("recommendations", {"degraded", "progressing"})):
        arguments = {"namespace": "shop", "name": name, "reason": "maybe it helps"}
        error = (await ask("restart_deployment", **arguments)).error
        assert error.code is ErrorCode.PRECONDITION_FAILED
        assert error.details["state"] in states
        assert "force=true" in error.hint
        forced = (await ask("restart_deployment", **arguments, force=True, dry_run=True)).structured
        told = {f"forced although its rollout is {state}" for state in states}  # which may have changed meanwhile
        assert told & set(forced["plan"]["warnings"])


async def test_a_write_waits_with_progress(ask: Any, estate: Any) -> None:
    arguments = {**SCALE, "replicas": 4, "wait_s": 60}
    token = (await ask("scale_deployment", **arguments)).error.details["confirm"]
    reply = await ask("scale_deployment", options=PATIENT | {"progress": True}, **arguments, confirm=token)
    assert reply.structured["verified"] is True
    steps = [message.data["progress"] for message in reply.of(Status.PROGRESS)]
    assert steps == sorted(steps)
