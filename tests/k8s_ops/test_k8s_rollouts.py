"""k8s_rollout_status and k8s_rollout_history: how it stands, watching it to its end, what earlier ones changed."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus_contracts import ErrorCode, Status
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.revisions import template_changes
from opsbus_sandbox.app import Estate, serve

from .conftest import RoughServer, identity, kubeconfig
from .test_k8s_reads import schema_of


async def test_the_stuck_rollout_is_seen_with_the_pods_in_its_way(ask: Any) -> None:
    reply = await ask("rollout_status", role="viewer", namespace="shop", workload="checkout")
    schema_of("rollout_status").validate(reply.structured)
    found = reply.structured
    assert (found["state"], found["healthy"], found["workload"]) == ("stuck", False, "Deployment/checkout")
    assert found["replicas"] == {"desired": 6, "ready": 5, "updated": 2, "available": 5}
    assert (found["revision"], found["replica_sets"][0]["revision"]) == ("14", 14)
    assert "SHOP-1482" in found["change_cause"]
    split = {entry["revision"]: (entry["current"], entry["desired"], entry["ready"]) for entry in found["replica_sets"]}
    assert split == {14: (True, 2, 0), 13: (False, 5, 5)}
    assert found["pods_unhealthy"] == len(found["pods"]) == 2
    assert {pod["cause"] for pod in found["pods"]} == {"OOMKilled"}
    progressing = next(entry for entry in found["conditions"] if entry["type"] == "Progressing")
    assert progressing["reason"] == "ProgressDeadlineExceeded"
    assert "waited_s" not in found
    assert "stuck" in reply.text


@pytest.mark.parametrize(
    ("workload", "namespace", "desired"),
    [("statefulset/redis", "shop", 3), ("redis", "shop", 3), ("daemonset/node-exporter", "platform", 4)],
)
async def test_sets_have_rollouts_too(ask: Any, workload: str, namespace: str, desired: int) -> None:
    found = (await ask("rollout_status", namespace=namespace, workload=workload)).structured
    assert (found["state"], found["replicas"]["ready"]) == ("complete", desired)
    assert found["revision"] in ("1", "2")
    assert found["warnings"] == []


async def test_a_rollout_that_has_ended_is_not_waited_for(ask: Any) -> None:
    found = (await ask("rollout_status", namespace="shop", workload="checkout", wait_s=60)).structured
    assert (found["state"], found["timed_out"]) == ("stuck", False)
    assert found["waited_s"] < 30


async def test_the_history_says_what_each_rollout_changed(ask: Any) -> None:
    reply = await ask("rollout_history", role="viewer", namespace="shop", workload="checkout")
    schema_of("rollout_history").validate(reply.structured)
    newest, before = reply.structured["items"][:2]
    assert (newest["revision"], newest["current"], before["revision"]) == (14, True, 13)
    changes = {change["path"]: (change.get("before"), change.get("after")) for change in newest["changes"]}
    assert changes["spec.containers[checkout].resources.limits.memory"] == ("512Mi", "256Mi")
    assert changes["spec.containers[checkout].image"][1] == "registry.shop.example/checkout:v2.4.1"
    assert changes["spec.containers[checkout].env[CART_SNAPSHOT]"] == ("off", "inline")
    assert not [path for path in changes if "pod-template-hash" in path]
    assert "512Mi -> 256Mi" in reply.text
    revisions = [row["revision"] for row in reply.structured["items"]]
    assert revisions == sorted(revisions, reverse=True)


async def test_the_history_of_a_set_and_its_pages(ask: Any) -> None:
    asked = {"namespace": "shop", "workload": "redis", "limit": 1}
    first = (await ask("rollout_history", **asked)).structured
    assert (first["page"]["total"], first["items"][0]["revision"], first["items"][0]["current"]) == (2, 2, True)
    (change,) = first["items"][0]["changes"]
    assert (change["before"], change["after"]) == ("redis:7.2.4", "redis:7.2.5")
    second = (await ask("rollout_history", **asked, cursor=first["page"]["next_cursor"])).structured
    assert [row["revision"] for row in second["items"]] == [1]
    assert second["page"]["next_cursor"] is None
    rows = (await ask("rollout_history", namespace="shop", workload="redis", fields=["images"])).structured["items"]
    assert all(set(row) == {"revision", "current", "images"} for row in rows)


@pytest.mark.parametrize("tool", ["rollout_status", "rollout_history"])
@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"workload": "chekout"}, ErrorCode.NOT_FOUND, "chekout"),
        ({"workload": "deployment/chekout"}, ErrorCode.NOT_FOUND, "chekout"),
        ({"workload": "cronjob/x"}, ErrorCode.INVALID_ARGUMENTS, "cronjob"),
        ({"workload": "a b"}, ErrorCode.INVALID_ARGUMENTS, "workload"),
        ({"workload": "../x"}, ErrorCode.INVALID_ARGUMENTS, "workload"),
        ({"workload": "checkout", "namespace": "shopp"}, ErrorCode.NOT_FOUND, "shopp"),
        ({"workload": "checkout", "wait": 5}, ErrorCode.INVALID_ARGUMENTS, "wait"),
        ({}, ErrorCode.INVALID_ARGUMENTS, "workload"),
    ],
)
async def test_rollouts_that_are_not_there(
    ask: Any, tool: str, arguments: dict[str, Any], code: ErrorCode, word: str
) -> None:
    error = (await ask(tool, **{"namespace": "shop", **arguments})).error
    assert error.code is code, error
    assert word in error.message
    assert error.hint
    if word == "chekout":
        assert error.did_you_mean[0] == "checkout"


@pytest.mark.parametrize("tool", ["rollout_status", "rollout_history"])
async def test_rights_and_settings_decide_on_rollouts(
    ask: Any, estate: Any, run_worker: Any, caller: Any, tool: str
) -> None:
    error = (await ask(tool, role="stranger", namespace="shop", workload="deployment/checkout")).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "stranger@shop.example" in error.message


@pytest.mark.parametrize("tool", ["rollout_status", "rollout_history"])
async def test_closed_namespaces_have_no_rollouts(estate: Any, run_worker: Any, caller: Any, tool: str) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop"]):
        asked = {"namespace": "payments", "workload": "ledger"}
        reply = await caller.call("k8s", tool, asked, identity=identity("operator"))
    assert reply.error.code is ErrorCode.FORBIDDEN


class TestWatched:
    """A rollout watched to its end."""

    @pytest.fixture
    async def estate(self, tmp_path: Path) -> AsyncIterator[Estate]:
        """An estate of its own, alive."""
        running = await serve(state_dir=tmp_path / "estate", speed=20)
        yield running
        await running.close()

    async def test_progress_is_told_until_it_is_complete(self, ask: Any, estate: Any) -> None:
        deployment = copy.deepcopy(estate.store.get("deployments", "shop-staging", "frontend"))
        deployment["spec"]["replicas"] = 3
        template = deployment["spec"]["template"]
        template["metadata"].setdefault("annotations", {})["note"] = "rolled"

        def cordon(closed: bool) -> None:
            for node in estate.store.list("nodes"):
                estate.store.update("nodes", {**node, "spec": {**node["spec"], "unschedulable": closed}})

        def uncordon(message: Any) -> None:
            if message.status is Status.PROGRESS:
                cordon(closed=False)

        cordon(closed=True)  # so that it does not end before it is watched
        estate.store.update("deployments", deployment)
        asked = {"namespace": "shop-staging", "workload": "frontend", "wait_s": 90}
        options = {"progress": True, "deadline_s": 120.0, "timeout_s": 130.0, "on_message": uncordon}
        reply = await ask("rollout_status", options=options, **asked)
        assert (reply.structured["state"], reply.structured["timed_out"]) == ("complete", False)
        assert reply.structured["replicas"]["ready"] == 3
        told = [message.data for message in reply.of(Status.PROGRESS)]
        assert told
        assert "updated" in told[0]["message"]


def deployment(ready: int, **more: Any) -> dict[str, Any]:
    counts = {"replicas": 2, "updatedReplicas": ready, "readyReplicas": ready, "availableReplicas": ready}
    condition = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "shop", "uid": "u", "generation": 1, **more},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": {}},
        "status": {"observedGeneration": 1, "conditions": [condition], **counts},
    }


class Rolling:
    """An API server whose one deployment rolls out, with hiccups."""

    def __init__(self, looks: list[Any]) -> None:
        self.looks = looks
        self.seen = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path.endswith("/deployments/x"):
            look = self.looks[min(self.seen, len(self.looks) - 1)]
            self.seen += 1
            if isinstance(look, int):
                return web.json_response({"kind": "Status", "code": look, "message": "no"}, status=look)
            return web.json_response(look)
        if request.path.endswith("/pods"):
            return web.json_response({"kind": "Status", "code": 403, "message": "no"}, status=403)
        return web.json_response({"items": []})


async def watched(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, looks: list[Any], wait_s: int = 20
) -> Any:
    rough.handler = Rolling(looks)
    asked = {"namespace": "shop", "workload": "deployment/x", "wait_s": wait_s}
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        return await caller.call("k8s", "rollout_status", asked, deadline_s=60.0, timeout_s=70.0)


async def test_a_hiccup_does_not_end_the_watching(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsbus_k8s_ops.tool_rollout_status.POLL_EVERY_S", 0.05)
    looks = [deployment(0), 503, 429, 503, deployment(1), 503, deployment(2)]  # a read is tried three times
    found = (await watched(rough, run_worker, caller, tmp_path, looks)).structured
    assert (found["state"], found["timed_out"]) == ("complete", False)
    assert any("did not answer" in warning for warning in found["warnings"])
    # What the caller may not read is left out and said.
    assert any("pods may not be read" in warning for warning in found["warnings"])
    assert "pods" not in found


@pytest.mark.parametrize(
    ("looks", "code"),
    [
        ([deployment(0), 503], ErrorCode.BACKEND_UNAVAILABLE),
        ([deployment(0), 403], ErrorCode.FORBIDDEN),
        ([deployment(0), 404], ErrorCode.NOT_FOUND),
        ([500], ErrorCode.BACKEND_ERROR),
        ([410], ErrorCode.BACKEND_ERROR),
    ],
)
async def test_what_keeps_failing_ends_the_watching(
    rough: RoughServer,
    run_worker: Any,
    caller: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: list[Any],
    code: ErrorCode,
) -> None:
    monkeypatch.setattr("opsbus_k8s_ops.tool_rollout_status.POLL_EVERY_S", 0.05)
    assert (await watched(rough, run_worker, caller, tmp_path, looks)).error.code is code


async def test_a_rollout_that_goes_on_is_told_as_such(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsbus_k8s_ops.tool_rollout_status.POLL_EVERY_S", 0.1)
    reply = await watched(rough, run_worker, caller, tmp_path, [deployment(0), deployment(1)], wait_s=1)
    assert (reply.structured["state"], reply.structured["timed_out"]) == ("progressing", True)
    assert "Still under way" in reply.text


async def test_an_api_server_that_hangs_ends_in_time(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    rough.handler = hang
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url})), request_timeout_s=0.5):
        for tool in ("rollout_status", "rollout_history"):
            error = (await caller.call("k8s", tool, {"namespace": "shop", "workload": "deployment/x"})).error
            assert error.code is ErrorCode.BACKEND_UNAVAILABLE


def template(**container: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", **container}]}}


def test_changes_are_told_by_name_and_secrets_stay_masked() -> None:
    before = template(env=[{"name": "A", "value": "1"}, {"name": "API_TOKEN", "value": "old"}], args=["a"])
    after = template(env=[{"name": "API_TOKEN", "value": "new"}, {"name": "B", "value": "2"}], args=["a", "b"])
    changes = {change.path: (change.before, change.after) for change in template_changes(before, after)}
    assert changes == {
        "spec.containers[x].args": ("['a']", "['a', 'b']"),
        "spec.containers[x].env[A]": ("1", None),
        "spec.containers[x].env[API_TOKEN]": ("[masked:token]", "[masked:token] (changed)"),
        "spec.containers[x].env[B]": (None, "2"),
    }
    assert template_changes(before, copy.deepcopy(before)) == []
    assert template_changes({}, {}) == []
    long = template_changes(template(image="a"), template(image="b" * 5_000))
    assert len(long[0].after or "") < 400
