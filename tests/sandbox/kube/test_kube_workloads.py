"""Stateful sets, daemon sets, jobs, cron jobs, claims and the numbers that follow from pods."""

from datetime import UTC, datetime

import pytest

STAGING = "shop-staging"
TASK = "registry.shop.example/tools/task:v1"


def get(cluster, resource, name, namespace=STAGING):
    return cluster.store.get(resource, namespace, name)


def pods(cluster, app, namespace=STAGING):
    return [p for p in cluster.store.list("pods", namespace) if p["metadata"].get("labels", {}).get("app") == app]


def statefulset(name, image="redis:7.2.5", replicas=2):
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "serviceName": name, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }  # fmt: skip


def ready(cluster, name):
    status = get(cluster, "statefulsets", name).get("status", {})
    return status.get("readyReplicas") == get(cluster, "statefulsets", name)["spec"]["replicas"] and (
        status.get("updatedReplicas") == status.get("readyReplicas")
    )


async def test_a_stateful_set_counts_up_and_down(api, cluster, until):
    await api.apps.create_namespaced_stateful_set(STAGING, statefulset("db", replicas=3))
    seen = []

    def watched():
        for pod in pods(cluster, "db"):
            if pod["metadata"]["name"] not in seen:
                seen.append(pod["metadata"]["name"])
        return ready(cluster, "db")

    await until(watched)
    assert seen == ["db-0", "db-1", "db-2"]
    assert get(cluster, "pods", "db-1")["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    await api.apps.patch_namespaced_stateful_set_scale("db", STAGING, {"spec": {"replicas": 1}})
    await until(lambda: [p["metadata"]["name"] for p in pods(cluster, "db")] == ["db-0"])


async def test_a_stateful_set_rolls_from_the_top(api, cluster, until):
    await api.apps.create_namespaced_stateful_set(STAGING, statefulset("db"))
    await until(lambda: ready(cluster, "db"))
    old = {p["metadata"]["name"]: p["metadata"]["uid"] for p in pods(cluster, "db")}
    replaced = []

    def watched():
        for pod in pods(cluster, "db"):
            name = pod["metadata"]["name"]
            if pod["metadata"]["uid"] != old[name] and name not in replaced:
                replaced.append(name)
        return ready(cluster, "db") and len(replaced) == 2

    body = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "redis:7.2.4"}]}}}}
    await api.apps.patch_namespaced_stateful_set("db", STAGING, body)
    await until(watched)
    assert replaced == ["db-1", "db-0"]
    status = get(cluster, "statefulsets", "db")["status"]
    assert status["currentRevision"] == status["updateRevision"]


async def test_a_broken_stateful_set_can_be_corrected(api, cluster, until):
    await api.apps.create_namespaced_stateful_set(STAGING, statefulset("db", "redis:no-such-tag"))
    await until(lambda: "ImagePullBackOff" in str(pods(cluster, "db")))
    body = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "redis:7.2.5"}]}}}}
    await api.apps.patch_namespaced_stateful_set("db", STAGING, body)
    await until(lambda: ready(cluster, "db"))


async def test_most_of_a_stateful_set_is_fixed(api, cluster):
    path = f"/apis/apps/v1/namespaces/{STAGING}/statefulsets/redis"
    patch = {"spec": {"serviceName": "other"}}
    code, _, status = await api.raw("PATCH", path, patch, Content_Type="application/merge-patch+json")
    assert code == 422
    assert "updates to statefulset spec for fields other than 'replicas'" in status["message"]


async def test_a_daemon_set_is_on_each_node_it_may_be_on(api, cluster, until):
    body = {
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "main", "image": "nginx:1.27"}]},
            },
        },
    }
    await api.apps.create_namespaced_daemon_set(STAGING, body)
    await until(lambda: get(cluster, "daemonsets", "agent").get("status", {}).get("numberReady") == 3)
    assert {p["spec"]["nodeName"] for p in pods(cluster, "agent")} == {"lab-worker-1", "lab-worker-2", "lab-worker-3"}
    old = {p["metadata"]["uid"] for p in pods(cluster, "agent")}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "nginx:1.26"}]}}}}
    await api.apps.patch_namespaced_daemon_set("agent", STAGING, patch)
    await until(
        lambda: (
            not old & {p["metadata"]["uid"] for p in pods(cluster, "agent")}
            and get(cluster, "daemonsets", "agent")["status"]["numberReady"] == 3
        )
    )
    assert len(pods(cluster, "agent")) == 3
    # Nodes that no longer fit lose theirs.
    body = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "lab-worker-1"}}}}}
    await api.apps.patch_namespaced_daemon_set("agent", STAGING, body)
    await until(lambda: [p["spec"]["nodeName"] for p in pods(cluster, "agent")] == ["lab-worker-1"])


def job(name, image=TASK, command=None, **spec):
    container = {"name": "main", "image": image, **({"command": command} if command else {})}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


