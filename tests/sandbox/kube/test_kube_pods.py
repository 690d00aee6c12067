"""Pods on their nodes: what crashes, what waits, what ends, what may be evicted."""

import json

import pytest
from kubernetes.aio.client import ApiException

STAGING = "shop-staging"
CRASHER = "registry.shop.example/tools/crasher:v1"


def get(cluster, name, namespace=STAGING):
    return cluster.store.get("pods", namespace, name)


def first(cluster, name):
    return (get(cluster, name)["status"].get("containerStatuses") or [{"state": {}}])[0]


def events_of(cluster, name, namespace=STAGING):
    return {
        e["reason"]: e for e in cluster.store.list("events", namespace) if e["involvedObject"]["name"] == name
    }  # fmt: skip


def condition(pod, kind):
    return next(c for c in pod["status"]["conditions"] if c["type"] == kind)


async def refused(awaitable):
    with pytest.raises(ApiException) as caught:
        await awaitable
    return json.loads(caught.value.body)


async def test_a_crash_loop(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("crash", CRASHER, env=[{"name": "EXIT_CODE", "value": "7"}]))
    await until(
        lambda: first(cluster, "crash").get("restartCount", 0) >= 2 and first(cluster, "crash")["state"].get("waiting")
    )
    status = first(cluster, "crash")
    waiting = status["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"].startswith("back-off ")
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert status["ready"] is False
    assert get(cluster, "crash")["status"]["phase"] == "Running"
    assert condition(get(cluster, "crash"), "Ready")["reason"] == "ContainersNotReady"
    backoff = events_of(cluster, "crash")["BackOff"]
    assert backoff["type"] == "Warning"
    assert backoff["count"] >= 2
    assert await api.core.read_namespaced_pod_log("crash", STAGING, previous=True) is not None


async def test_too_little_memory_is_fatal_and_more_heals(api, cluster, until, make_deployment):
    body = make_deployment(
        "hungry", "registry.shop.example/catalog:v5.2.1", resources={"limits": {"memory": "64Mi", "cpu": "100m"}}
    )
    await api.apps.create_namespaced_deployment(STAGING, body)

    def ended():
        return [
            s["lastState"]["terminated"]
            for p in cluster.store.list("pods", STAGING) if p["metadata"]["labels"].get("app") == "hungry"
            for s in p["status"].get("containerStatuses", []) if s["lastState"]
        ]  # fmt: skip

    await until(ended)
    assert {(e["exitCode"], e["reason"]) for e in ended()} == {(137, "OOMKilled")}
    containers = [{"name": "hungry", "resources": {"limits": {"memory": "512Mi", "cpu": "100m"}}}]
    await api.apps.patch_namespaced_deployment(
        "hungry", STAGING, {"spec": {"template": {"spec": {"containers": containers}}}}
    )
    await until(lambda: cluster.store.get("deployments", STAGING, "hungry")["status"].get("availableReplicas") == 1)


async def test_a_pod_that_fits_nowhere(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("huge", resources={"requests": {"cpu": "64"}}))
    await until(lambda: "FailedScheduling" in events_of(cluster, "huge"))
    event = events_of(cluster, "huge")["FailedScheduling"]
    assert event["message"] == (
        "0/4 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "3 Insufficient cpu. preemption: 0/4 nodes are available: 1 Preemption is not helpful for scheduling, "
        "3 No preemption victims found for incoming pod."
    )
    pod = get(cluster, "huge")
    assert pod["status"]["phase"] == "Pending"
    assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
    assert "containerStatuses" not in pod["status"]
    # A pod on no node has nobody to stop it: it goes at once.
    await api.core.delete_namespaced_pod("huge", STAGING)
    assert get(cluster, "huge") is None


async def test_room_that_is_made_is_used(api, cluster, until):
    """The story's pending pod is placed when something else leaves."""
    pending = next(p["metadata"]["name"] for p in cluster.store.list("pods", "shop") if not p["spec"].get("nodeName"))
    await api.apps.patch_namespaced_deployment_scale("catalog", "shop", {"spec": {"replicas": 0}})
    await api.apps.patch_namespaced_deployment_scale("frontend", "shop", {"spec": {"replicas": 0}})
    await api.apps.patch_namespaced_deployment_scale("cart", "shop", {"spec": {"replicas": 0}})
    await until(lambda: get(cluster, pending, "shop")["spec"].get("nodeName"))
    await until(lambda: cluster.store.get("deployments", "shop", "recommendations")["status"].get("readyReplicas") == 3)


async def test_node_selectors_and_cordons(api, cluster, until, make_pod):
    body = make_pod("picky")
    body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "lab-worker-3"}
    await api.core.patch_node("lab-worker-3", {"spec": {"unschedulable": True}})
    await api.core.create_namespaced_pod(STAGING, body)
    await until(lambda: "FailedScheduling" in events_of(cluster, "picky"))
    message = events_of(cluster, "picky")["FailedScheduling"]["message"]
    assert "1 node(s) were unschedulable" in message
    assert "2 node(s) didn't match Pod's node affinity/selector" in message
    await api.core.patch_node("lab-worker-3", {"spec": {"unschedulable": None}})
    await until(lambda: get(cluster, "picky")["spec"].get("nodeName") == "lab-worker-3")


