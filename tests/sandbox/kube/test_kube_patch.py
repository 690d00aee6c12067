"""The three kinds of patch and their traps."""

import pytest
from kubernetes.aio.client import ApiException

STAGING = "shop-staging"
FRONTEND = f"/apis/apps/v1/namespaces/{STAGING}/deployments/frontend"
JSON, MERGE, STRATEGIC = (f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch"))


def first(body):
    return body["spec"]["template"]["spec"]["containers"][0]


def containers(*items):
    return {"spec": {"template": {"spec": {"containers": list(items)}}}}


async def test_strategic_merges_lists_by_their_keys(api):
    code, _, before = await api.raw("GET", FRONTEND)
    patch = containers(
        {"name": "frontend", "image": "registry.shop.example/frontend:v3.8.0",
         "env": [{"name": "ENVIRONMENT", "value": "patched"}, {"name": "NEW", "value": "1"}]}
    )  # fmt: skip
    code, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=STRATEGIC)
    assert code == 200
    assert len(after["spec"]["template"]["spec"]["containers"]) == 1
    assert first(after)["resources"] == first(before)["resources"]
    values = {variable["name"]: variable.get("value") for variable in first(after)["env"]}
    assert values["ENVIRONMENT"] == "patched"
    assert values["NEW"] == "1"
    assert set(values) == {variable["name"] for variable in first(before)["env"]} | {"NEW"}


async def test_strategic_deletes_by_directive(api):
    patch = containers({"name": "frontend", "env": [{"name": "ENVIRONMENT", "$patch": "delete"}]})
    _, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=STRATEGIC)
    assert "ENVIRONMENT" not in [variable["name"] for variable in first(after)["env"]]
    patch = containers({"name": "frontend", "resources": {"$patch": "replace", "limits": {"cpu": "1"}}})
    _, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=STRATEGIC)
    assert first(after)["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    patch = {"metadata": {"annotations": {"owner": None}}}
    _, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=STRATEGIC)
    assert "owner" not in after["metadata"]["annotations"]


async def test_strategic_merges_conditions_by_type(api):
    path = "/api/v1/nodes/lab-worker-1"
    condition = {"type": "DiskPressure", "status": "True", "reason": "Full"}
    patch = {"status": {"conditions": [condition]}}
    code, _, node = await api.raw("PATCH", f"{path}/status", patch, Content_Type=STRATEGIC)
    assert code == 200
    by_type = {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}
    assert by_type == {"Ready": "True", "DiskPressure": "True", "MemoryPressure": "False", "PIDPressure": "False"}


@pytest.mark.parametrize(
    "patch", [containers({"image": "nginx"}), containers("nginx"), {"spec": {"$patch": "explode"}}, [1], "x"]
)
async def test_strategic_nonsense(api, patch):
    code, _, status = await api.raw("PATCH", FRONTEND, patch, Content_Type=STRATEGIC)
    assert (code, status["reason"]) == (400, "BadRequest"), status


async def test_merge_replaces_lists(api):
    patch = containers({"name": "only", "image": "nginx:1.27"})
    _, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=MERGE)
    assert "env" not in first(after)
    assert first(after)["name"] == "only"


async def test_json_patch(api):
    patch = [
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 2},
        {"op": "add", "path": "/metadata/annotations/tests~1note", "value": "x"},
    ]
    code, _, after = await api.raw("PATCH", FRONTEND, patch, Content_Type=JSON)
    assert (code, after["spec"]["replicas"]) == (200, 2)
    assert after["metadata"]["annotations"]["tests/note"] == "x"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([{"op": "test", "path": "/spec/replicas", "value": 7}], 422),
        ([{"op": "replace", "path": "/no/such/path", "value": 7}], 422),
        ([{"op": "remove", "path": "/spec/nothing"}], 422),
        ([{"op": "frobnicate", "path": "/spec"}], 400),
        ([{"path": "/spec"}], 400),
        ({"spec": {}}, 400),
        ([{"op": "replace", "path": "", "value": []}], 400),
        ([{"op": "remove", "path": "/metadata"}], 400),
        ([{"op": "test", "path": "/kind", "value": "Deployment"}] * 10_001, 413),
    ],
)
async def test_json_patches_that_fail(api, patch, expected):
    code, _, status = await api.raw("PATCH", FRONTEND, patch, Content_Type=JSON)
    assert (code, status["kind"]) == (expected, "Status"), status
    if expected == 422:
        assert status["message"] == "the server rejected our request due to an error in our request"


