"""Deployments at work: scaling, rolling updates, restarts, rollbacks, and rollouts that get stuck."""

import pytest

STAGING = "shop-staging"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def deployed(api, cluster, until, make_deployment):
    """Creates a deployment and waits until it is complete."""

    async def create(name="web", **options):
        probe = {"tcpSocket": {"port": 80}}
        body = make_deployment(name, readinessProbe=probe, **options)
        await api.apps.create_namespaced_deployment(STAGING, body)
        await until(lambda: complete(cluster, name))
        return get(cluster, name)

    return create


def get(cluster, name, resource="deployments"):
    return cluster.store.get(resource, STAGING, name)


def complete(cluster, name):
    obj = get(cluster, name)
    status, wanted = obj.get("status", {}), obj["spec"]["replicas"]
    counts = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return status.get("observedGeneration") == obj["metadata"]["generation"] and counts == [wanted] * 4


def condition(obj, kind):
    return next((c for c in obj["status"]["conditions"] if c["type"] == kind), None)


def pods(cluster, app):
    return [p for p in cluster.store.list("pods", STAGING) if p["metadata"]["labels"].get("app") == app]


def replicasets(cluster, app):
    return [r for r in cluster.store.list("replicasets", STAGING) if r["metadata"]["labels"].get("app") == app]


async def test_a_deployment_comes_up(cluster, deployed):
    web = await deployed(replicas=3)
    (replicaset,) = replicasets(cluster, "web")
    assert replicaset["metadata"]["name"] == f"web-{replicaset['metadata']['labels']['pod-template-hash']}"
    assert replicaset["metadata"]["ownerReferences"][0]["uid"] == web["metadata"]["uid"]
    assert {p["metadata"]["ownerReferences"][0]["name"] for p in pods(cluster, "web")} == {
        replicaset["metadata"]["name"]
    }
    assert web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert condition(web, "Available")["status"] == "True"
    assert condition(web, "Progressing")["reason"] == "NewReplicaSetAvailable"
    for pod in pods(cluster, "web"):
        status = pod["status"]
        assert status["phase"] == "Running"
        assert status["podIP"]
        assert status["containerStatuses"][0]["ready"] is True
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "PodScheduled": "True", "Initialized": "True", "PodReadyToStartContainers": "True",
            "ContainersReady": "True", "Ready": "True",
        }  # fmt: skip
    reasons = [e["reason"] for e in cluster.store.list("events", STAGING)]
    for reason in ("ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "Pulled", "Created", "Started"):
        assert reason in reasons, reason


async def test_scaling_up_and_down(api, cluster, until, deployed):
    await deployed(replicas=2)
    before = {p["metadata"]["uid"] for p in pods(cluster, "web")}
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 4}})
    await until(lambda: complete(cluster, "web"))
    assert before < {p["metadata"]["uid"] for p in pods(cluster, "web")}
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 1}})
    await until(lambda: complete(cluster, "web") and len(pods(cluster, "web")) == 1)
    messages = [
        e["message"] for e in cluster.store.list("events", STAGING)
        if e["reason"] == "ScalingReplicaSet" and e["involvedObject"]["name"] == "web"
    ]  # fmt: skip
    assert [message.rsplit(" ", 4)[-3:] for message in sorted(messages, key=lambda m: m.split()[-1])] == [
        ["4", "to", "1"], ["0", "to", "2"], ["2", "to", "4"],
    ]  # fmt: skip
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 0}})
    await until(lambda: not pods(cluster, "web"))
    assert condition(get(cluster, "web"), "Available")["status"] == "True"