async def test_a_cordon_is_a_taint_and_an_event_too(api, cluster, until):
    def taints():
        return cluster.store.get("nodes", "", "lab-control-1")["spec"].get("taints") or []

    def told():
        return {e["reason"] for e in cluster.store.list("events") if e["involvedObject"]["name"] == "lab-control-1"}

    await api.core.patch_node("lab-control-1", {"spec": {"unschedulable": True}}, dry_run="All")
    assert not cluster.store.get("nodes", "", "lab-control-1")["spec"].get("unschedulable")
    await api.core.patch_node("lab-control-1", {"spec": {"unschedulable": True}})
    await until(lambda: "node.kubernetes.io/unschedulable" in [taint["key"] for taint in taints()])
    assert "node-role.kubernetes.io/control-plane" in [taint["key"] for taint in taints()]
    await until(lambda: "NodeNotSchedulable" in told())
    await api.core.patch_node("lab-control-1", {"spec": {"unschedulable": None}})
    await until(lambda: [taint["key"] for taint in taints()] == ["node-role.kubernetes.io/control-plane"])
    await until(lambda: "NodeSchedulable" in told())


async def test_missing_config_is_waited_for(api, cluster, until, make_pod):
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "x"}}}]
    await api.core.create_namespaced_pod(STAGING, make_pod("waits", env=env))
    await until(
        lambda: first(cluster, "waits")["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
    )
    assert first(cluster, "waits")["state"]["waiting"]["message"] == 'configmap "later" not found'
    await api.core.create_namespaced_config_map(STAGING, {"metadata": {"name": "later"}, "data": {"x": "1"}})
    await until(lambda: get(cluster, "waits")["status"]["phase"] == "Running")


@pytest.mark.parametrize(
    ("command", "phase", "code"),
    [(["true"], "Succeeded", 0), (["sh", "-c", "sleep 1; exit 4"], "Failed", 4), (["false"], "Failed", 1)],
)
async def test_pods_that_end(api, cluster, until, make_pod, command, phase, code):
    await api.core.create_namespaced_pod(STAGING, make_pod("once", "busybox", restart="Never", command=command))
    await until(lambda: get(cluster, "once")["status"]["phase"] == phase)
    assert first(cluster, "once")["state"]["terminated"]["exitCode"] == code
    assert first(cluster, "once")["restartCount"] == 0


async def test_on_failure_is_tried_again(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("retry", CRASHER, restart="OnFailure"))
    await until(lambda: first(cluster, "retry").get("restartCount", 0) >= 1)


async def test_init_containers_come_first(api, cluster, until, make_pod):
    body = make_pod("staged")
    body["spec"]["initContainers"] = [
        {"name": "one", "image": "busybox", "command": ["sleep", "1"]},
        {"name": "two", "image": "registry.shop.example/tools/sleeper:v1"},
    ]
    await api.core.create_namespaced_pod(STAGING, body)
    order = []

    def watched():
        status = get(cluster, "staged")["status"]
        entries = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        for entry in entries:
            if "running" in entry["state"] and entry["name"] not in order:
                order.append(entry["name"])
        return status["phase"] == "Running" and condition(get(cluster, "staged"), "Ready")["status"] == "True"

    await until(watched)
    assert order == ["one", "two", "main"]
    assert condition(get(cluster, "staged"), "Initialized")["status"] == "True"


async def test_an_image_changed_in_place_restarts_the_container(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("swap"))
    await until(lambda: first(cluster, "swap").get("ready"))
    body = {"spec": {"containers": [{"name": "main", "image": "nginx:1.26"}]}}
    await api.core.patch_namespaced_pod("swap", STAGING, body)
    await until(lambda: first(cluster, "swap")["restartCount"] == 1 and first(cluster, "swap")["ready"])
    assert first(cluster, "swap")["image"] == "nginx:1.26"


async def test_graceful_deletion_takes_a_moment(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("bye"))
    await until(lambda: first(cluster, "bye").get("ready"))
    watching = cluster.store.version
    gone = await api.core.delete_namespaced_pod("bye", STAGING)
    assert gone.metadata.deletion_grace_period_seconds == 30
    await until(lambda: get(cluster, "bye") is None)
    # The moment may be over before its answer is here.
    changes = [change for change in cluster.store.changes_since(watching) if change.resource == "pods"]
    seen = [change for change in changes if change.object["metadata"]["name"] == "bye"]
    assert next(change.kind for change in seen if change.object["metadata"].get("deletionTimestamp")) == "MODIFIED"
    assert events_of(cluster, "bye")["Killing"]["message"] == "Stopping container main"


def eviction(name):
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}


