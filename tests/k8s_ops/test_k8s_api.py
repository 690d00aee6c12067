"""The way into a cluster when it misbehaves: expired lists, floods, silence, broken connections, wrong bodies."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider

from opsbus import ErrorCode, Executed, ToolError
from opsbus_contracts import Identity
from opsbus_k8s_ops.api import Impersonation, path_of
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.kubeconfig import NoClustersError, load_clusters
from opsbus_k8s_ops.listing import Bounds, get_object, list_objects, names_of
from opsbus_k8s_ops.logstream import LogQuery, Source, read_source
from opsbus_k8s_ops.settings import K8sSettings
from opsbus_k8s_ops.writes import patch_unless_changed

from .conftest import RoughServer, kubeconfig


def status(code: int, message: str = "no", reason: str = "", **metadata: Any) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message, "reason": reason, "metadata": metadata}
    return web.json_response(body, status=code)


def pods(*names: str, token: str = "") -> web.Response:
    items = [{"metadata": {"name": name, "namespace": "shop", "uid": name}} for name in names]
    return web.json_response({"metadata": {"continue": token}, "items": items})


async def listed(rough: RoughServer, **bounds: int) -> Any:
    keep = Bounds(**({"page_size": 2, "items_max": 100} | bounds))
    return await list_objects(rough.api(), "pods", "shop", lambda obj: obj["metadata"]["name"], keep)


async def test_lists_are_read_in_pages(rough: RoughServer) -> None:
    pages = {"": pods("a", "b", token="1"), "1": pods("c", "d", token="2"), "2": pods("e")}

    async def serve(request: web.Request) -> web.Response:
        return pages[request.query.get("continue", "")]

    rough.handler = serve
    listing = await listed(rough)
    assert (listing.items, listing.complete) == (["a", "b", "c", "d", "e"], True)
    assert [request.query["limit"] for request in rough.requests] == ["2", "2", "2"]


async def test_a_list_stops_at_its_bound_and_says_so(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        limit, begin = int(request.query["limit"]), int(request.query.get("continue") or 0)
        return pods(*(f"p{begin + i}" for i in range(limit)), token=str(begin + limit))

    rough.handler = serve
    listing = await listed(rough, items_max=5)
    assert (listing.items, listing.complete) == (["p0", "p1", "p2", "p3", "p4"], False)
    assert rough.requests[-1].query["limit"] == "1"


async def test_an_expired_list_starts_anew_once(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        if request.query.get("continue") == "old":
            return status(410, "too old", "Expired", **{"continue": "mixed"})
        return (
            pods("a", "b", token="old" if len(rough.requests) == 1 else "")
            if len(rough.requests) == 1
            else pods("b", "c")
        )

    rough.handler = serve
    listing = await listed(rough)
    assert listing.items == ["b", "c"]
    assert listing.warnings == []


async def test_a_list_that_keeps_expiring_takes_the_mixed_rest_and_says_so(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        token = request.query.get("continue")
        if token == "old":
            return status(410, "too old", "Expired", **{"continue": "mixed"})
        return pods("b", "c") if token == "mixed" else pods("a", "b", token="old")

    rough.handler = serve
    listing = await listed(rough)
    assert listing.items == ["a", "b", "c"]
    assert "mixes two moments" in listing.warnings[0]


async def test_a_list_that_expires_without_a_way_on_is_an_error(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        return status(410, "too old", "Expired") if request.query.get("continue") else pods("a", token="old")

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await listed(rough)
    assert refusal.value.code is ErrorCode.BACKEND_ERROR
    assert len(rough.requests) < 10


async def test_an_answer_over_the_bound_is_refused(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.json_response({"items": ["x" * 1000] * 1000})

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await rough.api(bytes_max=100_000).get(path_of("pods", "shop"), "list pods")
    assert refusal.value.code is ErrorCode.RESULT_TOO_LARGE


@pytest.mark.parametrize("body", ["", "not json", "[1]", "null", '"x"'])
async def test_an_answer_that_is_no_object_is_an_error(rough: RoughServer, body: str) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.Response(text=body)

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await rough.api().get(path_of("pods", "shop"), "list pods")
    assert refusal.value.code is ErrorCode.BACKEND_ERROR


async def _hang(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def _break(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("trouble", [_hang, _break])
async def test_no_answer_to_a_read_or_a_dry_run_means_not_executed(rough: RoughServer, trouble: Any) -> None:
    rough.handler = trouble
    api = rough.api(timeout_s=0.3)
    for attempt in (
        api.get(path_of("pods", "shop"), "list pods"),
        api.patch(path_of("deployments", "shop", "x"), {"spec": {}}, "scale", dry_run=True),
    ):
        with pytest.raises(ToolError) as refusal:
            await attempt
        assert refusal.value.code is ErrorCode.BACKEND_UNAVAILABLE
        assert refusal.value.executed is Executed.NO


@pytest.mark.parametrize("trouble", [_hang, _break])
async def test_no_answer_to_a_write_means_unknown(rough: RoughServer, trouble: Any) -> None:
    rough.handler = trouble
    with pytest.raises(ToolError) as refusal:
        await rough.api(timeout_s=0.3).patch(path_of("deployments", "shop", "x"), {"spec": {}}, "scale", dry_run=False)
    assert refusal.value.code is ErrorCode.OUTCOME_UNKNOWN
    assert refusal.value.executed is Executed.UNKNOWN


async def test_a_write_to_nobody_was_not_executed(rough: RoughServer) -> None:
    api = rough.api()
    api.client.configuration.host = "http://127.0.0.1:1"
    with pytest.raises(ToolError) as refusal:
        await api.patch(path_of("deployments", "shop", "x"), {"spec": {}}, "scale", dry_run=False)
    assert refusal.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert refusal.value.executed is Executed.NO


async def test_the_caller_is_impersonated_with_every_group(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        return pods("a")

    rough.handler = serve
    api, plain = rough.api(), rough.api()
    assert rough.client is not None
    ann = rough.client.acting_as(Impersonation("ann@example.com", ("opsbus:viewer", "opsbus:on-call")))
    object.__setattr__(api, "client", ann)
    await api.get(path_of("pods", "shop"), "list pods")
    await plain.get(path_of("pods", "shop"), "list pods")
    first, second = (request.headers for request in rough.requests)
    assert first["Impersonate-User"] == "ann@example.com"
    assert first.getall("Impersonate-Group") == ["opsbus:viewer", "opsbus:on-call"]
    assert first["Authorization"] == second["Authorization"] == "Bearer t"
    assert not [name for name in second if name.lower().startswith("impersonate")]


async def test_the_trace_of_a_call_goes_on_in_the_api_server(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    async def serve(request: web.Request) -> web.Response:
        return pods("a")

    rough.handler = serve
    path = kubeconfig(tmp_path, {"lab": rough.url})
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with run_worker(build(), kubeconfig=str(path), tracer_provider=TracerProvider()):
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        reply = await caller.call("k8s", "get_pods", {}, headers=headers)
    assert reply.structured["counts"]["total"] == 1
    assert rough.requests[0].headers["traceparent"].split("-")[1] == trace


def test_every_part_of_a_path_is_quoted() -> None:
    assert path_of("pods", "a/../b", "x?y#z", "log") == "/api/v1/namespaces/a%2F..%2Fb/pods/x%3Fy%23z/log"


async def test_a_missing_object_is_named_with_its_neighbours(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        if request.path.endswith("/chekout"):
            return status(404, 'deployments.apps "chekout" not found', "NotFound")
        if request.path.endswith("/namespaces/shop"):
            return web.json_response({"metadata": {"name": "shop"}})
        return pods("checkout", "cart")

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await get_object(rough.api(), "deployments", "shop", "chekout")
    assert refusal.value.code is ErrorCode.NOT_FOUND
    assert refusal.value.did_you_mean == ["checkout"]


async def test_a_missing_namespace_is_told_from_a_missing_object(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.Response:
        return pods("shop", "payments") if request.path == "/api/v1/namespaces" else status(404)

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await get_object(rough.api(), "deployments", "shopp", "checkout")
    assert "no namespace 'shopp'" in refusal.value.message
    assert refusal.value.did_you_mean == ["shop"]
    assert await names_of(rough.api(), "namespaces") == ["shop", "payments"]


def deployment(version: str, generation: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": "x", "namespace": "shop", "uid": "u", "resourceVersion": version, "generation": generation}
    }


async def test_a_change_of_the_status_alone_does_not_stop_a_write(rough: RoughServer) -> None:
    sent: list[Any] = []

    async def serve(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response(deployment("8"))
        sent.append(await request.json())
        return status(409, "modified", "Conflict") if len(sent) == 1 else web.json_response(deployment("9"))

    rough.handler = serve
    change = {"spec": {"replicas": 2}}
    await patch_unless_changed(rough.api(), deployment("7"), ("x", "scale"), change, "scale", strict=False)
    assert [body["metadata"]["resourceVersion"] for body in sent] == ["7", "8"]


@pytest.mark.parametrize(("strict", "generation"), [(True, 1), (False, 2)])
async def test_a_change_of_the_spec_stops_a_write(rough: RoughServer, strict: bool, generation: int) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.json_response(deployment("8", generation)) if request.method == "GET" else status(409, "modified")

    rough.handler = serve
    with pytest.raises(ToolError) as refusal:
        await patch_unless_changed(rough.api(), deployment("7"), ("x",), {}, "restart", strict=strict)
    assert refusal.value.code is ErrorCode.CONFLICT
    assert len([request for request in rough.requests if request.method == "PATCH"]) == 1


async def test_a_log_is_read_up_to_its_bounds(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for i in range(3_000):
            await response.write(f"2026-08-01T12:{i // 60:02d}:{i % 60:02d}Z line {i} {'x' * 100}\n".encode())
        return response

    rough.handler = serve
    source = Source("shop", "p", "c", previous=False)
    scan = await read_source(rough.api(), source, LogQuery(tail=5, bytes_max=1_000_000))
    assert [line.text.split()[1] for line in scan.lines] == ["2995", "2996", "2997", "2998", "2999"]
    assert scan.more
    cut = await read_source(rough.api(), source, LogQuery(tail=5, bytes_max=70_000))
    assert cut.note is not None
    assert "newer lines are missing" in cut.note
    before = await read_source(
        rough.api(), source, LogQuery(tail=2, bytes_max=1_000_000, before="2026-08-01T12:00:10.000000000Z")
    )
    assert [line.text.split()[1] for line in before.lines] == ["8", "9"]


async def test_a_log_of_one_endless_line_stays_bounded(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"2026-08-01T12:00:00Z ")
        for _ in range(100):
            await response.write(b"y" * 50_000)
        return response

    rough.handler = serve
    scan = await read_source(
        rough.api(), Source("shop", "p", "c", previous=False), LogQuery(tail=5, bytes_max=10_000_000)
    )
    assert len(scan.lines) == 1
    assert len(scan.lines[0].text) < 2_100


async def test_a_log_that_breaks_off_gives_what_was_read(rough: RoughServer) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"2026-08-01T12:00:00Z one\n2026-08-01T12:00:01Z two\n")
        await asyncio.sleep(30)
        return response

    rough.handler = serve
    source = Source("shop", "p", "c", previous=False)
    scan = await read_source(rough.api(timeout_s=2.0), source, LogQuery(tail=5, bytes_max=1_000_000))
    assert [line.text for line in scan.lines] == ["one", "two"]
    assert scan.note is not None
    assert "broke off after 2 lines" in scan.note


def call(sub: str = "ann", roles: tuple[str, ...] = ("viewer",)) -> Any:
    return SimpleNamespace(identity=Identity(sub=sub, roles=list(roles), iat=0, exp=1), remaining_s=20.0)


async def test_every_context_is_a_cluster(rough: RoughServer, tmp_path: Path) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.json_response({"gitVersion": "v1.34.2"})

    rough.handler = serve
    path = kubeconfig(tmp_path, {"lab": rough.url, "gone": "http://127.0.0.1:1"}, current="lab")
    async with Clusters(K8sSettings(kubeconfig=str(path))) as clusters:
        assert clusters.names == ["lab", "gone"]
        lab, gone = await clusters.probe()
        assert (lab.reachable, lab.version, lab.default) == (True, "v1.34.2", True)
        assert (gone.reachable, gone.version) == (False, None)
        assert gone.reason
        with pytest.raises(ToolError) as refusal:
            clusters.api(call(), "lap")
        assert refusal.value.did_you_mean == ["lab"]


@pytest.mark.parametrize(
    "sub", ["system:admin", "system:serviceaccount:kube-system:x", "a\nb", "a\r\nImpersonate-Group: x"]
)
async def test_nobody_is_taken_for_a_part_of_kubernetes(tmp_path: Path, sub: str) -> None:
    path = kubeconfig(tmp_path, {"lab": "http://127.0.0.1:1"})
    async with Clusters(K8sSettings(kubeconfig=str(path))) as clusters:
        with pytest.raises(ToolError) as refusal:
            clusters.api(call(sub), None)
        assert refusal.value.code is ErrorCode.FORBIDDEN
    async with Clusters(K8sSettings(kubeconfig=str(path), impersonate_group_prefix="")) as clusters:
        with pytest.raises(ToolError):
            clusters.api(call("ann", ("system:masters",)), None)


async def test_namespaces_can_be_closed(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"lab": "http://127.0.0.1:1"})
    async with Clusters(K8sSettings(kubeconfig=str(path), namespaces=["shop", "shop-*"])) as clusters:
        clusters.require_allowed(["shop", "shop-staging"])
        with pytest.raises(ToolError) as refusal:
            clusters.require_allowed(["shop", "payments"])
        assert refusal.value.code is ErrorCode.FORBIDDEN


async def test_a_configuration_that_does_not_load_says_what_was_looked_for(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"lab": "http://127.0.0.1:1"})
    broken = tmp_path / "broken"
    broken.write_text("clusters: [{name: x}]\ncontexts: 3\n")
    (tmp_path / "torn").write_text("clusters: [\n")
    for settings, word in [
        (K8sSettings(kubeconfig=str(tmp_path / "none")), "no kubeconfig"),
        (K8sSettings(kubeconfig=str(tmp_path / "torn")), "torn"),
        (K8sSettings(kubeconfig=str(broken)), "broken"),
        (K8sSettings(kubeconfig=str(path), contexts=["lap"]), "lap"),
        (K8sSettings(kubeconfig=str(path), default_context="lap"), "lap"),
    ]:
        with pytest.raises(NoClustersError, match=word):
            await load_clusters(settings)