async def test_a_restart_rolls_within_its_bounds(api, cluster, until, deployed):
    await deployed(replicas=4)
    old = {p["metadata"]["uid"] for p in pods(cluster, "web")}
    lowest, highest = 4, 4

    def watched():
        nonlocal lowest, highest
        ready = [p for p in pods(cluster, "web") if any(
            c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
            and not p["metadata"].get("deletionTimestamp")]  # fmt: skip
        alive = [p for p in pods(cluster, "web") if not p["metadata"].get("deletionTimestamp")]
        lowest, highest = min(lowest, len(ready)), max(highest, len(alive))
        return complete(cluster, "web") and not old & {p["metadata"]["uid"] for p in pods(cluster, "web")}

    patch = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
    await api.apps.patch_namespaced_deployment("web", STAGING, patch)
    await until(watched)
    # 25 % of four either way.
    assert lowest >= 3
    assert highest <= 5
    assert len(replicasets(cluster, "web")) == 2
    assert get(cluster, "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


async def test_an_image_that_does_not_exist_gets_stuck_and_is_undone(api, cluster, until, deployed):
    await deployed(replicas=3)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:no-such-tag"}]}}}}
    await api.apps.patch_namespaced_deployment("web", STAGING, patch)

    def waiting():
        return [
            state["reason"] for p in pods(cluster, "web") for s in p["status"].get("containerStatuses", [])
            if (state := s["state"].get("waiting"))
        ]  # fmt: skip

    await until(lambda: "ErrImagePull" in waiting())
    await until(lambda: "ImagePullBackOff" in waiting())
    stuck = get(cluster, "web")
    assert stuck["status"]["readyReplicas"] == 3
    assert stuck["status"]["updatedReplicas"] == 1
    messages = [e["message"] for e in cluster.store.list("events", STAGING) if e["reason"] == "Failed"]
    assert any('Failed to pull image "nginx:no-such-tag"' in m and m.endswith("not found") for m in messages)
    good = next(r for r in replicasets(cluster, "web") if r["status"].get("readyReplicas") == 3)
    template = {**good["spec"]["template"], "metadata": {"labels": {"app": "web"}}}
    body = [{"op": "replace", "path": "/spec/template", "value": template}]
    await api.apps.patch_namespaced_deployment("web", STAGING, body, _content_type="application/json-patch+json")
    await until(lambda: complete(cluster, "web") and len(pods(cluster, "web")) == 3)
    # The old replica set came back to life under a new number.
    back = get(cluster, good["metadata"]["name"], "replicasets")
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert back["spec"]["replicas"] == 3


async def test_the_deadline_is_told(api, cluster, until, make_deployment):
    body = make_deployment("slow", "nginx:no-such-tag")
    body["spec"]["progressDeadlineSeconds"] = 20
    await api.apps.create_namespaced_deployment(STAGING, body)
    await until(lambda: (condition(get(cluster, "slow"), "Progressing") or {}).get("status") == "False"
                if get(cluster, "slow").get("status", {}).get("conditions") else False)  # fmt: skip
    told = condition(get(cluster, "slow"), "Progressing")
    assert told["reason"] == "ProgressDeadlineExceeded"
    assert told["message"].endswith("has timed out progressing.")
    assert condition(get(cluster, "slow"), "Available")["reason"] == "MinimumReplicasUnavailable"


async def test_recreate_stops_the_old_before_it_starts_the_new(api, cluster, until, make_deployment):
    body = make_deployment("web", replicas=2)
    body["spec"]["strategy"] = {"type": "Recreate"}
    await api.apps.create_namespaced_deployment(STAGING, body)
    await until(lambda: complete(cluster, "web"))
    old = {p["metadata"]["uid"] for p in pods(cluster, "web")}
    overlapped = False

    def watched():
        nonlocal overlapped
        alive = {p["metadata"]["uid"] for p in pods(cluster, "web") if not p["metadata"].get("deletionTimestamp")}
        overlapped = overlapped or bool(alive & old and alive - old)
        return complete(cluster, "web") and not alive & old

    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.26"}]}}}}
    await api.apps.patch_namespaced_deployment("web", STAGING, patch)
    await until(watched)
    assert not overlapped


async def test_paused_means_paused(api, cluster, until, deployed):
    await deployed(replicas=1)
    containers = [{"name": "web", "image": "nginx:1.26"}]
    await api.apps.patch_namespaced_deployment("web", STAGING, {"spec": {"paused": True}})
    await api.apps.patch_namespaced_deployment(
        "web", STAGING, {"spec": {"template": {"spec": {"containers": containers}}}}
    )
    await until(lambda: condition(get(cluster, "web"), "Progressing")["reason"] == "DeploymentPaused")
    assert len(replicasets(cluster, "web")) == 1
    # A paused deployment still scales.
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 2}})
    await until(lambda: len(pods(cluster, "web")) == 2)
    await api.apps.patch_namespaced_deployment("web", STAGING, {"spec": {"paused": False}})
    await until(lambda: {p["spec"]["containers"][0]["image"] for p in pods(cluster, "web")} == {"nginx:1.26"})
    await until(lambda: complete(cluster, "web"))


