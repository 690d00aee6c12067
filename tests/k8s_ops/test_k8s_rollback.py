"""k8s_rollback_deployment: the plan with what differs, the rollback and its undo; what is refused; conflicts."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from nats.aio.client import Client

from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.restoring import merge_difference, restoring_patch, same_template, target_of
from opsbus_k8s_ops.revisions import CHANGE_CAUSE, REVISION, Revision
from opsbus_k8s_ops.tool_rollback import plan_rollback, refers_to_settings
from opsbus_sandbox.app import Estate, serve
from opsbus_sandbox.kube.patch import merge_patch

from .conftest import RoughServer, kubeconfig
from .test_k8s_reads import schema_of

CHECKOUT = {"namespace": "shop", "name": "checkout", "reason": "OOM since the last release"}


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    """An estate to write to, alive: pods become ready quickly."""
    running = await serve(state_dir=tmp_path / "estate", speed=20)
    yield running
    await running.close()


def deployment(estate: Any, name: str = "checkout", namespace: str = "shop") -> Any:
    return estate.store.get("deployments", namespace, name)


def image(estate: Any) -> str:
    return str(deployment(estate)["spec"]["template"]["spec"]["containers"][0]["image"])


async def confirmed(ask: Any, **arguments: Any) -> Any:
    """Calls twice: without a token, then with the one that came with the plan."""
    first = (await ask("rollback_deployment", **arguments)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED, first
    patient = {"deadline_s": 120.0, "timeout_s": 130.0}
    return await ask("rollback_deployment", options=patient, **arguments, confirm=first.details["confirm"])


async def test_a_rollback_is_planned_confirmed_done_proved_and_undone(ask: Any, estate: Any, bus: Any) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client: Client = await bus.connect("operator")

    async def keep(msg: Any) -> None:
        heard.put_nowait(json.loads(msg.data))

    await client.subscribe("event.k8s.deployment_rolled_back", cb=keep)
    await client.flush()
    broken = image(estate)
    reply = await ask("rollback_deployment", **CHECKOUT, dry_run=True)
    schema_of("rollback_deployment").validate(reply.structured)
    planned = reply.structured
    assert (planned["outcome"], planned["from_revision"], planned["to_revision"]) == ("planned", 14, 13)
    assert planned["images_before"] == [broken] != planned["images_after"]
    changes = {change["path"]: (change["before"], change["after"]) for change in planned["plan"]["changes"]}
    assert planned["plan"]["changes"][0]["path"] == "spec.template.spec.containers[checkout].image"
    assert changes["spec.template.spec.containers[checkout].image"][0] == broken
    assert changes["spec.template.spec.containers[checkout].resources.limits.memory"] == ("256Mi", "512Mi")
    assert not [path for path in changes if "pod-template-hash" in path]
    assert "512Mi" in reply.text
    assert image(estate) == broken

    reply = await confirmed(ask, **CHECKOUT, wait_s=90)
    schema_of("rollback_deployment").validate(reply.structured)
    done = reply.structured
    assert (done["outcome"], done["verified"], done["state"]) == ("done", True, "complete"), done
    assert done["new_revision"] == 15
    assert image(estate) == done["images_after"][0] == planned["images_after"][0]
    async with asyncio.timeout(30):
        event = await heard.get()
    assert event["data"]["from_revision"] == 14
    assert event["data"]["images_before"] == [broken]

    assert done["undo"]["tool"] == "k8s_rollback_deployment"
    assert done["undo"]["arguments"]["to_revision"] == 14
    undone = (await confirmed(ask, **done["undo"]["arguments"], wait_s=0)).structured
    assert (undone["outcome"], undone["from_revision"], undone["to_revision"]) == ("done", 15, 14)
    assert image(estate) == broken


async def test_nothing_to_roll_back_to(ask: Any, estate: Any) -> None:
    name = "frontend"
    kept = [
        item["metadata"]["name"]
        for item in estate.store.list("replicasets", "shop-staging")
        if item["metadata"]["ownerReferences"][0]["name"] == name
        and item["metadata"]["annotations"][REVISION]
        != deployment(estate, name, "shop-staging")["metadata"]["annotations"][REVISION]
    ]
    for gone in kept:
        estate.store.delete("replicasets", "shop-staging", gone)
    arguments = {"namespace": "shop-staging", "name": name, "reason": "try it"}
    error = (await ask("rollback_deployment", **arguments)).error
    assert error.code is ErrorCode.PRECONDITION_FAILED
    assert "nothing to roll back to" in error.message
    assert "k8s_rollout_history" in error.hint


async def test_a_paused_rollout_is_not_rolled_back(ask: Any, estate: Any) -> None:
    paused = copy.deepcopy(deployment(estate))
    paused["spec"]["paused"] = True
    estate.store.update("deployments", paused)
    error = (await ask("rollback_deployment", **CHECKOUT)).error
    assert error.code is ErrorCode.PRECONDITION_FAILED
    assert "paused" in error.message


async def test_a_change_in_between_makes_the_confirmation_void(ask: Any, estate: Any) -> None:
    token = (await ask("rollback_deployment", **CHECKOUT)).error.details["confirm"]
    other = copy.deepcopy(deployment(estate))
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.shop.example/checkout:hotfix"
    estate.store.update("deployments", other)
    late = (await ask("rollback_deployment", **CHECKOUT, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED
    assert image(estate) == "registry.shop.example/checkout:hotfix"


def revision(number: int, template: Any, current: bool = False, cause: str | None = None) -> Revision:
    return Revision(number, f"rs-{number}", None, template, cause, current, 1, 1)


def template(image: str, **container: Any) -> Any:
    labels = {"app": "x"}
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": image, **container}]}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}),
        ({"a": {"b": 1}}, {"a": [1, 2]}),
        ({"a": [{"x": 1}, {"y": 2}]}, {"a": [{"x": 1}]}),
        ({"a": None, "b": 1}, {"b": 2, "c": {"d": {"e": []}}}),
        (template("a:1", env=[{"name": "A"}]), template("a:2")),
        ({"metadata": {"annotations": {"restartedAt": "x"}}}, {"metadata": {}}),
    ],
)
def test_the_difference_makes_the_one_of_the_other(before: Any, after: Any) -> None:
    made = merge_patch(before, merge_difference(before, after))
    said = {key: value for key, value in made.items() if value is not None}
    assert said == after
    assert merge_difference(after, after) == {}


def test_the_patch_restores_template_and_note() -> None:
    held = {**template("a:1"), "metadata": {"labels": {"app": "x", "pod-template-hash": "5d4f"}}}
    obj = {
        "metadata": {"annotations": {CHANGE_CAUSE: "the bad one", REVISION: "2"}},
        "spec": {"template": template("a:2", env=[{"name": "A", "value": "1"}])},
    }
    patch = restoring_patch(obj, revision(1, held))
    assert patch["metadata"] == {"annotations": {CHANGE_CAUSE: None}}
    restored = merge_patch(obj, patch)
    assert restored["spec"]["template"] == template("a:1")
    assert same_template(restored["spec"]["template"], held)
    assert not same_template(restored["spec"]["template"], template("a:2"))
    assert same_template({**template("a:1"), "metadata": {"creationTimestamp": None, "labels": {"app": "x"}}}, held)


def test_the_one_before_is_by_number_not_by_age() -> None:
    obj = {"metadata": {"annotations": {REVISION: "7"}}}
    known = [revision(7, {}, True), revision(3, {}), revision(5, {}), revision(0, {})]
    assert target_of(obj, known, None, "deployment x").number == 5
    assert target_of(obj, known, 3, "deployment x").number == 3


def test_a_plan_tells_what_stands_against_it_and_hides_secrets() -> None:
    env = [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "T", "valueFrom": {"secretKeyRef": {"name": "s"}}}]
    old, new = template("a:1", env=env), template("a:2", env=[{"name": "DB_PASSWORD", "value": "hunter3"}])
    obj = {
        "metadata": {
            "namespace": "n",
            "name": "x",
            "generation": 1,
            "annotations": {"argocd.argoproj.io/tracking-id": "x", REVISION: "2"},
        },
        "spec": {"replicas": 2, "strategy": {"type": "Recreate"}, "template": new},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    }
    plan = plan_rollback("lab", obj, revision(1, old), revision(2, new, True), "because", "lab")
    warnings = " | ".join(plan.warnings)
    assert "Argo CD" in warnings
    assert "Recreate" in warnings
    assert "ConfigMaps and Secrets" in warnings
    assert "hunter" not in plan.model_dump_json()
    assert plan.undo is not None
    assert plan.undo.arguments["cluster"] == "lab"
    lost = plan_rollback("lab", obj, revision(1, old), None, "because", None)
    assert lost.undo is None
    assert any("no call that takes this back" in warning for warning in lost.warnings)
    assert not refers_to_settings(new)
    assert refers_to_settings({"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}], "containers": []}})
    assert refers_to_settings({"spec": {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}})


class Rolled:
    """An API server with one deployment and its two replica sets; somebody else changes it when it is written to."""

    def __init__(self, spec_changes: bool, conflicts: int) -> None:
        self.spec_changes, self.conflicts = spec_changes, conflicts
        self.generation, self.version, self.writes = 1, 1, 0
        self.template = template("a:2")

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path.endswith("/replicasets"):
            sets = [self.replicaset(1, template("a:1")), self.replicaset(2, template("a:2"))]
            return web.json_response({"items": sets})
        if request.method == "PATCH" and "dryRun" not in request.query:
            self.writes += 1
            body = await request.json()
            if body["metadata"]["resourceVersion"] != str(self.version) or self.conflicts:
                self.conflicts -= 1
                self.version += 1
                self.generation += self.spec_changes
                said = {"kind": "Status", "code": 409, "reason": "Conflict", "message": "the object has been modified"}
                return web.json_response(said, status=409)
            self.template = merge_patch(self.template, body["spec"]["template"])
            self.version, self.generation = self.version + 1, self.generation + 1
        return web.json_response(self.deployment())

    def deployment(self) -> dict[str, Any]:
        number = "3" if self.template == template("a:1") else "2"
        meta = {"name": "x", "namespace": "n", "uid": "u", "generation": self.generation}
        return {
            "kind": "Deployment",
            "metadata": {**meta, "resourceVersion": str(self.version), "annotations": {REVISION: number}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": self.template},
            "status": {
                "observedGeneration": self.generation,
                "replicas": 1,
                "updatedReplicas": 1,
                "readyReplicas": 1,
                "availableReplicas": 1,
            },
        }

    @staticmethod
    def replicaset(number: int, pods: dict[str, Any]) -> dict[str, Any]:
        meta = {"name": f"x-{number}", "namespace": "n", "uid": f"rs{number}", "ownerReferences": [{"uid": "u"}]}
        return {"metadata": {**meta, "annotations": {REVISION: str(number)}}, "spec": {"template": pods}}


@pytest.mark.parametrize(
    ("server", "more", "writes"),
    [
        (Rolled(spec_changes=True, conflicts=1), {}, 1),
        (Rolled(spec_changes=False, conflicts=1), {"expected_version": "1"}, 1),
        (Rolled(spec_changes=False, conflicts=9), {}, 3),
        (Rolled(spec_changes=False, conflicts=1), {}, 2),
    ],
    ids=["another spec", "a version was named", "again and again", "only the status"],
)
async def test_a_conflict_on_the_way(
    rough: RoughServer,
    run_worker: Any,
    caller: Any,
    tmp_path: Path,
    server: Rolled,
    more: dict[str, Any],
    writes: int,
) -> None:
    rough.handler = server
    arguments: dict[str, Any] = {"namespace": "n", "name": "x", "reason": "it fails", "wait_s": 0, **more}
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        arguments["confirm"] = (await caller.call("k8s", "rollback_deployment", arguments)).error.details["confirm"]
        reply = await caller.call("k8s", "rollback_deployment", arguments)
    assert server.writes == writes
    if writes == 2:
        found = reply.structured
        assert (found["outcome"], found["verified"], found["new_revision"]) == ("done", True, 3)
        assert server.template == template("a:1")
    else:
        assert reply.error.code is ErrorCode.CONFLICT
        assert reply.executed == "no"
        assert server.template == template("a:2")
