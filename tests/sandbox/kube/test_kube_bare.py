"""An API server alone, and what a real one does that only shows there: finalize, logs of unplaced pods, groups."""

import asyncio

import pytest

from ..conftest import PATIENCE_S

POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "i"}]}}


async def send(api, method, path, body=None, **headers):
    code, _, answer = await api.raw(method, path, body, **headers)
    return code, answer


class TestBare:
    @pytest.fixture
    def more_settings(self):
        return {"bare": True}

    async def test_nothing_but_what_the_server_makes(self, cluster, login):
        api = await login("admin")
        names = [item.metadata.name for item in (await api.core.list_namespace()).items]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
        for kind in ("nodes", "pods", "serviceaccounts", "deployments", "events"):
            assert cluster.store.list(kind) == []
        roles = {role["metadata"]["name"] for role in cluster.store.list("clusterroles")}
        assert {"cluster-admin", "view", "system:discovery"} <= roles
        assert not any(name.startswith("opsbus") for name in roles)

    async def test_nobody_acts_on_anything(self, cluster, login):
        api = await login("admin")
        assert (await send(api, "POST", "/api/v1/namespaces", {"metadata": {"name": "n"}}))[0] == 201
        code, status = await send(api, "POST", "/api/v1/namespaces/n/pods", POD)
        assert (code, status["message"]) == (
            403,
            'pods "p" is forbidden: error looking up service account n/default: serviceaccount "default" not found',
        )
        account = {"metadata": {"name": "default"}}
        assert (await send(api, "POST", "/api/v1/namespaces/n/serviceaccounts", account))[0] == 201
        assert (await send(api, "POST", "/api/v1/namespaces/n/pods", POD))[0] == 201
        template = {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]}
        spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        made = {"metadata": {"name": "d"}, "spec": spec}
        code, deployment = await send(api, "POST", "/apis/apps/v1/namespaces/n/deployments", made)
        assert (code, deployment["status"]) == (201, {})
        assert [pod["metadata"]["name"] for pod in cluster.store.list("pods", "n")] == ["p"]

    async def test_a_namespace_ends_by_its_finalizers(self, cluster, login):
        api, path = await login("admin"), "/api/v1/namespaces/n"
        code, made = await send(api, "POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        assert (code, made["spec"]["finalizers"]) == (201, ["kubernetes"])
        # An ordinary write does not change them, nor does finalize end what nobody deletes.
        assert (await send(api, "PUT", path, {**made, "spec": {"finalizers": []}}))[1]["spec"] == made["spec"]
        code, gone = await send(api, "DELETE", path)
        assert (code, gone["status"]["phase"]) == (200, "Terminating")
        assert (await send(api, "GET", path))[0] == 200
        code, status = await send(api, "POST", f"{path}/configmaps", {"metadata": {"name": "c"}})
        assert (code, status["reason"]) == (403, "Forbidden")
        assert (await send(api, "PATCH", f"{path}/finalize", {}, Content_Type="application/merge-patch+json"))[0] == 405
        stale = {**gone, "spec": {}, "metadata": {**gone["metadata"], "resourceVersion": "1"}}
        assert (await send(api, "PUT", f"{path}/finalize", stale))[0] == 409
        assert (await send(api, "PUT", f"{path}/finalize", {**gone, "spec": {}}))[0] == 200
        assert (await send(api, "GET", path))[0] == 404

    async def test_finalize_alone_ends_nothing(self, login):
        api, path = await login("admin"), "/api/v1/namespaces/n"
        _, made = await send(api, "POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        code, freed = await send(api, "PUT", f"{path}/finalize", {**made, "spec": {}})
        assert (code, freed["spec"].get("finalizers") or []) == (200, [])
        assert (await send(api, "GET", path))[0] == 200
        assert (await send(api, "DELETE", path))[0] == 200
        entries = (await send(api, "GET", "/api/v1"))[1]["resources"]
        (entry,) = [entry for entry in entries if entry["name"] == "namespaces/finalize"]
        assert entry["verbs"] == ["update"]

    async def test_a_log_without_a_node_is_no_content(self, login):
        api = await login("admin")
        await send(api, "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        await send(api, "POST", "/api/v1/namespaces/default/pods", POD)
        code, _, body = await api.raw("GET", "/api/v1/namespaces/default/pods/p/log")
        assert (code, body) == (204, "")


async def test_another_schedulers_pod_stays_where_it_is(cluster, login):
    api = await login("admin")
    spec = {**POD["spec"], "containers": [{"name": "main", "image": "registry.shop.example/frontend:3.8.0"}]}
    for name, scheduler in (("theirs", {"schedulerName": "somebody"}), ("ours", {})):
        made = {"metadata": {"name": name}, "spec": {**spec, **scheduler}}
        assert (await send(api, "POST", "/api/v1/namespaces/shop-staging/pods", made))[0] == 201
    store = cluster.store
    async with asyncio.timeout(PATIENCE_S):
        while not store.get("pods", "shop-staging", "ours")["spec"].get("nodeName"):
            await store.wait_beyond(store.version)
    assert "nodeName" not in store.get("pods", "shop-staging", "theirs")["spec"]
    assert "PodScheduled" not in str(store.get("pods", "shop-staging", "theirs")["status"])


ANYBODY = "system:authenticated"
NOBODY = "system:unauthenticated"
SERVICE = "system:serviceaccount:shop:default"
SERVICES = ["system:serviceaccounts", "system:serviceaccounts:shop"]


async def test_the_groups_of_whoever_is_impersonated(login):
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    for user, groups, seen in (
        ("ada", (), [ANYBODY]),
        ("ada", ("team",), ["team", ANYBODY]),
        ("ada", (ANYBODY, "team"), [ANYBODY, "team"]),
        (SERVICE, (), [*SERVICES, ANYBODY]),
        (SERVICE, ("team",), ["team", ANYBODY]),
    ):
        api = await login("admin", user, groups)
        code, review = await send(api, "POST", path, {})
        assert (code, review["status"]["userInfo"]) == (201, {"username": user, "groups": seen})
    for user, groups in (("ada", (NOBODY,)), ("system:anonymous", ()), ("system:anonymous", ("team",))):
        code, status = await send(await login("admin", user, groups), "POST", path, {})
        assert (code, status["reason"]) == (403, "Forbidden"), (user, groups)
        assert (await send(await login("admin", user, groups), "GET", "/version"))[0] == 200