async def test_a_job_completes(api, cluster, until):
    made = await api.batch.create_namespaced_job(STAGING, job("work", completions=3, parallelism=2))
    assert made.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": made.metadata.uid}
    most = 0

    def watched():
        nonlocal most
        most = max(most, get(cluster, "jobs", "work").get("status", {}).get("active", 0))
        return get(cluster, "jobs", "work").get("status", {}).get("completionTime")

    await until(watched)
    status = get(cluster, "jobs", "work")["status"]
    assert status["succeeded"] == 3
    assert status["conditions"][0]["type"] == "Complete"
    assert most == 2


async def test_a_job_gives_up(api, cluster, until):
    await api.batch.create_namespaced_job(STAGING, job("fails", "busybox", ["false"], backoffLimit=1))
    await until(lambda: get(cluster, "jobs", "fails").get("status", {}).get("conditions"))
    condition = get(cluster, "jobs", "fails")["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert get(cluster, "jobs", "fails")["status"]["failed"] == 2


async def test_a_finished_job_expires(api, cluster, until):
    await api.batch.create_namespaced_job(STAGING, job("brief", ttlSecondsAfterFinished=1))
    await until(lambda: get(cluster, "jobs", "brief") is None)
    await until(lambda: not pods(cluster, "brief"))


async def test_a_cron_job_that_is_due_makes_a_job(api, cluster, until):
    body = {
        "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job("tick")["spec"]}},
    }
    await api.batch.create_namespaced_cron_job(STAGING, body)
    await until(lambda: get(cluster, "cronjobs", "tick").get("status", {}).get("lastScheduleTime"))
    (made,) = [j for j in cluster.store.list("jobs", STAGING) if j["metadata"]["name"].startswith("tick-")]
    assert made["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    await until(lambda: get(cluster, "jobs", made["metadata"]["name"])["status"].get("completionTime"))
    await until(lambda: get(cluster, "cronjobs", "tick")["status"].get("lastSuccessfulTime"))


async def test_a_suspended_cron_job_makes_none(api, cluster, until):
    minute = datetime.now(UTC)
    body = {
        "metadata": {"name": "quiet"},
        "spec": {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": job("quiet")["spec"]}},
    }
    await api.batch.create_namespaced_cron_job(STAGING, body)
    # Once a later object was reconciled, this one was too.
    await api.batch.create_namespaced_job(STAGING, job("after"))
    await until(lambda: pods(cluster, "after"))
    assert not [j for j in cluster.store.list("jobs", STAGING) if j["metadata"]["name"].startswith("quiet")], minute


async def test_a_claim_is_bound(api, cluster, until):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await api.core.create_namespaced_persistent_volume_claim(
        STAGING, {"metadata": {"name": "data"}, "spec": spec}
    )
    assert made.status.phase == "Pending"
    await until(lambda: get(cluster, "persistentvolumeclaims", "data")["status"]["phase"] == "Bound")


async def test_quota_counts_what_is_used(cluster, until):
    await until(lambda: (get(cluster, "resourcequotas", "shop-quota", "shop").get("status") or {}).get("used"))
    used = get(cluster, "resourcequotas", "shop-quota", "shop")["status"]["used"]
    assert set(used) == {"pods", "requests.cpu", "requests.memory", "limits.memory"}
    assert used["pods"] == "22"


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"minAvailable": 2}, 1),
        ({"minAvailable": "50%"}, 1),
        ({"maxUnavailable": 2}, 2),
        ({"maxUnavailable": "34%"}, 2),
    ],
)
async def test_budgets(api, cluster, until, spec, allowed):
    body = {"metadata": {"name": "b"}, "spec": {**spec, "selector": {"matchLabels": {"app": "payments-api"}}}}
    assert (await api.raw("POST", "/apis/policy/v1/namespaces/payments/poddisruptionbudgets", body))[0] == 201
    await until(lambda: get(cluster, "poddisruptionbudgets", "b", "payments")["status"].get("observedGeneration"))
    status = get(cluster, "poddisruptionbudgets", "b", "payments")["status"]
    assert (status["expectedPods"], status["currentHealthy"], status["disruptionsAllowed"]) == (3, 3, allowed)


async def test_an_autoscaler_shows_its_target(api, cluster, until):
    body = {
        "metadata": {"name": "front"},
        "spec": {
            "maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "frontend", "apiVersion": "apps/v1"},
        },
    }  # fmt: skip
    path = f"/apis/autoscaling/v2/namespaces/{STAGING}/horizontalpodautoscalers"
    assert (await api.raw("POST", path, body))[0] == 201
    await until(
        lambda: (get(cluster, "horizontalpodautoscalers", "front").get("status") or {}).get("currentReplicas") == 1
    )
    body["metadata"]["name"] = "lost"
    body["spec"]["scaleTargetRef"]["name"] = "nothing"
    assert (await api.raw("POST", path, body))[0] == 201
    await until(lambda: "FailedGetScale" in str(get(cluster, "horizontalpodautoscalers", "lost").get("status")))
