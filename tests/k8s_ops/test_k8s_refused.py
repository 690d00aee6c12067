"""What the writes to deployments and nodes refuse or find done already: the estate stays as it is and serves all."""

import copy
from typing import Any

from opsbus_contracts import ErrorCode, Status
from opsbus_k8s_ops.app import build

from .conftest import identity

CHECKOUT = {"namespace": "shop", "name": "checkout", "reason": "OOM since the last release"}
CORDON = {"node": "lab-worker-2", "reason": "disk errors"}
NODE = "lab-worker-2"
DRAIN = {"node": NODE, "reason": "kernel update"}


def deployment(estate: Any) -> Any:
    return estate.store.get("deployments", "shop", "checkout")


def image(estate: Any) -> str:
    return str(deployment(estate)["spec"]["template"]["spec"]["containers"][0]["image"])


def unschedulable(estate: Any) -> bool:
    return bool(estate.store.get("nodes", "", NODE)["spec"].get("unschedulable"))


async def test_the_template_that_runs_already_is_left(ask: Any, estate: Any) -> None:
    before = copy.deepcopy(deployment(estate)["spec"])
    reply = await ask("rollback_deployment", **CHECKOUT, to_revision=14)
    assert reply.structured["outcome"] == "unchanged"
    assert "already" in reply.text
    assert deployment(estate)["spec"] == before


