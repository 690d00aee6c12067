"""The tools that change workloads, before any cluster: plan, question, act, proof, undo; locks, rights, dry runs."""

import asyncio
import json
import time
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus_contracts import ErrorCode, Status

from .admin import Admin, at
from .conftest import Ask, confirmed, unique
from .lab import Lab
from .objects import deployment, pod_spec

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]

REVISION = "deployment.kubernetes.io/revision"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
HOPELESS = {"ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "Unschedulable"}
SEEN_OF_PODS: set[str] = set()
"""Of the first deployment of the run: its pods became ready, or they do not here."""
WAIT_S = 3
"""For a verification that may never come."""


def path_to(lab: Lab, name: str, *rest: str) -> str:
    return at("apps/v1", "deployments", lab.namespace, name, *rest)


async def settled(admin: Admin, lab: Lab, name: str) -> bool:
    """Whether the pods of a new deployment become ready here: nobody waits for what can be seen not to come."""
    if not lab.controllers or "unready" in SEEN_OF_PODS:
        return False

    async def decided() -> bool:
        found = await admin.read(path_to(lab, name))
        status = found.get("status") or {}
        if (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == found["spec"]["replicas"]
        ):
            SEEN_OF_PODS.add("ready")
            return True
        pods = await admin.get(at("v1", "pods", lab.namespace), ("labelSelector", f"app={name}"))
        return any(HOPELESS & set(reasons(pod)) for pod in (pods or {}).get("items") or [])

    await admin.until(decided)
    if "ready" not in SEEN_OF_PODS:
        SEEN_OF_PODS.add("unready")
    return "ready" in SEEN_OF_PODS


def reasons(pod: Any) -> list[str]:
    """Why a pod does not run, in the cluster's words."""
    status = pod.get("status") or {}
    waiting = [(entry.get("state") or {}).get("waiting") or {} for entry in status.get("containerStatuses") or []]
    unplaced = [entry for entry in status.get("conditions") or [] if entry["type"] == "PodScheduled"]
    return [entry.get("reason", "") for entry in (*waiting, *unplaced)]


def check_proof(done: Any, lab: Lab, ready: bool) -> None:
    """What an act says of itself: carried out; and proved, or how far it is."""
    assert done["outcome"] == "done"
    if ready:
        assert (done["verified"], done["state"]) == (True, "complete")
        return
    assert done["verified"] is False
    count = done["replicas"]
    assert any(f"{count['ready']} of {count['desired']} replicas are ready" in text for text in done["warnings"]), done
    if not lab.controllers:
        assert any("has not seen the last change" in text for text in done["warnings"])


async def test_scaling_from_plan_to_undo(ask: Ask, admin: Admin, lab: Lab, shared_bus: Bus) -> None:
    name = unique("scaled")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=1))
    ready = await settled(admin, lab, name)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client = await shared_bus.connect("operator")
    await client.subscribe("event.k8s.deployment_scaled", cb=heard.put)
    await client.flush()
    arguments = {
        "namespace": lab.namespace,
        "name": name,
        "reason": "noon",
        "replicas": 2,
        "wait_s": 60 if ready else WAIT_S,
    }

    before = await admin.read(path_to(lab, name))
    planned = (await ask("scale_deployment", "operator", **arguments, dry_run=True)).structured
    assert planned["plan"]["changes"] == [{"path": "spec.replicas", "before": 1, "after": 2}]
    asked = (await ask("scale_deployment", "operator", **arguments)).error
    assert asked.code is ErrorCode.CONFIRMATION_REQUIRED
    after = await admin.read(path_to(lab, name))
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]

    can_ask = {"client": {"capabilities": {"elicitation": {}}}}
    question = await ask("scale_deployment", "operator", **arguments, options=can_ask)
    assert question.status is Status.INPUT_REQUIRED
    (key,) = question.result["inputRequests"]
    answered = {"input_responses": {key: {"action": "accept", "content": {"proceed": True}}}}
    answered |= {"request_state": question.result["requestState"]}
    begun = time.monotonic()
    done = (await ask("scale_deployment", "operator", **arguments, options=can_ask | answered)).structured
    assert time.monotonic() - begun < 90
    check_proof(done, lab, ready)
    written = await admin.read(path_to(lab, name))
    assert written["spec"]["replicas"] == 2
    managers = [entry["manager"] for entry in written["metadata"].get("managedFields") or []]
    assert not managers or "opsbus" in managers
    async with asyncio.timeout(30):
        told = json.loads((await heard.get()).data)
    assert (told["subject"], told["data"]["after"]) == (f"{lab.namespace}/{name}", 2)
    undone = await confirmed(
        ask, done["undo"]["tool"].removeprefix("k8s_"), "operator", **done["undo"]["arguments"], wait_s=0
    )
    assert (undone["before"], undone["after"]) == (2, 1)
    assert (await admin.read(path_to(lab, name)))["spec"]["replicas"] == 1


