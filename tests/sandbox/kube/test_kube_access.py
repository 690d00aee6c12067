"""Who gets in, who may do what, who may be whom; and the questions about it."""

import json

import aiohttp
import pytest
from kubernetes.aio.client import ApiException, AuthorizationV1Api

STAGING = "shop-staging"


async def refused(awaitable):
    with pytest.raises(ApiException) as caught:
        await awaitable
    return json.loads(caught.value.body)


def review(verb, resource, namespace="", group="", name="", subresource=""):
    attributes = {
        "verb": verb, "resource": resource, "namespace": namespace, "group": group, "name": name,
        "subresource": subresource,
    }  # fmt: skip
    return {"spec": {"resourceAttributes": attributes}}


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic YTpi", "nonsense"])
async def test_unknown_credentials(api, header):
    code, headers, status = await api.raw("GET", "/api/v1/namespaces/shop/pods", Authorization=header)
    assert (code, status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")
    assert "Bearer" in headers["WWW-Authenticate"]


async def test_anonymous_may_ask_for_the_version_only(cluster, api):
    connector = aiohttp.TCPConnector(ssl=api.session.connector._ssl)
    async with aiohttp.ClientSession(cluster.url, connector=connector) as session:
        async with session.get("/version") as answer:
            assert answer.status == 200
        async with session.get("/api/v1/namespaces/shop/pods") as answer:
            status = await answer.json()
    assert answer.status == 403
    assert status["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "shop"'
    )


async def test_words_of_a_refusal(login):
    bob = await login("bob")
    status = await refused(bob.core.list_namespaced_pod("shop"))
    assert (status["code"], status["reason"], status["details"]) == (403, "Forbidden", {"kind": "pods"})
    assert status["message"] == (
        'pods is forbidden: User "bob@shop.example" cannot list resource "pods" in API group "" in the namespace "shop"'
    )
    status = await refused(bob.core.list_node())
    assert status["message"] == (
        'nodes is forbidden: User "bob@shop.example" cannot list resource "nodes" in API group "" at the cluster scope'
    )
    status = await refused(bob.apps.patch_namespaced_deployment_scale("ledger", "payments", {"spec": {"replicas": 0}}))
    assert status["message"] == (
        'deployments.apps "ledger" is forbidden: User "bob@shop.example" cannot patch resource "deployments/scale" '
        'in API group "apps" in the namespace "payments"'
    )
    code, _, status = await bob.raw("GET", "/metrics")
    assert (code, status["message"]) == (403, 'forbidden: User "bob@shop.example" cannot get path "/metrics"')


async def test_a_role_reaches_as_far_as_its_namespace(login):
    bob = await login("bob")
    pods = await bob.core.list_namespaced_pod("payments")
    assert pods.items
    assert await bob.core.read_namespaced_pod_log(pods.items[0].metadata.name, "payments", tail_lines=1)
    assert (await refused(bob.core.list_namespaced_secret("payments")))["code"] == 403
    assert (await refused(bob.core.list_pod_for_all_namespaces()))["code"] == 403
    assert (await refused(bob.core.delete_namespaced_pod("ledger-postgres-0", "payments")))["code"] == 403


async def test_a_cluster_role_bound_in_a_namespace(login):
    alice = await login("alice")
    assert (await alice.core.list_namespaced_secret("shop")).items
    assert (await refused(alice.core.list_namespaced_secret("payments")))["code"] == 403
    assert (await alice.core.list_namespaced_pod("payments")).items
    scaled = await alice.apps.patch_namespaced_deployment_scale("frontend", STAGING, {"spec": {"replicas": 2}})
    assert scaled.spec.replicas == 2
    assert (await refused(alice.core.patch_node("lab-worker-1", {"spec": {"unschedulable": True}})))["code"] == 403


async def test_new_bindings_hold_at_once(login, api):
    bob = await login("bob")
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{STAGING}"
    role = {"metadata": {"name": "one-pod"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["redis-0"], "verbs": ["get"]}]}  # fmt: skip
    binding = {"metadata": {"name": "bob"}, "roleRef": {"kind": "Role", "name": "one-pod"},
               "subjects": [{"kind": "User", "name": "bob@shop.example"}]}  # fmt: skip
    assert (await api.raw("POST", f"{path}/roles", role))[0] == 201
    code, _, made = await api.raw("POST", f"{path}/rolebindings", binding)
    assert (code, made["roleRef"]["apiGroup"]) == (201, "rbac.authorization.k8s.io")
    assert (await bob.core.read_namespaced_pod("redis-0", STAGING)).metadata.name == "redis-0"
    assert (await refused(bob.core.list_namespaced_pod(STAGING)))["code"] == 403
    assert (await api.raw("DELETE", f"{path}/rolebindings/bob"))[0] == 200
    assert (await refused(bob.core.read_namespaced_pod("redis-0", STAGING)))["code"] == 403