async def test_history_is_limited(api, cluster, until, deployed):
    await deployed(replicas=1)
    await api.apps.patch_namespaced_deployment("web", STAGING, {"spec": {"revisionHistoryLimit": 1}})
    for number in range(3):
        patch = {"spec": {"template": {"metadata": {"annotations": {"n": str(number)}}}}}
        await api.apps.patch_namespaced_deployment("web", STAGING, patch)
        await until(lambda: complete(cluster, "web"))
    await until(lambda: len(replicasets(cluster, "web")) == 2)


async def test_a_deleted_pod_is_replaced(api, cluster, until, deployed):
    await deployed(replicas=2)
    gone = pods(cluster, "web")[0]["metadata"]
    await api.core.delete_namespaced_pod(gone["name"], STAGING)
    await until(lambda: complete(cluster, "web") and gone["uid"] not in
                {p["metadata"]["uid"] for p in pods(cluster, "web")})  # fmt: skip


async def test_min_ready_seconds_delay_availability(api, cluster, until, make_deployment):
    body = make_deployment("calm")
    body["spec"]["minReadySeconds"] = 15
    await api.apps.create_namespaced_deployment(STAGING, body)
    await until(lambda: get(cluster, "calm").get("status", {}).get("readyReplicas") == 1)
    assert not get(cluster, "calm")["status"].get("availableReplicas")
    await until(lambda: complete(cluster, "calm"))


async def test_a_quota_stops_a_replica_set_and_says_so(api, cluster, until, deployed):
    await deployed(replicas=1)
    hard = {"pods": str(len(cluster.store.list("pods", STAGING)))}
    await api.core.create_namespaced_resource_quota(STAGING, {"metadata": {"name": "full"}, "spec": {"hard": hard}})
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 2}})
    await until(lambda: condition(get(cluster, "web"), "ReplicaFailure"))
    assert "exceeded quota: full" in condition(get(cluster, "web"), "ReplicaFailure")["message"]
    await api.core.delete_namespaced_resource_quota("full", STAGING)
    await until(lambda: complete(cluster, "web"))
    assert condition(get(cluster, "web"), "ReplicaFailure") is None


async def test_endpoints_follow_readiness(api, cluster, until, deployed):
    await deployed(replicas=2)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    made = await api.core.create_namespaced_service(STAGING, {"metadata": {"name": "web"}, "spec": spec})
    assert made.spec.cluster_ip.startswith("10.96.")

    def ready():
        obj = get(cluster, "web", "endpoints")
        return [a["ip"] for s in (obj or {}).get("subsets", []) for a in s.get("addresses", [])]

    await until(lambda: sorted(ready()) == sorted(p["status"]["podIP"] for p in pods(cluster, "web")))
    await api.apps.patch_namespaced_deployment_scale("web", STAGING, {"spec": {"replicas": 0}})
    await until(lambda: not ready())
    await api.core.delete_namespaced_service("web", STAGING)
    await until(lambda: get(cluster, "web", "endpoints") is None)


async def test_two_deployments_do_not_fight_over_a_selector(api, cluster, until, deployed, make_deployment):
    """Both select app=web; each counts only what it owns."""
    await deployed("web", replicas=1)
    twin = make_deployment("twin")
    twin["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    twin["spec"]["template"]["metadata"]["labels"] = {"app": "web", "twin": "yes"}
    await api.apps.create_namespaced_deployment(STAGING, twin)
    await until(lambda: complete(cluster, "twin") and complete(cluster, "web"))
    assert len(pods(cluster, "web")) == 2
