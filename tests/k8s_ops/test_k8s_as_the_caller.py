"""Every tool, its requests counted at the wire: each as the caller with all groups, each write rehearsed before."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus.testing.waiting import until
from opsbus_contracts import ErrorCode
from opsbus_contracts.identity import Grant
from opsbus_k8s_ops.app import build
from opsbus_sandbox.app import Estate, serve

from ..faults.proxy import FaultProxy
from .conftest import identity, kubeconfig

NODE = "lab-worker-2"
WHO = "ada@shop.example"
GROUPS = ["opsbus:viewer", "opsbus:admin"]
REVIEWS = "/apis/authorization.k8s.io/"

SHOP: dict[str, Any] = {"namespace": "shop-staging"}
FRONTEND: dict[str, Any] = {**SHOP, "name": "frontend", "reason": "a try"}
READS: dict[str, dict[str, Any]] = {
    "get_pods": {"namespaces": ["shop"]},
    "get_deployments": {"namespaces": ["shop"], "kinds": ["Deployment", "StatefulSet", "DaemonSet"]},
    "diagnose_workload": {"namespace": "shop", "workload": "checkout"},
    "get_events": {"namespaces": ["shop"], "object": "deployment/checkout"},
    "get_resource": {"kind": "services", "namespace": "shop"},
    "rollout_status": {"namespace": "shop", "workload": "checkout"},
    "rollout_history": {"namespace": "shop", "workload": "checkout"},
    "can_i": {"verb": "get", "kind": "pods", "namespace": "shop"},
    "get_pod_logs": {"namespace": "shop", "workload": "frontend", "tail": 5},
}
WRITES: dict[str, dict[str, Any]] = {
    "scale_deployment": {**FRONTEND, "replicas": 2, "wait_s": 0},
    "restart_deployment": {**FRONTEND, "force": True, "wait_s": 0},
    "rollback_deployment": {"namespace": "shop", "name": "checkout", "reason": "a try", "wait_s": 0},
    "cordon_node": {"node": NODE, "reason": "a try"},
    "drain_node": {"node": NODE, "reason": "a try", "force": True, "delete_local_data": True, "wait_s": 60},
}
AS_ITSELF = {"list_clusters"}
"""What is asked of the worker and not of the cluster."""


@dataclass(frozen=True)
class Asked:
    """A request as it came to the API server."""

    method: str
    path: str
    dry: bool
    user: str | None
    groups: list[str]


class Wire(FaultProxy):
    """Passes everything on, and keeps who asked for what."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.requests: list[Asked] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers, dry = request.headers, request.query.get("dryRun") == "All"
        groups = headers.getall("Impersonate-Group", [])
        self.requests.append(Asked(request.method, request.path, dry, headers.get("Impersonate-User"), groups))
        return await super()._handle(request)

    def taken(self) -> list[Asked]:
        """Since the last time."""
        taken, self.requests = self.requests, []
        return taken


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    """An estate to write to, alive."""
    running = await serve(state_dir=tmp_path / "estate", speed=20)
    yield running
    await running.close()


@pytest.fixture
async def wire(estate: Estate, run_worker: Any, tmp_path: Path) -> AsyncIterator[Wire]:
    """Between a worker and the estate."""
    made = Wire(estate.kube_url)
    await made.start()
    path = kubeconfig(tmp_path, {"lab": made.url}, user={"token": estate.tokens["opsbus"]})
    async with run_worker(build(), kubeconfig=str(path), watch=False):
        yield made
    await made.stop()


def at_rest(estate: Estate) -> bool:
    """Whether what the writes began has come to its end."""
    for namespace, name in (("shop-staging", "frontend"), ("shop", "checkout")):
        found = estate.store.get("deployments", namespace, name)
        assert found is not None
        status = found["status"]
        counts = [status.get(field) for field in ("replicas", "updatedReplicas", "availableReplicas")]
        seen = status["observedGeneration"] == found["metadata"]["generation"]
        if not seen or counts != [found["spec"]["replicas"]] * 3:
            return False
    return not any(pod["metadata"].get("deletionTimestamp") for pod in estate.store.list("pods"))