async def test_the_platform_reads_and_impersonates(login):
    platform = await login("opsbus")
    assert (await platform.core.list_pod_for_all_namespaces()).items
    assert (await refused(platform.core.list_namespaced_secret("shop")))["code"] == 403
    patch = {"spec": {"replicas": 2}}
    assert (await refused(platform.apps.patch_namespaced_deployment_scale("frontend", STAGING, patch)))["code"] == 403
    operator = await login("opsbus", "olga@shop.example", ("opsbus:operator",))
    scaled = await operator.apps.patch_namespaced_deployment_scale("frontend", STAGING, patch)
    assert scaled.spec.replicas == 2
    viewer = await login("opsbus", "vera@shop.example", ("opsbus:viewer",))
    assert (await viewer.core.list_namespaced_pod("shop")).items
    status = await refused(viewer.apps.patch_namespaced_deployment_scale("frontend", STAGING, patch))
    assert 'User "vera@shop.example" cannot patch resource "deployments/scale"' in status["message"]
    assert (await refused(viewer.core.list_namespaced_secret("shop")))["code"] == 403


async def test_nobody_else_impersonates(login):
    alice = await login("alice", "lab-admin", ("system:masters",))
    status = await refused(alice.core.list_namespaced_pod("shop"))
    assert status["message"] == (
        'users "lab-admin" is forbidden: User "alice@shop.example" cannot impersonate resource "users" in API group '
        '"" at the cluster scope'
    )


async def test_the_platform_is_no_service_account_but_its_own(login):
    other = await login("opsbus", "system:serviceaccount:kube-system:admin")
    status = await refused(other.core.list_namespaced_pod("shop"))
    assert 'serviceaccounts "admin" is forbidden' in status["message"]
    assert (
        'cannot impersonate resource "serviceaccounts" in API group "" in the namespace "kube-system"'
        in (status["message"])
    )


async def test_groups_need_a_user(api):
    code, _, status = await api.raw("GET", "/api/v1/pods", Impersonate_Group="system:masters")
    assert code == 400
    assert "without impersonating a user" in status["message"]


async def test_several_groups_add_up(login):
    both = await login("opsbus", "sam@shop.example", ("on-call", "team-storefront"))
    assert (await both.raw("GET", "/api/v1/namespaces/payments/pods"))[0] == 200
    assert (await both.raw("GET", "/api/v1/namespaces/shop/secrets"))[0] == 200


async def test_self_subject_reviews(login):
    for account, question, expected in (
        ("alice", review("patch", "deployments", "shop", "apps"), True),
        ("alice", review("patch", "deployments", "payments", "apps"), False),
        ("bob", review("get", "pods", "payments", subresource="log"), True),
        ("bob", review("get", "pods", "shop", subresource="log"), False),
        ("admin", review("*", "*", "anywhere", "*"), True),
    ):
        someone = await login(account)
        answer = await AuthorizationV1Api(someone.client).create_self_subject_access_review(question)
        assert answer.status.allowed is expected, (account, question)


async def test_reviews_of_others_are_a_privilege(login):
    attributes = {"verb": "delete", "resource": "pods", "namespace": "shop"}
    who = {"user": "alice@shop.example", "groups": ["team-checkout"]}
    question = {"spec": {**who, "resourceAttributes": attributes}}
    platform = AuthorizationV1Api((await login("opsbus")).client)
    assert (await platform.create_subject_access_review(question)).status.allowed is True
    bob = AuthorizationV1Api((await login("bob")).client)
    assert (await refused(bob.create_subject_access_review(question)))["code"] == 403


async def test_rules_review(login):
    bob = AuthorizationV1Api((await login("bob")).client)
    answer = await bob.create_self_subject_rules_review({"spec": {"namespace": "payments"}})
    assert any("pods/log" in rule.resources for rule in answer.status.resource_rules)
    assert answer.status.incomplete is False


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("selfsubjectaccessreviews", {"spec": {}}),
        ("selfsubjectaccessreviews", {}),
        ("selfsubjectaccessreviews", {"spec": []}),
        ("selfsubjectaccessreviews", {"spec": {"resourceAttributes": "pods"}}),
        (
            "selfsubjectaccessreviews",
            {"spec": {"resourceAttributes": {"verb": "a"}, "nonResourceAttributes": {"path": "/"}}},
        ),
        ("subjectaccessreviews", {"spec": {"resourceAttributes": {"verb": "get"}}}),
        ("selfsubjectrulesreviews", {"spec": {}}),
    ],
)  # fmt: skip
async def test_incomplete_questions(api, kind, body):
    code, _, status = await api.raw("POST", f"/apis/authorization.k8s.io/v1/{kind}", body)
    assert (code, status["reason"]) == (422, "Invalid")


async def test_who_am_i(login):
    someone = await login("opsbus", "vera@shop.example", ("opsbus:viewer",))
    code, _, answer = await someone.raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert code == 201
    assert answer["status"]["userInfo"] == {
        "username": "vera@shop.example",
        "groups": ["opsbus:viewer", "system:authenticated"],
    }


def test_kubeconfig_is_for_its_owner_alone(cluster):
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0