async def test_eviction_asks_the_budget(api, cluster, until):
    names = [
        p["metadata"]["name"]
        for p in cluster.store.list("pods", "payments")
        if p["metadata"]["labels"]["app"] == "payments-api"
    ]
    await until(lambda: cluster.store.get("poddisruptionbudgets", "payments", "payments-api").get("status"))
    assert cluster.store.get("poddisruptionbudgets", "payments", "payments-api")["status"]["disruptionsAllowed"] == 1
    path = "/api/v1/namespaces/payments/pods/{}/eviction"
    # No node takes the replacement, which would be ready before a slow machine asks for the next.
    nodes = [node["metadata"]["name"] for node in cluster.store.list("nodes")]
    for node in nodes:
        await api.core.patch_node(node, {"spec": {"unschedulable": True}})
    code, _, _ = await api.raw("POST", f"{path.format(names[0])}?dryRun=All", eviction(names[0]))
    assert code == 201
    code, _, done = await api.raw("POST", path.format(names[0]), eviction(names[0]))
    assert (code, done["status"]) == (201, "Success")
    code, _, status = await api.raw("POST", path.format(names[1]), eviction(names[1]))
    assert (code, status["reason"]) == (429, "TooManyRequests")
    assert status["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert cause["message"].startswith("The disruption budget payments-api needs 2 healthy pods and has ")
    assert get(cluster, names[1], "payments")["metadata"].get("deletionTimestamp") is None
    # When the replacement is ready, the next may go.
    for node in nodes:
        await api.core.patch_node(node, {"spec": {"unschedulable": None}})
    await until(
        lambda: cluster.store.get("poddisruptionbudgets", "payments", "payments-api")["status"]["disruptionsAllowed"]
    )
    assert (await api.raw("POST", path.format(names[1]), eviction(names[1])))[0] == 201


async def test_an_evicted_pod_says_why_it_goes(api, cluster, until, make_pod):
    await api.core.create_namespaced_pod(STAGING, make_pod("leaves"))
    await until(lambda: get(cluster, "leaves")["status"].get("phase") == "Running")
    path = f"/api/v1/namespaces/{STAGING}/pods/leaves/eviction"
    other = {**eviction("leaves"), "deleteOptions": {"preconditions": {"uid": "another"}}}
    code, _, status = await api.raw("POST", path, other)
    assert (code, status["reason"]) == (409, "Conflict")
    assert get(cluster, "leaves")["metadata"].get("deletionTimestamp") is None
    assert (await api.raw("POST", f"{path}?dryRun=All", eviction("leaves")))[0] == 201
    assert not [c for c in get(cluster, "leaves")["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    watching = cluster.store.version
    meant = {"uid": get(cluster, "leaves")["metadata"]["uid"]}
    body = {**eviction("leaves"), "deleteOptions": {"preconditions": meant}}
    assert (await api.raw("POST", path, body))[0] == 201
    await until(lambda: get(cluster, "leaves") is None)
    seen = [change.object for change in cluster.store.changes_since(watching) if change.resource == "pods"]
    mine = [pod for pod in seen if pod["metadata"]["name"] == "leaves"]
    assert condition(mine[-1], "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"


async def test_an_unhealthy_pod_may_be_evicted_when_the_rest_suffices(api, cluster, until):
    await until(
        lambda: (
            (cluster.store.get("poddisruptionbudgets", "shop", "checkout").get("status") or {}).get("currentHealthy")
            == 5
        )
    )
    name = next(
        p["metadata"]["name"] for p in cluster.store.list("pods", "shop")
        if p["spec"]["containers"][0]["image"].endswith("checkout:v2.4.1")
    )  # fmt: skip
    allowed = cluster.store.get("poddisruptionbudgets", "shop", "checkout")["status"]["disruptionsAllowed"]
    code, _, _ = await api.raw("POST", f"/api/v1/namespaces/shop/pods/{name}/eviction", eviction(name))
    assert code == 201
    assert cluster.store.get("poddisruptionbudgets", "shop", "checkout")["status"]["disruptionsAllowed"] == allowed


async def test_two_budgets_for_one_pod_are_an_error_as_in_the_real_server(api):
    spec = {"minAvailable": 0, "selector": {"matchLabels": {"app": "ledger"}}}
    body = {"metadata": {"name": "second"}, "spec": spec}
    assert (await api.raw("POST", "/apis/policy/v1/namespaces/payments/poddisruptionbudgets", body))[0] == 201
    pods = await api.core.list_namespaced_pod("payments", label_selector="app=ledger")
    name = pods.items[0].metadata.name
    code, _, status = await api.raw("POST", f"/api/v1/namespaces/payments/pods/{name}/eviction", eviction(name))
    assert code == 500
    assert "more than one PodDisruptionBudget" in status["message"]


async def test_evictions_that_make_no_sense(api):
    path = f"/api/v1/namespaces/{STAGING}/pods/ghost/eviction"
    assert (await api.raw("POST", path, eviction("ghost")))[0] == 404
    path = f"/api/v1/namespaces/{STAGING}/pods/redis-0/eviction"
    assert (await api.raw("POST", path, eviction("other")))[0] == 400
    assert (await api.raw("POST", path, []))[0] == 400
    assert (await api.raw("POST", path, {"kind": "Pod"}))[0] == 400