async def test_who_was_overtaken_changes_nothing(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("locked")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=0))
    arguments = {"namespace": lab.namespace, "name": name, "reason": "noon", "replicas": 3, "wait_s": 0}
    token = (await ask("scale_deployment", "operator", **arguments)).error.details["confirm"]
    await admin.patch(path_to(lab, name), {"spec": {"revisionHistoryLimit": 3}})
    late = (await ask("scale_deployment", "operator", **arguments, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED

    rows = (await ask("get_deployments", namespaces=[lab.namespace], name=name)).structured["items"]
    version = rows[0]["version"]
    await admin.patch(path_to(lab, name), {"metadata": {"labels": {"touched": "yes"}}})
    stale = (await ask("scale_deployment", "operator", **arguments, expected_version=version)).error
    assert stale.code is ErrorCode.PRECONDITION_FAILED
    assert stale.details["expected_version"] == version
    code, said = await admin.send(
        "PATCH",
        path_to(lab, name),
        {"metadata": {"resourceVersion": version}, "spec": {"replicas": 3}},
        "application/merge-patch+json",
    )
    assert (code, said["reason"]) == (409, "Conflict")
    assert (await admin.read(path_to(lab, name)))["spec"]["replicas"] == 0


async def test_the_cluster_refuses_as_it_would_the_person(ask: Ask, admin: Admin, lab: Lab) -> None:
    if not lab.rbac:
        pytest.skip("this cluster refuses nobody: RBAC is off")
    name = unique("guarded")
    for namespace in (lab.namespace, lab.closed):
        await admin.create(at("apps/v1", "deployments", namespace), deployment(name, replicas=0))
    tries = [("viewer", lab.namespace), ("operator", lab.closed)]
    for role, namespace in tries:
        arguments = {"namespace": namespace, "name": name, "reason": "a try"}
        for tool, more in (("scale_deployment", {"replicas": 1}), ("restart_deployment", {"force": True})):
            for dry in ({"dry_run": True}, {}):
                error = (await ask(tool, role, **arguments, **more, **dry)).error
                assert error.code is ErrorCode.FORBIDDEN, (tool, role, error)
                assert f"{role}@shop.example" in error.message
                assert error.details["http_status"] == 403
    for namespace in (lab.namespace, lab.closed):
        found = await admin.read(at("apps/v1", "deployments", namespace, name))
        assert found["spec"]["replicas"] == 0
        assert found["metadata"]["generation"] == 1
    arguments = {"namespace": lab.closed, "name": name, "reason": "a try", "replicas": 1, "wait_s": 0}
    assert (await confirmed(ask, "scale_deployment", "admin", **arguments))["after"] == 1


async def test_the_server_checks_a_plan_that_nobody_stores(ask: Ask, admin: Admin, lab: Lab) -> None:
    """An object that the server will not take is refused at the dry run, before a person is asked."""
    name = unique("checked")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=1))
    arguments = {"namespace": lab.namespace, "name": name, "reason": "noon"}
    planned = (await ask("restart_deployment", "operator", **arguments, force=True, dry_run=True)).structured
    assert planned["outcome"] == "planned"
    assert RESTARTED not in str((await admin.read(path_to(lab, name)))["spec"])
    code, said = await admin.send(
        "PATCH", path_to(lab, name), {"spec": {"replicas": -1}}, "application/merge-patch+json", (("dryRun", "All"),)
    )
    assert (code, said["reason"]) == (422, "Invalid")
    assert said["details"]["causes"][0]["field"] == "spec.replicas"