async def test_every_request_is_the_callers_and_every_write_is_rehearsed(
    wire: Wire, estate: Estate, caller: Any
) -> None:
    who = identity("viewer").model_copy(update={"sub": WHO, "roles": ["viewer", "admin"]})
    patient = {"identity": who, "deadline_s": 100.0, "timeout_s": 110.0}
    assert {*READS, *WRITES, *AS_ITSELF} == set(build().registry.tools), "a new tool belongs here"

    def check(tool: str, requests: list[Asked]) -> None:
        assert requests, tool
        for request in requests:
            assert (request.user, request.groups) == (WHO, GROUPS), (tool, request)

    for tool, arguments in READS.items():
        reply = await caller.call("k8s", tool, arguments, **patient)
        assert reply.structured, tool
        requests = wire.taken()
        check(tool, requests)
        assert all(asked.method == "GET" or asked.path.startswith(REVIEWS) for asked in requests), tool

    for tool, arguments in WRITES.items():
        if tool == "drain_node":  # another pod on the node makes its confirmation void
            await until(lambda: at_rest(estate), 60)
        planned = await caller.call("k8s", tool, {**arguments, "dry_run": True}, **patient)
        assert planned.structured["outcome"] == "planned", tool
        requests = wire.taken()
        check(tool, requests)
        changes = [asked for asked in requests if asked.method != "GET"]
        assert changes, tool
        assert all(asked.dry for asked in changes), tool
        first = (await caller.call("k8s", tool, arguments, **patient)).error
        assert first.code is ErrorCode.CONFIRMATION_REQUIRED, (tool, first)
        assert all(asked.dry for asked in wire.requests if asked.method != "GET"), tool
        done = await caller.call("k8s", tool, {**arguments, "confirm": first.details["confirm"]}, **patient)
        assert done.structured["outcome"] == "done", tool
        requests = wire.taken()
        check(tool, requests)
        rehearsed = {(asked.method, asked.path) for asked in requests if asked.dry}
        written = {(asked.method, asked.path) for asked in requests if asked.method != "GET" and not asked.dry}
        assert written, tool
        assert written <= rehearsed, tool
        if tool == "cordon_node":
            undo = {**done.structured["undo"]["arguments"]}
            token = (await caller.call("k8s", tool, undo, **patient)).error.details["confirm"]
            assert (await caller.call("k8s", tool, {**undo, "confirm": token}, **patient)).structured
            check(tool, wire.taken())

    await caller.call("k8s", "list_clusters", {}, **patient)
    assert {(asked.path, asked.user) for asked in wire.taken()} == {("/version", None)}


async def test_what_the_policy_closes_is_not_even_asked_for(wire: Wire, caller: Any) -> None:
    denied = Grant(effect="deny", permission="k8s:*", where={"namespace": ["payments", "kube-*"]})
    opened = Grant(permission="k8s:*", where={"namespace": ["shop*"]})
    everything = identity("admin")
    tools = {**READS, **WRITES}
    for who in (
        everything.model_copy(update={"grants": [denied]}),
        everything.model_copy(update={"permissions": [], "grants": [opened]}),
    ):
        for tool, arguments in tools.items():
            moved = {
                key: "payments" if key == "namespace" else ["shop", "payments"] if key == "namespaces" else value
                for key, value in arguments.items()
            }
            error = (await caller.call("k8s", tool, moved, identity=who)).error
            assert error.code is ErrorCode.FORBIDDEN, tool
            assert "permission" in error.message
    assert wire.taken() == []


async def test_no_error_names_what_is_closed(wire: Wire, estate: Estate, caller: Any) -> None:
    """Errors tell what is near what was asked for, of what the caller may see."""
    opened = Grant(permission="k8s:get", where={"namespace": ["shop*", "payment"]})
    who = identity("admin").model_copy(update={"permissions": [], "grants": [opened]})
    error = (await caller.call("k8s", "get_pods", {"namespaces": ["payment"]}, identity=who)).error
    assert error.code is ErrorCode.NOT_FOUND
    assert error.did_you_mean == []
    assert "payments" not in error.hint
    assert "shop-staging" in error.hint


async def test_the_setting_hides_names_too(estate: Estate, run_worker: Any, caller: Any) -> None:
    settings = {
        "kubeconfig": str(estate.kubeconfig),
        "contexts": ["lab"],
        "namespaces": ["shop*", "payment"],
        "watch": False,
    }
    async with run_worker(build(), **settings):
        for tool, arguments in (
            ("get_pods", {"namespaces": ["payment"]}),
            ("get_deployments", {"name": "ledgr"}),
        ):
            error = (await caller.call("k8s", tool, arguments, identity=identity("admin"))).error
            assert error.code is ErrorCode.NOT_FOUND, tool
            assert error.did_you_mean == [], tool
            assert "payments" not in error.hint