NOT_ROLLED_BACK: list[tuple[dict[str, Any], ErrorCode, str]] = [
    ({"to_revision": 99}, ErrorCode.NOT_FOUND, "no revision 99"),
    ({"to_revision": 0}, ErrorCode.INVALID_ARGUMENTS, "to_revision"),
    ({"to_revision": "last"}, ErrorCode.INVALID_ARGUMENTS, "to_revision"),
    ({"revision": 13}, ErrorCode.INVALID_ARGUMENTS, "revision"),
    ({"reason": ""}, ErrorCode.INVALID_ARGUMENTS, "reason"),
    ({"name": "chekout"}, ErrorCode.NOT_FOUND, "chekout"),
    ({"namespace": "shopp"}, ErrorCode.NOT_FOUND, "shopp"),
    ({"cluster": "prod"}, ErrorCode.NOT_FOUND, "prod"),
    ({"expected_version": "1"}, ErrorCode.PRECONDITION_FAILED, "changed since"),
    ({"confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
]


async def test_what_is_not_rolled_back(ask: Any, estate: Any) -> None:
    before = image(estate)
    for arguments, code, word in NOT_ROLLED_BACK:
        reply = await ask("rollback_deployment", **(CHECKOUT | arguments))
        assert reply.error.code is code, (arguments, reply.error)
        assert word in reply.error.message
        assert reply.executed == "no"
    error = (await ask("rollback_deployment", **CHECKOUT, to_revision=99)).error
    assert "14, 13" in error.hint
    assert image(estate) == before


async def test_the_cluster_forbids_a_rollback_and_nobody_is_asked(ask: Any, estate: Any) -> None:
    before = image(estate)
    error = (await ask("rollback_deployment", role="viewer", **CHECKOUT)).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "viewer@shop.example" in error.message
    assert image(estate) == before


NOT_CORDONED: list[tuple[dict[str, Any], ErrorCode, str]] = [
    ({"node": "lab-worker-9"}, ErrorCode.NOT_FOUND, "lab-worker-9"),
    ({"node": "../secrets"}, ErrorCode.INVALID_ARGUMENTS, "node"),
    ({"reason": "x"}, ErrorCode.INVALID_ARGUMENTS, "reason"),
    ({"uncordon": "maybe"}, ErrorCode.INVALID_ARGUMENTS, "uncordon"),
    ({"force": True}, ErrorCode.INVALID_ARGUMENTS, "force"),
    ({"cluster": "prod"}, ErrorCode.NOT_FOUND, "prod"),
    ({"expected_version": "1"}, ErrorCode.PRECONDITION_FAILED, "changed since"),
    ({"confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
]


async def test_what_is_not_cordoned(ask: Any, estate: Any) -> None:
    for arguments, code, word in NOT_CORDONED:
        reply = await ask("cordon_node", role="admin", **(CORDON | arguments))
        assert reply.error.code is code, (arguments, reply.error)
        assert word in reply.error.message
        assert reply.executed == "no"
    assert (await ask("cordon_node", role="admin", **(CORDON | {"node": "lab-worker-9"}))).error.did_you_mean
    assert not unschedulable(estate)


async def test_the_cluster_forbids_a_cordon_and_nobody_is_asked(ask: Any, estate: Any) -> None:
    error = (await ask("cordon_node", role="operator", **CORDON)).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "operator@shop.example" in error.message
    assert not unschedulable(estate)


async def test_a_worker_of_some_namespaces_cordons_nothing(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop"]):
        reply = await caller.call("k8s", "cordon_node", CORDON, identity=identity("admin"))
    assert reply.error.code is ErrorCode.FORBIDDEN
    assert not unschedulable(estate)


async def test_a_user_who_can_be_asked_sees_every_pod(ask: Any, estate: Any) -> None:
    can_ask: dict[str, Any] = {"client": {"capabilities": {"elicitation": {}}}}
    declined = {"action": "accept", "content": {"proceed": False}}
    asked = await ask("drain_node", role="admin", options=can_ask, **DRAIN)
    assert asked.status is Status.INPUT_REQUIRED
    key, question = next(iter(asked.result["inputRequests"].items()))
    message = question["params"]["message"]
    planned = (await ask("drain_node", role="admin", **DRAIN, dry_run=True)).structured
    assert planned["pods"]
    assert all(row["name"] in message for row in planned["pods"])
    answers = {"request_state": asked.result["requestState"], "input_responses": {key: declined}}
    reply = await ask("drain_node", role="admin", options=can_ask | answers, **DRAIN)
    assert reply.error.code is ErrorCode.DECLINED
    assert not unschedulable(estate)


NOT_DRAINED: list[tuple[dict[str, Any], ErrorCode, str]] = [
    ({"node": "lab-worker-9"}, ErrorCode.NOT_FOUND, "lab-worker-9"),
    ({"node": "a b"}, ErrorCode.INVALID_ARGUMENTS, "node"),
    ({"reason": ""}, ErrorCode.INVALID_ARGUMENTS, "reason"),
    ({"wait_s": 1}, ErrorCode.INVALID_ARGUMENTS, "wait_s"),
    ({"wait_s": 100_000}, ErrorCode.INVALID_ARGUMENTS, "wait_s"),
    ({"grace_s": 0}, ErrorCode.INVALID_ARGUMENTS, "grace_s"),
    ({"cluster": "prod"}, ErrorCode.NOT_FOUND, "prod"),
    ({"expected_version": "1"}, ErrorCode.PRECONDITION_FAILED, "changed since"),
    ({"confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
]


async def test_what_is_not_drained(ask: Any, estate: Any) -> None:
    for arguments, code, word in NOT_DRAINED:
        reply = await ask("drain_node", role="admin", **(DRAIN | arguments))
        assert reply.error.code is code, (arguments, reply.error)
        assert word in reply.error.message
        assert reply.executed == "no"
    assert not unschedulable(estate)


async def test_the_cluster_forbids_a_drain_and_nobody_is_asked(ask: Any, estate: Any) -> None:
    for role in ("viewer", "operator"):
        error = (await ask("drain_node", role=role, **DRAIN)).error
        assert error.code is ErrorCode.FORBIDDEN
        assert f"{role}@shop.example" in error.message
    assert not unschedulable(estate)


async def test_a_worker_of_some_namespaces_drains_nothing(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop"]):
        reply = await caller.call("k8s", "drain_node", DRAIN, identity=identity("admin"))
    assert reply.error.code is ErrorCode.FORBIDDEN
