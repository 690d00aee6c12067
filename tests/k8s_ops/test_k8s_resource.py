"""k8s_get_resource and the discovery of kinds: any object, masked, by fields, within the budget."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus import ToolError
from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.discovery import Discovery, read_catalogue
from opsbus_k8s_ops.listing import Bounds, list_objects

from .conftest import RoughServer, identity, kubeconfig
from .test_k8s_reads import schema_of


async def test_an_object_is_read_whole(ask: Any) -> None:
    reply = await ask("get_resource", role="viewer", kind="cm", name="checkout-config", namespace="shop")
    schema_of("get_resource").validate(reply.structured)
    (row,) = reply.structured["items"]
    assert row["object"]["data"]["LOG_LEVEL"] == "info"
    assert (row["object"]["kind"], reply.structured["kind"], reply.structured["api_version"]) == (
        "ConfigMap",
        "ConfigMap",
        "v1",
    )
    assert "managedFields" not in row["object"]["metadata"]
    assert "LOG_LEVEL: info" in reply.text


@pytest.mark.parametrize("kind", ["Deployment", "deployment", "deployments", "deploy", "deployments.apps"])
async def test_a_kind_has_many_names(ask: Any, kind: str) -> None:
    asked = {"kind": kind, "name": "checkout", "namespace": "shop", "fields": ["spec.replicas"]}
    (row,) = (await ask("get_resource", **asked)).structured["items"]
    assert row["values"] == {"spec.replicas": 6}
    assert row["version"].isdigit()
    assert "object" not in row


async def test_fields_are_paths(ask: Any) -> None:
    fields = [
        "spec.template.spec.containers[*].image",
        "{.status.conditions[?(@.type=='Progressing')].reason}",
        "metadata.annotations['deployment.kubernetes.io/revision']",
        "spec.replica",
    ]
    reply = await ask("get_resource", kind="deployment", name="checkout", namespace="shop", fields=fields)
    values = reply.structured["items"][0]["values"]
    assert list(values.values()) == [
        ["registry.shop.example/checkout:v2.4.1"],
        ["ProgressDeadlineExceeded"],
        "14",
        None,
    ]
    assert any("replicas" in warning for warning in reply.structured["warnings"])


async def test_a_secret_is_read_with_its_keys_alone(ask: Any, estate: Any) -> None:
    stored = estate.store.get("secrets", "shop", "checkout-payments")
    asked = {"kind": "secret", "name": "checkout-payments", "namespace": "shop"}
    reply = await ask("get_resource", role="admin", **asked)
    data = reply.structured["items"][0]["object"]["data"]
    assert set(data) == set(stored["data"])
    assert set(data.values()) == {"[masked:secret]"}
    for fields in (["data.password"], ["$..password"], ["data"], ["data[?@ != 'x']"]):
        chosen = await ask("get_resource", role="admin", **asked, fields=fields)
        listed = await ask("get_resource", role="admin", kind="secrets", namespace="shop", fields=fields)
        for value in stored["data"].values():
            assert value.encode() not in reply.body + chosen.body + listed.body
    assert (await ask("get_resource", role="viewer", **asked)).error.code is ErrorCode.FORBIDDEN


async def test_credentials_in_a_template_are_masked(ask: Any) -> None:
    reply = await ask("get_resource", kind="deployment", name="checkout", namespace="shop")
    assert b"frd_live" not in reply.body
    env = reply.structured["items"][0]["object"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "FRAUD_API_TOKEN", "value": "[masked:token]"} in env


async def test_objects_of_a_kind_are_listed_in_pages(ask: Any) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = (await ask("get_resource", kind="services", limit=7, cursor=cursor)).structured
        seen += [f"{row['namespace']}/{row['name']}" for row in page["items"]]
        cursor = page["page"]["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == page["page"]["total"] > 10
    assert "shop/checkout" in seen
    fields = ["spec.rules[*].host"]
    (ingress,) = (await ask("get_resource", kind="ing", namespace="shop", fields=fields)).structured["items"]
    assert ingress["values"] == {"spec.rules[*].host": ["www.shop.example"]}
    chosen = await ask("get_resource", kind="services", namespace="shop", label_selector="app=checkout")
    assert [row["name"] for row in chosen.structured["items"]] == ["checkout"]


async def test_kinds_outside_namespaces(ask: Any) -> None:
    nodes = (await ask("get_resource", kind="node")).structured["items"]
    assert len(nodes) == 4
    assert {row["state"] for row in nodes} == {"Ready=True"}
    one = await ask("get_resource", kind="nodes", name=nodes[0]["name"], fields=["status.capacity.cpu"])
    assert one.structured["items"][0]["values"]["status.capacity.cpu"]
    refused = (await ask("get_resource", kind="node", name=nodes[0]["name"], namespace="shop")).error
    assert refused.code is ErrorCode.INVALID_ARGUMENTS
    assert "no namespace" in refused.message


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"kind": "deploymnt"}, ErrorCode.NOT_FOUND, "deploymnt"),
        ({"kind": "cm", "name": "x"}, ErrorCode.INVALID_ARGUMENTS, "lives in a namespace"),
        ({"kind": "cm", "name": "chekout-config", "namespace": "shop"}, ErrorCode.NOT_FOUND, "chekout-config"),
        ({"kind": "cm", "name": "x", "namespace": "shopp"}, ErrorCode.NOT_FOUND, "shopp"),
        ({"kind": "cm", "namespace": "shopp"}, ErrorCode.NOT_FOUND, "shopp"),
        ({"kind": "cm", "name": "../secrets/x", "namespace": "shop"}, ErrorCode.INVALID_ARGUMENTS, "name"),
        ({"kind": "cm", "name": "a b", "namespace": "shop"}, ErrorCode.INVALID_ARGUMENTS, "name"),
        ({"kind": "../x"}, ErrorCode.INVALID_ARGUMENTS, "kind"),
        ({"kind": "selfsubjectaccessreviews"}, ErrorCode.INVALID_ARGUMENTS, "list"),
        ({"kind": "cm", "fields": ["a["]}, ErrorCode.INVALID_ARGUMENTS, "fields"),
        ({"kind": "cm", "fields": ["data[?match(@, 'x')]"]}, ErrorCode.INVALID_ARGUMENTS, "fields"),
        ({"kind": "cm", "namespaces": ["shop"]}, ErrorCode.INVALID_ARGUMENTS, "namespaces"),
        ({"kind": "cm", "limit": 0}, ErrorCode.INVALID_ARGUMENTS, "limit"),
        ({"kind": "cm", "cursor": "x"}, ErrorCode.INVALID_ARGUMENTS, "cursor"),
        ({}, ErrorCode.INVALID_ARGUMENTS, "kind"),
    ],
)
async def test_what_cannot_be_read(ask: Any, arguments: dict[str, Any], code: ErrorCode, word: str) -> None:
    error = (await ask("get_resource", **arguments)).error
    assert error.code is code, error
    assert word in error.message
    assert error.hint


async def test_names_that_are_near_are_told(ask: Any) -> None:
    kind = (await ask("get_resource", kind="deploymnt")).error
    assert "Deployment" in kind.did_you_mean or "deployments" in kind.did_you_mean
    name = (await ask("get_resource", kind="svc", name="chekout", namespace="shop")).error
    assert name.did_you_mean[0] == "checkout"
    argument = (await ask("get_resource", kind="svc", namespace="shop", field=["spec"])).error
    assert argument.did_you_mean == ["fields"]


async def test_the_clusters_rights_decide_on_objects(ask: Any) -> None:
    error = (await ask("get_resource", role="stranger", kind="svc", namespace="shop")).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "stranger@shop.example" in error.message


async def test_closed_namespaces_stay_closed(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop*"]):
        who = {"identity": identity("operator")}
        for arguments in (
            {"kind": "svc", "namespace": "payments"},
            {"kind": "svc", "name": "x", "namespace": "payments"},
            {"kind": "namespace", "name": "payments"},
        ):
            assert (await caller.call("k8s", "get_resource", arguments, **who)).error.code is ErrorCode.FORBIDDEN
        for kind in ("svc", "namespaces"):
            rows = (await caller.call("k8s", "get_resource", {"kind": kind}, **who)).structured["items"]
            assert {row.get("namespace") or row["name"] for row in rows} == {"shop", "shop-staging"}


def kinds(*entries: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [
        {
            "resource": plural,
            "responseKind": {"group": group, "version": "v1", "kind": kind},
            "scope": "Namespaced",
            "singularResource": kind.lower(),
            "verbs": ["get", "list"],
        }
        for group, plural, kind in entries
    ]


def aggregated(**groups: list[dict[str, Any]]) -> web.Response:
    items = [
        {"metadata": {"name": name}, "versions": [{"version": "v1", "resources": found, "freshness": "Current"}]}
        for name, found in groups.items()
    ]
    return web.json_response({"kind": "APIGroupDiscoveryList", "items": items})


def serving(objects: dict[str, Any]) -> Any:
    """An API server with config maps, two kinds called Widget, and what it is told to answer."""

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/api":
            return aggregated(**{"": kinds(("", "configmaps", "ConfigMap"), ("", "namespaces", "Namespace"))})
        if request.path == "/apis":
            return aggregated(
                **{
                    "a.example": kinds(("a.example", "widgets", "Widget")),
                    "b.example": kinds(("b", "widgets", "Widget")),
                }
            )
        if request.path in objects:
            return web.json_response(objects[request.path])
        return web.json_response({"kind": "Status", "code": 404, "message": "not found"}, status=404)

    return serve


async def test_an_object_larger_than_the_budget_is_cut_and_names_the_narrower_call(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    large = {"metadata": {"name": "big", "namespace": "shop"}, "data": {"a": "x", "big.txt": "line\n" * 60_000}}
    rough.handler = serving({"/api/v1/namespaces/shop/configmaps/big": large})
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        asked = {"kind": "ConfigMap", "name": "big", "namespace": "shop"}
        reply = await caller.call("k8s", "get_resource", asked)
        found = reply.structured
        assert len(json.dumps(found)) < 24_500
        assert found["items"][0]["object"]["data"]["a"] == "x"
        (warning,) = found["warnings"]
        assert "fields=[\"data['big.txt']\"]" in warning
        part = await caller.call("k8s", "get_resource", {**asked, "fields": ["data['big.txt']"]})
        assert "line\nline" in part.structured["items"][0]["values"]["data['big.txt']"]
        assert len(reply.text) < 8_000


async def test_a_name_of_two_kinds_takes_the_first_and_says_so(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    listed = {"items": [{"metadata": {"name": "w", "namespace": "shop", "uid": "1"}}]}
    rough.handler = serving({"/apis/a.example/v1/widgets": listed, "/apis/b.example/v1/widgets": {"items": []}})
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        first = (await caller.call("k8s", "get_resource", {"kind": "widget"})).structured
        assert [row["name"] for row in first["items"]] == ["w"]
        assert any("widgets.b.example" in warning for warning in first["warnings"])
        other = (await caller.call("k8s", "get_resource", {"kind": "widgets.b.example"})).structured
        assert (other["items"], other["api_version"]) == ([], "b.example/v1")
        assert other["warnings"] == []


async def test_thousands_of_objects_are_a_page_within_the_budget(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    known = serving({})
    many = [
        {"metadata": {"name": f"c{i:04d}", "namespace": "shop", "uid": str(i)}, "data": {"n": str(i), "x": "y" * 300}}
        for i in range(5_000)
    ]

    async def serve(request: web.Request) -> Any:
        if request.path in ("/api", "/apis"):
            return await known(request)
        begin, limit = int(request.query.get("continue") or 0), int(request.query["limit"])
        rest = str(begin + limit) if begin + limit < len(many) else ""
        return web.json_response({"metadata": {"continue": rest}, "items": many[begin : begin + limit]})

    rough.handler = serve
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        for more in ({}, {"fields": ["data.n", "data.x"], "limit": 500}):
            found = (await caller.call("k8s", "get_resource", {"kind": "configmaps", **more})).structured
            assert found["page"]["total"] == 5_000
            assert found["page"]["next_cursor"]
            assert len(json.dumps(found)) < 24_500


async def test_looking_at_large_objects_leaves_others_their_turn(
    rough: RoughServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"metadata": {"name": f"c{i}", "uid": str(i)}} for i in range(40)]

    async def serve(request: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": items})

    rough.handler = serve
    monkeypatch.setattr("opsbus_k8s_ops.listing.TURN_S", 0.0)
    turns: list[int] = []
    looked: list[str] = []

    async def other() -> None:
        while len(looked) < len(items):
            turns.append(len(looked))
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await list_objects(
        rough.api(), "pods", "shop", lambda obj: looked.append(obj["metadata"]["name"]), Bounds(500, 500)
    )
    await beside
    assert len([turn for turn in set(turns) if 0 < turn < len(items)]) > 10


async def test_a_name_of_the_clusters_own_is_not_doubted(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        if request.path == "/api":
            return aggregated(**{"": kinds(("", "pods", "Pod"))})
        return aggregated(**{"metrics.k8s.io": kinds(("metrics.k8s.io", "pods", "PodMetrics"))})

    rough.handler = serve
    kind, warnings = await Discovery().find(rough.api(), "pods")
    assert (kind.kind, warnings) == ("Pod", [])
    assert (await Discovery().find(rough.api(), "pods.metrics.k8s.io"))[0].kind == "PodMetrics"


async def test_the_catalogue_is_kept_and_asked_again_for_what_is_unknown(
    rough: RoughServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough.handler = serving({})
    discovery = Discovery()
    for _ in range(3):
        await discovery.find(rough.api(), "configmap")
    assert len(rough.requests) == 2
    monkeypatch.setattr("opsbus_k8s_ops.discovery.STALE_S", 0.0)
    with pytest.raises(ToolError) as refusal:
        await discovery.find(rough.api(), "configmop")
    assert refusal.value.did_you_mean
    assert len(rough.requests) == 4


async def test_an_older_server_is_asked_group_by_group_and_a_dead_group_hides_its_own_kinds_alone(
    rough: RoughServer,
) -> None:
    def resources(*names: str) -> web.Response:
        entries = [{"name": name, "kind": "Pod", "namespaced": True, "verbs": ["get"]} for name in names]
        return web.json_response({"kind": "APIResourceList", "resources": entries})

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            version = [{"groupVersion": "x/v2", "version": "v2"}, {"groupVersion": "x/v1", "version": "v1"}]
            dead = [{"groupVersion": "metrics.k8s.io/v1", "version": "v1"}]
            groups = [
                {"name": "metrics.k8s.io", "versions": dead, "preferredVersion": dead[0]},
                {"name": "x", "versions": version, "preferredVersion": version[1]},
            ]
            return web.json_response({"kind": "APIGroupList", "groups": groups})
        if request.path == "/api/v1":
            return resources("pods", "pods/log")
        if request.path.startswith("/apis/x/"):
            return resources("things", "olds") if request.path.endswith("v1") else resources("things", "news")
        return web.json_response({"kind": "Status", "code": 503, "message": "down"}, status=503)

    rough.handler = serve
    catalogue = await read_catalogue(rough.api())
    found = {kind.plural: kind.version for kind in catalogue.kinds}
    assert found == {"pods": "v1", "things": "v1", "olds": "v1", "news": "v2"}
    assert catalogue.missing == ["metrics.k8s.io/v1"]
    (pods,) = catalogue.called("pods")
    assert pods.verbs_of("log") == ("get",)
    assert pods.verbs_of("exec") is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, ErrorCode.FORBIDDEN), (410, ErrorCode.BACKEND_ERROR), (500, ErrorCode.BACKEND_ERROR)],
)
async def test_a_cluster_that_refuses_is_named(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, status: int, code: ErrorCode
) -> None:
    known = serving({})

    async def serve(request: web.Request) -> Any:
        if request.path in ("/api", "/apis"):
            return await known(request)
        return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)

    rough.handler = serve
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        for more in ({}, {"name": "x", "namespace": "shop"}):
            error = (await caller.call("k8s", "get_resource", {"kind": "configmaps", **more})).error
            assert error.code is code
            assert "lab" in error.message


async def test_a_cluster_that_is_silent_ends_in_time(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    async def serve(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    rough.handler = serve
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url})), request_timeout_s=0.5):
        error = (await caller.call("k8s", "get_resource", {"kind": "cm"})).error
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert error.retryable
