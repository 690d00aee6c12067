"""Creating, replacing and deleting: defaults, conflicts, dry runs, preconditions, dependents."""

import json

import pytest
from kubernetes.aio.client import ApiException, V1DeleteOptions, V1Preconditions

STAGING = "shop-staging"


async def refused(awaitable):
    with pytest.raises(ApiException) as caught:
        await awaitable
    return json.loads(caught.value.body)


async def test_create_fills_in_defaults(api, make_deployment):
    made = await api.apps.create_namespaced_deployment(STAGING, make_deployment("web"))
    assert made.metadata.uid
    assert made.metadata.generation == 1
    assert made.spec.strategy.rolling_update.max_surge == "25%"
    assert made.spec.revision_history_limit == 10
    container = made.spec.template.spec.containers[0]
    assert container.image_pull_policy == "IfNotPresent"
    assert made.spec.template.spec.restart_policy == "Always"
    assert made.status.replicas is None


async def test_create_twice(api, make_deployment):
    await api.apps.create_namespaced_deployment(STAGING, make_deployment("web"))
    for dry_run in (None, "All"):
        status = await refused(api.apps.create_namespaced_deployment(STAGING, make_deployment("web"), dry_run=dry_run))
        assert (status["code"], status["reason"]) == (409, "AlreadyExists")
        assert status["message"] == 'deployments.apps "web" already exists'