async def test_a_restart(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("restarted")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=1))
    ready = await settled(admin, lab, name)
    arguments = {"namespace": lab.namespace, "name": name, "reason": "noon", "wait_s": 60 if ready else WAIT_S}
    if not ready:
        refused = (await ask("restart_deployment", "operator", **arguments)).error
        assert refused.code is ErrorCode.PRECONDITION_FAILED
        assert "force=true" in refused.hint
        arguments["force"] = True
    done = await confirmed(ask, "restart_deployment", "operator", **arguments)
    check_proof(done, lab, ready)
    template = (await admin.read(path_to(lab, name)))["spec"]["template"]
    assert template["metadata"]["annotations"][RESTARTED]


async def second_revision(admin: Admin, lab: Lab, name: str) -> None:
    """Another release is rolled out. Where no controller keeps the revisions, the test does what it would do."""
    made = await admin.read(path_to(lab, name))
    if lab.controllers:
        await admin.until(lambda: _at_revision(admin, lab, name, "1"))
        await admin.patch(path_to(lab, name), {"spec": {"template": {"spec": pod_spec("two")}}})
        assert await admin.until(lambda: _at_revision(admin, lab, name, "2"))
        return
    owner = {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": made["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    for number, release in (("1", "one"), ("2", "two")):
        labels = {"app": name, "pod-template-hash": f"h{number}"}
        about = {"name": f"{name}-h{number}", "labels": labels, "annotations": {REVISION: number}}
        template = {"metadata": {"labels": labels}, "spec": pod_spec(release)}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        replicaset = {"metadata": about | {"ownerReferences": [owner]}, "spec": spec}
        await admin.create(at("apps/v1", "replicasets", lab.namespace), replicaset)
    change = {"metadata": {"annotations": {REVISION: "2"}}, "spec": {"template": {"spec": pod_spec("two")}}}
    changed = await admin.patch(path_to(lab, name), change)
    seen = {"status": {"observedGeneration": changed["metadata"]["generation"]}}
    await admin.patch(path_to(lab, name, "status"), seen)


async def _at_revision(admin: Admin, lab: Lab, name: str, number: str) -> bool:
    found = await admin.read(path_to(lab, name))
    seen = (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
    return bool(seen and (found["metadata"].get("annotations") or {}).get(REVISION) == number)


async def test_a_rollback_and_what_came_before(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("rolled")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=1))
    arguments = {"namespace": lab.namespace, "name": name, "reason": "worse", "wait_s": WAIT_S}
    if not lab.controllers:
        unseen = (await ask("rollback_deployment", "operator", **arguments)).error
        assert unseen.code is ErrorCode.PRECONDITION_FAILED
        assert "no controller" in unseen.hint
    await second_revision(admin, lab, name)
    history = (await ask("rollout_history", namespace=lab.namespace, workload=name)).structured["items"]
    assert [row["revision"] for row in history] == [2, 1]
    (change,) = history[0]["changes"]
    assert (change["path"], change["before"], change["after"]) == ("spec.containers[main].env[RELEASE]", "one", "two")
    if lab.rbac:
        assert (await ask("rollback_deployment", "viewer", **arguments)).error.code is ErrorCode.FORBIDDEN
    planned = (await ask("rollback_deployment", "operator", **arguments, dry_run=True)).structured
    assert (planned["from_revision"], planned["to_revision"]) == (2, 1)
    done = await confirmed(ask, "rollback_deployment", "operator", **arguments)
    assert done["outcome"] == "done"
    (container,) = (await admin.read(path_to(lab, name)))["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "RELEASE", "value": "one"}]
    assert done["undo"]["arguments"]["to_revision"] == 2
    if not lab.controllers:
        check_proof(done, lab, ready=False)


async def test_a_plan_tells_what_stands_against_it(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("steered")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=1))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec: dict[str, Any] = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 4}
    steering = {"metadata": {"name": name}, "spec": spec}
    await admin.create(at("autoscaling/v2", "horizontalpodautoscalers", lab.namespace), steering)
    guard = {"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}}
    await admin.create(at("policy/v1", "poddisruptionbudgets", lab.namespace), guard)
    asked = {"namespace": lab.namespace, "name": name, "replicas": 0, "reason": "a try", "dry_run": True}
    plan = (await ask("scale_deployment", "operator", **asked)).structured["plan"]
    said = " | ".join(plan["warnings"])
    assert f"the autoscaler {name} (1 to 4 replicas)" in said
    assert f"disruption budget {name}" in said
    assert "zero replicas" in said
