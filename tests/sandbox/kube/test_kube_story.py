"""The story: what a person finds who comes to look, and that what they do about it helps."""

import asyncio
import base64

import pytest

from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.kube.store import ObjectStore


@pytest.fixture
def speed():
    """As fast as life, so that the story stands still; one test overrides it."""
    return 1.0


def checkout(cluster, resource="deployments", name="checkout"):
    return cluster.store.get(resource, "shop", name)


def crashing(cluster):
    return [
        p for p in cluster.store.list("pods", "shop")
        if p["spec"]["containers"][0]["image"].endswith("checkout:v2.4.1")
    ]  # fmt: skip


async def settled(cluster):
    """The controllers have looked at everything and found nothing more to do."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with asyncio.timeout(0.3):
                    await cluster.store.wait_beyond(cluster.store.version)
            except TimeoutError:
                return


async def test_what_is_wrong_in_shop(cluster):
    await settled(cluster)
    shop = {d["metadata"]["name"]: d["status"] for d in cluster.store.list("deployments", "shop")}
    unwell = {n for n, s in shop.items() if s["readyReplicas"] < s["replicas"]}
    assert unwell == {"checkout", "recommendations"}
    for namespace in ("shop-staging", "payments", "platform", "kube-system"):
        for pod in cluster.store.list("pods", namespace):
            ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"]
            assert ready == "True", pod["metadata"]["name"]
    warnings = [e for e in cluster.store.list("events", "shop") if e["type"] == "Warning"]
    assert {e["reason"] for e in warnings} == {"BackOff", "Unhealthy", "FailedScheduling"}
    assert sum(e["count"] for e in warnings) > 250
    assert {e["reason"] for e in cluster.store.list("events", "default")} == {"SystemOOM"}


async def test_why_checkout_crashes(cluster):
    pods = crashing(cluster)
    assert len(pods) == 2
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert status["restartCount"] == 8
        assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
        assert status["lastState"]["terminated"]["exitCode"] == 137
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "256Mi"
    autoscaler = checkout(cluster, "horizontalpodautoscalers")
    assert autoscaler["status"]["desiredReplicas"] == autoscaler["spec"]["maxReplicas"]


async def test_what_changed(cluster):
    sets = sorted(
        (r for r in cluster.store.list("replicasets", "shop") if r["metadata"]["labels"]["app"] == "checkout"),
        key=lambda r: int(r["metadata"]["annotations"]["deployment.kubernetes.io/revision"]),
    )
    images = [r["spec"]["template"]["spec"]["containers"][0]["image"].rsplit(":")[-1] for r in sets]
    assert images == ["v2.3.9", "v2.4.0", "v2.4.1"]
    assert [r["spec"]["replicas"] for r in sets] == [0, 5, 2]
    limits = [r["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] for r in sets]
    assert limits == ["512Mi", "512Mi", "256Mi"]
    assert "lower memory limit" in sets[-1]["metadata"]["annotations"]["kubernetes.io/change-cause"]


async def test_the_stuck_rollout_says_so(cluster):
    await settled(cluster)
    status = checkout(cluster)["status"]
    counts = [status[field] for field in ("replicas", "updatedReplicas", "readyReplicas", "unavailableReplicas")]
    assert counts == [7, 2, 5, 2]
    told = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert told["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert told["Available"] == ("True", "MinimumReplicasAvailable")


async def test_one_recommendations_pod_waits_for_cpu(cluster):
    waiting = [p for p in cluster.store.list("pods") if not p["spec"].get("nodeName")]
    (pod,) = waiting
    assert pod["metadata"]["labels"]["app"] == "recommendations"
    assert "3 Insufficient cpu" in pod["status"]["conditions"][0]["message"]


async def test_the_controllers_leave_the_story_alone(cluster):
    """What is told at the start is a state the controllers agree with: nothing is created or deleted."""

    def names():
        return {
            resource: [o["metadata"]["uid"] for o in cluster.store.list(resource)]
            for resource in ("pods", "replicasets", "deployments", "statefulsets", "daemonsets", "jobs")
        }

    before = names()
    await settled(cluster)
    assert names() == before


async def test_everything_has_an_owner(cluster):
    for resource in ("deployments", "statefulsets", "daemonsets"):
        for obj in cluster.store.list(resource):
            assert obj["metadata"]["labels"]["team"], obj["metadata"]["name"]
            assert obj["metadata"]["labels"]["environment"] in ("production", "staging")
            assert obj["metadata"]["annotations"]["owner"].endswith("@shop.example")


async def test_the_same_names_each_time():
    def names(seed):
        store = ObjectStore(seed=seed)
        build_estate(store)
        return [p["metadata"]["name"] for p in store.list("pods")]

    assert names(7) == names(7)
    assert names(7) != names(8)


async def test_secrets_hold_what_logs_and_tools_must_not_show(cluster):
    for secret in cluster.store.list("secrets"):
        assert all(base64.b64decode(value) for value in secret["data"].values())


class TestTime:
    """What happens when time passes."""

    @pytest.fixture
    def speed(self):
        return 200.0

    def is_healthy(self, cluster):
        status = checkout(cluster)["status"]
        return not status.get("unavailableReplicas") and status.get("updatedReplicas") == 6 == status.get("replicas")

    async def test_the_trouble_goes_on(self, cluster, until):
        names = {p["metadata"]["name"] for p in crashing(cluster)}
        await until(lambda: all(p["status"]["containerStatuses"][0]["restartCount"] > 9 for p in crashing(cluster)))
        assert {p["metadata"]["name"] for p in crashing(cluster)} == names
        assert checkout(cluster)["status"]["readyReplicas"] == 5
        for pod in crashing(cluster):
            assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "OOMKilled"

    async def test_a_rollback_heals(self, api, cluster, until):
        good = next(
            r for r in cluster.store.list("replicasets", "shop")
            if r["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "13"
            and r["metadata"]["labels"]["app"] == "checkout"
        )  # fmt: skip
        template = {**good["spec"]["template"]}
        labels = {k: v for k, v in template["metadata"]["labels"].items() if k != "pod-template-hash"}
        template["metadata"] = {**template["metadata"], "labels": labels}
        patch = [{"op": "replace", "path": "/spec/template", "value": template}]
        await api.apps.patch_namespaced_deployment(
            "checkout", "shop", patch, _content_type="application/json-patch+json"
        )
        await until(lambda: self.is_healthy(cluster))
        await until(lambda: not crashing(cluster))
        assert checkout(cluster)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "15"

    async def test_the_old_limit_heals_too(self, api, cluster, until):
        containers = [{"name": "checkout", "resources": {"limits": {"memory": "512Mi"}}}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await api.apps.patch_namespaced_deployment("checkout", "shop", patch)
        await until(lambda: self.is_healthy(cluster))
        images = {
            p["spec"]["containers"][0]["image"][-6:]
            for p in cluster.store.list("pods", "shop")
            if p["metadata"]["labels"]["app"] == "checkout" and not p["metadata"].get("deletionTimestamp")
        }
        assert images == {"v2.4.1"}

    async def test_a_restart_does_not(self, api, cluster, until):
        before = {p["metadata"]["uid"] for p in crashing(cluster)}
        patch = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
        await api.apps.patch_namespaced_deployment("checkout", "shop", patch)
        await until(
            lambda: (
                (new := [p for p in crashing(cluster) if p["metadata"]["uid"] not in before])
                and all(p["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 1 for p in new)
            )
        )
        assert checkout(cluster)["status"]["readyReplicas"] == 5