async def test_generate_name(api):
    body = {"metadata": {"generateName": "job-"}, "data": {"a": "b"}}
    names = {(await api.core.create_namespaced_config_map(STAGING, body)).metadata.name for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


async def test_namespaces_must_exist_and_agree(api, make_deployment):
    status = await refused(api.apps.create_namespaced_deployment("nowhere", make_deployment("web")))
    assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')
    body = make_deployment("web")
    body["metadata"]["namespace"] = "shop"
    status = await refused(api.apps.create_namespaced_deployment(STAGING, body))
    assert status["code"] == 400
    assert "does not match the namespace sent on the request" in status["message"]


async def test_replace_needs_the_version_it_read(api):
    stale = await api.apps.read_namespaced_deployment("frontend", STAGING)
    fresh = await api.apps.read_namespaced_deployment("frontend", STAGING)
    fresh.metadata.annotations["who"] = "first"
    await api.apps.replace_namespaced_deployment("frontend", STAGING, fresh)
    stale.metadata.annotations["who"] = "second"
    status = await refused(api.apps.replace_namespaced_deployment("frontend", STAGING, stale))
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Operation cannot be fulfilled on deployments.apps "frontend": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_replace_by_another_name(api):
    body = await api.apps.read_namespaced_deployment("frontend", STAGING)
    status = await refused(api.apps.replace_namespaced_deployment("cart", STAGING, body))
    assert status["code"] == 400
    assert status["message"] == "the name of the object (frontend) does not match the name on the URL (cart)"


async def test_generation_counts_changes_of_the_spec_only(api):
    def note(found):
        found.metadata.annotations["note"] = "x"

    def slow_down(found):
        found.spec.min_ready_seconds = 1

    before, noted = await replaced(api, note)
    assert noted.metadata.generation == before.metadata.generation
    before, changed = await replaced(api, slow_down)
    assert changed.metadata.generation == before.metadata.generation + 1
    same, unchanged = await replaced(api, lambda found: None)
    assert unchanged.metadata.resource_version == same.metadata.resource_version


async def replaced(api, change):
    """A deployment as it was read and as it came back; tried again when a controller wrote in between."""
    while True:
        found = await api.apps.read_namespaced_deployment("frontend", STAGING)
        change(found)
        try:
            return found, await api.apps.replace_namespaced_deployment("frontend", STAGING, found)
        except ApiException as error:
            if error.status != 409:
                raise


async def test_status_and_spec_are_written_apart(api):
    body = await api.core.read_namespaced_pod("redis-0", STAGING)
    body.status.message = "noted"
    kept = await api.core.replace_namespaced_pod("redis-0", STAGING, body)
    assert kept.status.message is None
    kept.metadata.labels["x"] = "y"
    kept.status.message = "noted"
    written = await api.core.replace_namespaced_pod_status("redis-0", STAGING, kept)
    assert written.status.message == "noted"
    assert "x" not in written.metadata.labels


def snapshot(store):
    """The wishes in staging; facts may change at any time."""
    found = []
    for resource in ("deployments", "replicasets", "pods", "services"):
        for obj in store.list(resource, STAGING):
            meta = obj["metadata"]
            found.append((resource, meta["uid"], meta.get("generation"), meta.get("deletionTimestamp"), obj["spec"]))
    return found


async def test_dry_run_changes_nothing(api, cluster, make_deployment):
    before = snapshot(cluster.store)
    made = await api.apps.create_namespaced_deployment(
        STAGING, make_deployment("web"), dry_run="All", field_manager="tests"
    )
    assert made.metadata.uid
    patched = await api.apps.patch_namespaced_deployment("frontend", STAGING, {"spec": {"replicas": 9}}, dry_run="All")
    assert patched.spec.replicas == 9
    assert patched.metadata.generation == 5
    scale = await api.apps.patch_namespaced_deployment_scale(
        "frontend", STAGING, {"spec": {"replicas": 8}}, dry_run="All"
    )
    assert scale.spec.replicas == 8
    body = await api.apps.read_namespaced_deployment("frontend", STAGING)
    body.spec.replicas = 7
    replaced = await api.apps.replace_namespaced_deployment("frontend", STAGING, body, dry_run="All")
    assert replaced.spec.replicas == 7
    await api.apps.delete_namespaced_deployment("frontend", STAGING, dry_run="All")
    await api.core.delete_namespaced_pod("redis-0", STAGING, dry_run="All")
    await api.core.delete_collection_namespaced_pod(STAGING, dry_run="All")
    assert snapshot(cluster.store) == before


async def test_dry_run_knows_one_value(api, make_deployment):
    status = await refused(api.apps.create_namespaced_deployment(STAGING, make_deployment("web"), dry_run="Some"))
    assert status["code"] == 422
    assert status["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All"'
    )


async def test_dry_run_conflicts_like_a_real_one(api):
    stale = await api.apps.read_namespaced_deployment("frontend", STAGING)
    await api.apps.patch_namespaced_deployment("frontend", STAGING, {"metadata": {"labels": {"x": "y"}}})
    status = await refused(api.apps.replace_namespaced_deployment("frontend", STAGING, stale, dry_run="All"))
    assert status["code"] == 409


async def test_delete_answers(api, until, cluster):
    gone = await api.core.delete_namespaced_config_map("frontend-config", STAGING)
    assert gone["status"] == "Success"
    assert gone["details"] == {
        "name": "frontend-config", "kind": "configmaps", "uid": gone["details"]["uid"],
    }  # fmt: skip
    pod = await api.core.delete_namespaced_pod("redis-0", STAGING)
    assert pod.metadata.deletion_timestamp is not None
    assert pod.metadata.deletion_grace_period_seconds == 30
    status = await refused(api.core.delete_namespaced_config_map("frontend-config", STAGING))
    assert (status["code"], status["message"]) == (404, 'configmaps "frontend-config" not found')
    uid = pod.metadata.uid
    # The stateful set puts another in its place, under the same name.
    await until(lambda: (p := cluster.store.get("pods", STAGING, "redis-0")) and p["metadata"]["uid"] != uid)


async def test_delete_at_once(api, cluster):
    gone = cluster.store.get("pods", STAGING, "redis-0")["metadata"]["uid"]
    await api.core.delete_namespaced_pod("redis-0", STAGING, grace_period_seconds=0)
    # The stateful set may have put another in its place before the answer is here.
    assert gone not in [pod["metadata"]["uid"] for pod in cluster.store.list("pods", STAGING)]


async def test_delete_with_preconditions(api):
    wrong = V1DeleteOptions(preconditions=V1Preconditions(uid="not-it"))
    status = await refused(api.core.delete_namespaced_pod("redis-0", STAGING, body=wrong))
    assert status["code"] == 409
    assert "Precondition failed: UID in precondition: not-it" in status["message"]


async def test_delete_collection(api, cluster):
    for number in range(4):
        labels = {"batch": "even" if number % 2 == 0 else "odd"}
        body = {"metadata": {"name": f"map-{number}", "labels": labels}}
        await api.core.create_namespaced_config_map(STAGING, body)
    code, _, body = await api.raw("DELETE", f"/api/v1/namespaces/{STAGING}/configmaps?labelSelector=batch%3Deven")
    assert (code, [item["metadata"]["name"] for item in body["items"]]) == (200, ["map-0", "map-2"])
    assert cluster.store.get("configmaps", STAGING, "map-1") is not None
    code, _, _ = await api.raw("DELETE", "/api/v1/configmaps")
    assert code == 405


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_deleted_deployment_takes_its_own_along(api, cluster, until, policy):
    await api.apps.delete_namespaced_deployment("frontend", STAGING, propagation_policy=policy)

    def nothing_left():
        store = cluster.store
        return not any(
            obj["metadata"].get("labels", {}).get("app") == "frontend"
            for resource in ("deployments", "replicasets", "pods")
            for obj in store.list(resource, STAGING)
        )

    await until(nothing_left)


async def test_an_orphaning_delete_leaves_them(api, cluster, until):
    await api.apps.delete_namespaced_deployment("frontend", STAGING, propagation_policy="Orphan")
    await until(lambda: cluster.store.get("deployments", STAGING, "frontend") is None)
    left = [rs for rs in cluster.store.list("replicasets", STAGING) if rs["metadata"]["labels"]["app"] == "frontend"]
    assert left
    assert all(not rs["metadata"].get("ownerReferences") for rs in left)
    status = await refused(api.apps.delete_namespaced_deployment("cart", STAGING, propagation_policy="Maybe"))
    assert status["code"] == 422


async def test_finalizers_hold_an_object(api, cluster):
    body = {"metadata": {"name": "held", "finalizers": ["tests/hold"]}}
    await api.core.create_namespaced_config_map(STAGING, body)
    await api.core.delete_namespaced_config_map("held", STAGING)
    assert cluster.store.get("configmaps", STAGING, "held")["metadata"]["deletionTimestamp"]
    status = await refused(
        api.core.patch_namespaced_config_map("held", STAGING, {"metadata": {"finalizers": ["tests/hold", "tests/b"]}})
    )
    assert status["code"] == 422
    patch = [{"op": "remove", "path": "/metadata/finalizers"}]
    await api.core.patch_namespaced_config_map("held", STAGING, patch, _content_type="application/json-patch+json")
    assert cluster.store.get("configmaps", STAGING, "held") is None


async def test_a_namespace_lives_and_dies(api, cluster, until, make_deployment):
    await api.core.create_namespace({"metadata": {"name": "brief"}})
    await until(lambda: cluster.store.get("serviceaccounts", "brief", "default"))
    await api.apps.create_namespaced_deployment("brief", make_deployment("web", replicas=2))
    await until(lambda: len(cluster.store.list("pods", "brief")) == 2)
    await api.core.delete_namespace("brief")
    if cluster.store.get("namespaces", "", "brief"):
        status = await refused(api.core.create_namespaced_config_map("brief", {"metadata": {"name": "late"}}))
        assert status["code"] in (403, 404)
    await until(lambda: cluster.store.get("namespaces", "", "brief") is None)
    assert not cluster.store.list("pods", "brief")


async def test_quota_refuses_in_words(api, make_pod):
    await api.core.create_namespaced_resource_quota(
        STAGING, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "100", "requests.cpu": "700m"}}}
    )
    body = make_pod("greedy", resources={"requests": {"cpu": "300m"}})
    status = await refused(api.core.create_namespaced_pod(STAGING, body))
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        'pods "greedy" is forbidden: exceeded quota: small, requested: requests.cpu=300m, used: requests.cpu=500m, '
        "limited: requests.cpu=700m"
    )


async def test_a_pod_needs_its_service_account(api, make_pod):
    body = make_pod("lost")
    body["spec"]["serviceAccountName"] = "ghost"
    status = await refused(api.core.create_namespaced_pod(STAGING, body))
    assert status["message"] == (
        'pods "lost" is forbidden: error looking up service account shop-staging/ghost: '
        'serviceaccount "ghost" not found'
    )


async def test_secrets_are_encoded(api):
    made = await api.core.create_namespaced_secret(
        STAGING, {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    )
    assert made.data == {"password": "aHVudGVyMg=="}
    assert made.type == "Opaque"
