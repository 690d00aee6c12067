"""k8s_cordon_node and its way back: plan, confirmation, proof, undo; what is refused; conflicts on the way."""

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus_contracts import ErrorCode, Status
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.nodes import node_warnings
from opsbus_k8s_ops.writes import version_of
from opsbus_sandbox.app import Estate, serve

from .conftest import RoughServer, kubeconfig
from .test_k8s_reads import schema_of

CORDON = {"node": "lab-worker-2", "reason": "disk errors"}


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    """An estate to write to."""
    running = await serve(state_dir=tmp_path / "estate", speed=20)
    yield running
    await running.close()


def unschedulable(estate: Any, name: str = "lab-worker-2") -> bool:
    return bool(estate.store.get("nodes", "", name)["spec"].get("unschedulable"))


def change(estate: Any, name: str, **spec: Any) -> None:
    node = copy.deepcopy(estate.store.get("nodes", "", name))
    node["spec"] |= spec
    estate.store.update("nodes", node)


async def confirmed(ask: Any, **arguments: Any) -> Any:
    first = (await ask("cordon_node", role="admin", **arguments)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED, first
    return await ask("cordon_node", role="admin", **arguments, confirm=first.details["confirm"])


async def test_a_node_is_cordoned_and_opened_again(ask: Any, estate: Any) -> None:
    plan = (await ask("cordon_node", role="admin", **CORDON, dry_run=True)).structured
    assert plan["outcome"] == "planned"
    assert plan["plan"]["changes"] == [{"path": "spec.unschedulable", "before": False, "after": True}]
    assert not unschedulable(estate)

    reply = await confirmed(ask, **CORDON)
    schema_of("cordon_node").validate(reply.structured)
    done = reply.structured
    assert (done["outcome"], done["unschedulable"], done["verified"]) == ("done", True, True)
    assert unschedulable(estate)
    # The cluster's own taint may come after.
    assert int(done["version"]) <= int(estate.store.get("nodes", "", "lab-worker-2")["metadata"]["resourceVersion"])

    again = await ask("cordon_node", role="admin", **CORDON)
    assert again.structured["outcome"] == "unchanged"
    assert "already" in again.text

    assert done["undo"]["tool"] == "k8s_cordon_node"
    undone = (await confirmed(ask, **done["undo"]["arguments"])).structured
    assert (undone["outcome"], undone["unschedulable"], undone["verified"]) == ("done", False, True)
    assert not unschedulable(estate)
    assert undone["undo"]["arguments"]["uncordon"] is False
    once_more = (await ask("cordon_node", role="admin", **CORDON, uncordon=True)).structured
    assert once_more["outcome"] == "unchanged"


async def test_the_plan_tells_what_there_is_to_know(ask: Any, estate: Any) -> None:
    async def warnings(node: str, **arguments: Any) -> str:
        asked = {"node": node, "reason": "try", "dry_run": True, **arguments}
        return " | ".join((await ask("cordon_node", role="admin", **asked)).structured["plan"]["warnings"])

    assert await warnings("lab-worker-1") == ""
    assert "control plane" in await warnings("lab-control-1")
    change(estate, "lab-worker-2", unschedulable=True)
    change(estate, "lab-worker-3", unschedulable=True)
    assert "no other node takes ordinary pods" in await warnings("lab-worker-1")
    taint = {"key": "hardware", "value": "suspect", "effect": "NoSchedule"}
    change(estate, "lab-worker-3", taints=[taint])
    assert "hardware:NoSchedule" in await warnings("lab-worker-3", uncordon=True)


async def test_a_user_who_can_be_asked_is_asked(ask: Any, estate: Any) -> None:
    can_ask: dict[str, Any] = {"client": {"capabilities": {"elicitation": {}}}}
    asked = await ask("cordon_node", role="admin", options=can_ask, **CORDON)
    assert asked.status is Status.INPUT_REQUIRED
    key, question = next(iter(asked.result["inputRequests"].items()))
    assert "Cordon node lab-worker-2" in question["params"]["message"]
    answers = {
        "request_state": asked.result["requestState"],
        "input_responses": {key: {"action": "accept", "content": {"proceed": True}}},
    }
    done = await ask("cordon_node", role="admin", options=can_ask | answers, **CORDON)
    assert done.structured["outcome"] == "done"
    assert unschedulable(estate)


async def test_a_change_in_between_makes_the_confirmation_void(ask: Any, estate: Any) -> None:
    token = (await ask("cordon_node", role="admin", **CORDON)).error.details["confirm"]
    change(estate, "lab-worker-2", taints=[{"key": "a", "effect": "NoExecute"}])
    late = (await ask("cordon_node", role="admin", **CORDON, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED
    assert not unschedulable(estate)


def node(version: int, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": str(version)},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


class Busy:
    """An API server whose node somebody else changes between look and write, so many times."""

    def __init__(self, changes: int, **spec: Any) -> None:
        self.left, self.spec = changes, spec
        self.version = 1
        self.writes = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method == "GET" and request.path.endswith("/nodes/n1"):
            return web.json_response(node(self.version, **(self.spec if self.version > 1 else {})))
        if request.method == "PATCH" and "dryRun" not in request.query:
            self.writes += 1
            if self.left:
                self.left -= 1
                self.version += 1
                said = {"kind": "Status", "code": 409, "reason": "Conflict", "message": "the object has been modified"}
                return web.json_response(said, status=409)
            self.spec = {"unschedulable": True}
            self.version += 1
        if request.path.endswith("/nodes"):
            return web.json_response({"items": []})
        return web.json_response(node(self.version, **self.spec))


async def cordoned(rough: RoughServer, run_worker: Any, caller: Any, folder: Path, server: Any, **more: Any) -> Any:
    rough.handler = server
    arguments = {"node": "n1", "reason": "disk errors", **more}
    async with run_worker(build(), kubeconfig=str(kubeconfig(folder, {"lab": rough.url}))):
        first = await caller.call("k8s", "cordon_node", arguments)
        arguments["confirm"] = first.error.details["confirm"]
        return await caller.call("k8s", "cordon_node", arguments)


async def test_a_heartbeat_of_the_node_is_no_conflict(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    server = Busy(1)
    done = (await cordoned(rough, run_worker, caller, tmp_path, server)).structured
    assert (done["outcome"], done["verified"], server.writes) == ("done", True, 2)


@pytest.mark.parametrize(
    ("server", "more"),
    [(Busy(1, taints=[{"key": "a", "effect": "NoSchedule"}]), {}), (Busy(1), {"expected_version": "1"}), (Busy(9), {})],
    ids=["another spec", "a version was named", "again and again"],
)
async def test_a_conflict_is_told_and_nothing_done(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, server: Any, more: dict[str, Any]
) -> None:
    reply = await cordoned(rough, run_worker, caller, tmp_path, server, **more)
    assert reply.error.code is ErrorCode.CONFLICT
    assert reply.executed == "no"
    assert server.writes <= 3


async def test_silence_after_the_write_is_an_unknown_outcome(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    busy = Busy(0)

    async def server(request: web.Request) -> web.StreamResponse:
        if request.method == "PATCH" and "dryRun" not in request.query:
            busy.writes += 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return await busy(request)

    reply = await cordoned(rough, run_worker, caller, tmp_path, server)
    assert reply.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert (reply.executed, busy.writes) == ("unknown", 1)


async def test_a_look_that_fails_afterwards_is_a_warning(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    busy = Busy(0)

    async def server(request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and busy.writes:
            return web.json_response({"kind": "Status", "code": 403, "message": "no more"}, status=403)
        return await busy(request)

    done = (await cordoned(rough, run_worker, caller, tmp_path, server)).structured
    assert (done["outcome"], done["verified"], done["unschedulable"]) == ("done", False, True)
    assert any("looking at it failed" in warning for warning in done["warnings"])


def test_what_the_cluster_itself_tells_by_taints_is_no_other_version() -> None:
    taint = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
    assert version_of(node(1)) == version_of(node(2, taints=[taint]))
    assert version_of(node(1)) != version_of(node(1, taints=[taint | {"key": "hardware"}]))
    assert version_of(node(1)) != version_of(node(1, unschedulable=True))


def test_a_node_that_is_not_ready_is_told() -> None:
    obj = node(1)
    assert node_warnings(obj) == []
    obj["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
    assert "NodeStatusUnknown" in node_warnings(obj)[0]
