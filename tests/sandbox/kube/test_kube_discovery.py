"""Discovery, version, health, OpenAPI, and the forms an answer can have."""

import asyncio

import pytest
from kubernetes import client as sync
from kubernetes.aio.client import ApisApi, AppsV1Api, VersionApi
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.resource import ResourceList


@pytest.fixture
def speed():
    """As fast as life, so that the story stands still."""
    return 1.0


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_versions_and_groups(api):
    version = await VersionApi(api.client).get_code()
    assert version.git_version.startswith("v1.")
    groups = await ApisApi(api.client).get_api_versions()
    names = {group.name for group in groups.groups}
    assert {
        "apps", "autoscaling", "batch", "policy", "networking.k8s.io", "events.k8s.io", "authorization.k8s.io",
        "rbac.authorization.k8s.io",
    } <= names  # fmt: skip
    autoscaling = next(group for group in groups.groups if group.name == "autoscaling")
    assert autoscaling.preferred_version.version == "v2"
    resources = await AppsV1Api(api.client).get_api_resources()
    by_name = {resource.name: resource for resource in resources.resources}
    assert by_name["deployments/scale"].kind == "Scale"
    assert by_name["deployments"].short_names == ["deploy"]
    assert set(by_name["deployments"].verbs) >= {"get", "list", "watch", "patch", "deletecollection"}


async def test_every_served_resource_can_be_listed_by_the_dynamic_client(sync_client):
    def walk():
        dynamic = DynamicClient(sync_client)
        seen = 0
        for found in dynamic.resources:
            for resource in found if isinstance(found, list) else [found]:
                if isinstance(resource, ResourceList) or "list" not in (resource.verbs or []):
                    continue
                answer = resource.get().to_dict()
                assert answer["kind"] == f"{resource.kind}List", resource.name
                seen += 1
        return seen

    assert await asyncio.to_thread(walk) >= 24


async def test_sync_client_sees_the_same_cluster(sync_client, cluster):
    pods = await asyncio.to_thread(lambda: sync.CoreV1Api(sync_client).list_namespaced_pod("shop"))
    assert {p.metadata.name for p in pods.items} == {p["metadata"]["name"] for p in cluster.store.list("pods", "shop")}


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_needs_no_credential(api, path):
    code, _, text = await api.raw("GET", path, Authorization="")
    assert (code, text) == (200, "ok")


@pytest.mark.parametrize("path", ["/nowhere", "/apis/no.such.group", "/apis/no.such.group/v1", "/api/v2"])
async def test_unknown_paths_are_plain_404(api, path):
    code, _, text = await api.raw("GET", path)
    assert (code, text) == (404, "404 page not found\n")


async def test_unknown_resource_is_a_status(api):
    code, _, status = await api.raw("GET", "/api/v1/namespaces/shop/gadgets")
    assert (code, status["reason"]) == (404, "NotFound")
    assert status["message"] == "the server could not find the requested resource"


async def test_openapi_in_both_forms_names_dry_run(api):
    _, _, document = await api.raw("GET", "/openapi/v2")
    operation = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "dryRun" in [parameter["name"] for parameter in operation["parameters"]]
    asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    async with api.session.get("/openapi/v2", headers={"Accept": asked}) as answer:
        body = await answer.read()
    assert b"dryRun" in body
    assert b"x-kubernetes-group-version-kind" in body


async def test_tables(api):
    code, headers, table = await api.raw("GET", "/api/v1/namespaces/shop/pods", Accept=f"{TABLE},application/json")
    assert code == 200
    assert headers["Content-Type"] == "application/json;as=Table;g=meta.k8s.io;v=v1"
    assert [column["name"] for column in table["columnDefinitions"]][:5] == [
        "Name", "Ready", "Status", "Restarts", "Age",
    ]  # fmt: skip
    cells = {row["cells"][0]: row["cells"] for row in table["rows"]}
    crashing = [row for row in cells.values() if row[2] == "CrashLoopBackOff"]
    assert len(crashing) == 2
    assert all(row[1] == "0/1" and row[3].startswith("8 (") for row in crashing)
    assert [row[2] for name, row in cells.items() if name.startswith("recommendations")].count("Pending") == 1
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    _, _, table = await api.raw("GET", "/apis/apps/v1/namespaces/shop/deployments/checkout", Accept=TABLE)
    assert table["rows"][0]["cells"][:4] == ["checkout", "5/6", 2, 5]
    _, _, table = await api.raw("GET", "/api/v1/secrets?includeObject=None", Accept=TABLE)
    assert table["rows"][0]["object"] is None


@pytest.mark.parametrize(
    "resource",
    ["/api/v1/nodes", "/api/v1/events", "/api/v1/services", "/api/v1/namespaces", "/apis/apps/v1/daemonsets",
     "/apis/apps/v1/statefulsets", "/apis/apps/v1/replicasets", "/apis/batch/v1/jobs", "/apis/batch/v1/cronjobs",
     "/apis/autoscaling/v2/horizontalpodautoscalers", "/apis/autoscaling/v1/horizontalpodautoscalers",
     "/apis/policy/v1/poddisruptionbudgets", "/apis/networking.k8s.io/v1/ingresses", "/api/v1/resourcequotas",
     "/apis/events.k8s.io/v1/events", "/api/v1/endpoints", "/api/v1/persistentvolumeclaims",
     "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/rolebindings"],
)  # fmt: skip
async def test_every_table_has_rows_as_wide_as_its_columns(api, resource):
    _, _, table = await api.raw("GET", resource, Accept=TABLE)
    assert table["kind"] == "Table"
    assert table["rows"], resource
    assert {len(row["cells"]) for row in table["rows"]} == {len(table["columnDefinitions"])}


async def test_partial_metadata(api):
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    _, _, body = await api.raw("GET", "/api/v1/namespaces/shop/secrets", Accept=accept)
    assert body["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in body["items"])