async def test_a_patch_with_a_version_conflicts(api):
    code, _, before = await api.raw("GET", FRONTEND)
    old = before["metadata"]["resourceVersion"]
    await api.raw("PATCH", FRONTEND, {"metadata": {"labels": {"a": "b"}}}, Content_Type=MERGE)
    patch = {"metadata": {"resourceVersion": old, "labels": {"a": "c"}}}
    for kind in (MERGE, STRATEGIC):
        code, _, status = await api.raw("PATCH", FRONTEND, patch, Content_Type=kind)
        assert (code, status["reason"]) == (409, "Conflict")


async def test_a_patch_is_validated(api):
    code, _, status = await api.raw("PATCH", FRONTEND, {"spec": {"replicas": -1}}, Content_Type=MERGE)
    assert status["message"] == (
        'Deployment.apps "frontend" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )
    code, _, _ = await api.raw("PATCH", FRONTEND, {"spec": {"replicas": "x"}}, Content_Type=MERGE)
    assert code == 400
    code, _, _ = await api.raw("PATCH", f"{FRONTEND}-not", {"spec": {}}, Content_Type=MERGE)
    assert code == 404
    code, _, _ = await api.raw("PATCH", FRONTEND, {"metadata": {"name": "other"}}, Content_Type=MERGE)
    assert code == 400


async def test_scale_is_patched_put_and_read(api, cluster, until):
    scale = await api.apps.read_namespaced_deployment_scale("frontend", STAGING)
    assert (scale.spec.replicas, scale.status.replicas, scale.status.selector) == (1, 1, "app=frontend")
    await api.apps.patch_namespaced_deployment_scale("frontend", STAGING, {"spec": {"replicas": 2}})
    # Once the controllers have nothing more to write, the version that is read can be written back.
    await until(lambda: cluster.store.get("deployments", STAGING, "frontend")["status"].get("availableReplicas") == 2)
    again = await api.apps.read_namespaced_deployment_scale("frontend", STAGING)
    assert (again.spec.replicas, again.status.replicas) == (2, 2)
    with pytest.raises(ApiException) as caught:
        await api.apps.replace_namespaced_deployment_scale("frontend", STAGING, scale)
    assert caught.value.status == 409
    again.spec.replicas = 0
    zero = await api.apps.replace_namespaced_deployment_scale("frontend", STAGING, again)
    assert zero.spec.replicas in (0, None)


@pytest.mark.parametrize(
    ("replicas", "code"), [(-1, 422), ("2", 400), (1.5, 400), (True, 400), (2**31, 400), ([], 400)]
)
async def test_scale_refuses(api, replicas, code):
    got, _, status = await api.raw("PATCH", f"{FRONTEND}/scale", {"spec": {"replicas": replicas}}, Content_Type=MERGE)
    assert got == code
    if code == 422:
        rule = "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        assert status["message"] == f'Scale.autoscaling "frontend" is invalid: {rule}'


async def test_other_workloads_scale_too(api, cluster, until):
    await api.apps.patch_namespaced_stateful_set_scale("redis", STAGING, {"spec": {"replicas": 2}})
    await until(lambda: cluster.store.get("pods", STAGING, "redis-1"))
    code, _, _ = await api.raw("GET", "/apis/apps/v1/namespaces/platform/daemonsets/node-exporter/scale")
    assert code == 404
