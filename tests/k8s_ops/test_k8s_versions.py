"""Kubernetes 1.27 to 1.37: the tools ask which APIs a cluster serves, read what is there, and say what is not."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus.testing.caller import Caller, Reply
from opsbus.testing.plugin import RunWorker
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.discovery import Discovery
from opsbus_k8s_ops.eventrows import read_event
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.versions import KNOWN, UnknownVersionError, served

from .conftest import RoughServer, identity, still_cluster, still_store

OLD_ALONE = ("events.k8s.io", "autoscaling/v2")
READS: dict[str, dict[str, Any]] = {
    "list_clusters": {},
    "can_i": {"verb": "list", "kind": "pods"},
    "get_pods": {"namespaces": ["shop"]},
    "get_deployments": {"namespaces": ["shop"]},
    "get_events": {"namespaces": ["shop"], "since": "24h"},
    "get_resource": {"kind": "hpa", "namespace": "shop"},
    "get_pod_logs": {"namespace": "shop", "workload": "checkout"},
    "diagnose_workload": {"namespace": "shop", "workload": "deployment/checkout"},
    "rollout_status": {"namespace": "shop", "workload": "deployment/checkout"},
    "rollout_history": {"namespace": "shop", "workload": "deployment/checkout"},
}
CLUSTERS: dict[str, dict[str, Any]] = {
    "oldest": {"version": "1.27"},
    "newest": {"version": "1.37"},
    "metrics away": {"version": "1.34", "down": ("metrics.k8s.io/v1beta1",)},
    "old APIs alone": {"version": "1.30", "lacks": OLD_ALONE},
}


@pytest.fixture(scope="module")
def store() -> ObjectStore:
    return still_store()


@asynccontextmanager
async def asking(
    folder: Path, store: ObjectStore, run_worker: RunWorker, caller: Caller, **options: Any
) -> AsyncIterator[Callable[..., Awaitable[Reply]]]:
    """Calls tools of a worker before a cluster that is so, as an operator."""
    async with (
        still_cluster(folder, store, **options) as cluster,
        run_worker(build(), kubeconfig=str(cluster.kubeconfig)),
    ):

        async def ask(tool: str, **arguments: Any) -> Reply:
            return await caller.call("k8s", tool, arguments, identity=identity("operator"))

        yield ask


@pytest.mark.parametrize("chosen", CLUSTERS)
async def test_every_read_and_the_plan_of_a_write(
    chosen: str, store: ObjectStore, tmp_path: Path, run_worker: RunWorker, caller: Caller
) -> None:
    async with asking(tmp_path, store, run_worker, caller, **CLUSTERS[chosen]) as ask:
        found = {tool: await ask(tool, **arguments) for tool, arguments in READS.items()}
        for tool, reply in found.items():
            assert reply.status == "ok", f"{chosen}: {tool}: {reply.body[:400]!r}"
            warnings = reply.structured.get("warnings", [])
            assert not any("not shown" in warning or "could not" in warning for warning in warnings), warnings
        [cluster] = found["list_clusters"].structured["items"]
        assert cluster["version"].startswith(f"v{CLUSTERS[chosen]['version']}.")
        rows = {row["name"]: row for row in found["get_deployments"].structured["items"]}
        steered = {name: row["hpa"] for name, row in rows.items() if row.get("hpa")}
        assert steered
        assert all(hpa["max_replicas"] > 0 for hpa in steered.values())
        assert found["get_events"].structured["counts"]["events"] > 0
        row = found["get_events"].structured["items"][0]
        assert row["message"]
        assert row["source"]
        assert row["object"].count("/") == 1
        diagnosis = found["diagnose_workload"].structured
        assert {event["reason"] for event in diagnosis["events"]} >= {"BackOff", "Unhealthy"}
        name = next(iter(steered))
        scaled = await ask("scale_deployment", namespace="shop", name=name, replicas=1, reason="test", dry_run=True)
        assert scaled.status == "ok", scaled.body
        plan = json.dumps(scaled.structured["plan"])
        assert "autoscaler" in plan
        assert "were not checked" not in plan


async def test_old_and_new_shapes_say_the_same(
    store: ObjectStore, tmp_path: Path, run_worker: RunWorker, caller: Caller
) -> None:
    """What one cluster serves in the old shape and the other in the new reads the same."""
    answers = []
    for lacks in ((), OLD_ALONE):
        async with asking(tmp_path, store, run_worker, caller, lacks=lacks) as ask:
            events = await ask("get_events", since="48h", fields=["count", "message", "source", "first", "last"])
            of_pod = await ask("get_events", since="48h", object="pod/nothing", namespaces=["shop"])
            hpas = await ask("get_deployments", fields=["hpa"])
            answers.append((events.structured["items"], of_pod.status, hpas.structured["items"]))
    assert answers[0] == answers[1]
    assert any(row.get("hpa", {}).get("note") for row in answers[0][2])


async def test_who_may_read_one_of_two_apis_reads_that(tmp_path: Path, run_worker: RunWorker, caller: Caller) -> None:
    """The cluster's own role `view` opens events of the core group alone."""
    store = still_store()
    role = store.get("clusterroles", "", "opsbus-operator")
    assert role is not None
    rules = [rule for rule in role["rules"] if rule["apiGroups"] != ["events.k8s.io"]]
    store.update("clusterroles", {**role, "rules": rules})
    async with asking(tmp_path, store, run_worker, caller) as ask:
        reply = await ask("get_events", namespaces=["shop"], since="24h")
        assert reply.structured["counts"]["events"] > 0


def test_both_shapes_of_an_event() -> None:
    core = {
        "metadata": {"namespace": "shop"}, "type": "Warning", "reason": "BackOff", "message": "Back-off", "count": 3,
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "p", "fieldPath": "spec.containers{app}"},
        "firstTimestamp": "2026-11-21T10:00:00Z", "lastTimestamp": "2026-11-21T10:05:00Z",
        "source": {"component": "kubelet", "host": "node-1"},
    }  # fmt: skip
    names = {
        "message": "note", "count": "deprecatedCount", "involvedObject": "regarding",
        "firstTimestamp": "deprecatedFirstTimestamp", "lastTimestamp": "deprecatedLastTimestamp",
        "source": "deprecatedSource",
    }  # fmt: skip
    assert read_event({names.get(name, name): value for name, value in core.items()}) == read_event(core)
    bare = {"metadata": {"creationTimestamp": "2026-11-21T10:00:00Z"}, "reportingController": "keda", "note": "hm"}
    assert (read_event(bare).source, read_event(bare).message) == ("keda", "hm")


async def listed_from(rough: RoughServer, *answers: str) -> list[str]:
    """The paths asked for events, of a cluster that answers so at each."""
    left = list(answers)

    async def serve_all(request: web.Request) -> web.StreamResponse:
        groups = {"events.k8s.io": "v1"}
        if request.path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            versions = {
                name: [{"groupVersion": f"{name}/{version}", "version": version}] for name, version in groups.items()
            }
            return web.json_response(
                {"kind": "APIGroupList", "groups": [{"name": name, "versions": versions[name]} for name in groups]}
            )
        if request.path in ("/api/v1", "/apis/events.k8s.io/v1"):
            resources = [{"name": "events", "kind": "Event", "namespaced": True, "verbs": ["list"]}]
            return web.json_response({"kind": "APIResourceList", "resources": resources})
        answer = left.pop(0)
        if answer == "ok":
            return web.json_response({"metadata": {}, "items": []})
        return web.json_response({"kind": "Status", "code": int(answer), "message": "no"}, status=int(answer))

    rough.handler = serve_all
    api = rough.api()
    object.__setattr__(api, "negotiation", Discovery())
    await list_objects(api, "events", "shop", lambda obj: obj, Bounds(10, 10), fields="involvedObject.name=p")
    return [request.path_qs for request in rough.requests if "/shop/" in request.path]


async def test_the_better_api_is_asked_in_its_own_words(rough: RoughServer) -> None:
    [path] = await listed_from(rough, "ok")
    assert path.startswith("/apis/events.k8s.io/v1/namespaces/shop/events?")
    assert "regarding.name" in path


@pytest.mark.parametrize("answer", ["403", "404"])
async def test_the_other_api_is_asked_where_the_better_one_is_closed(rough: RoughServer, answer: str) -> None:
    first, second = await listed_from(rough, answer, "ok")
    assert first.startswith("/apis/events.k8s.io/")
    assert second.startswith("/api/v1/")
    assert "involvedObject.name" in second


async def test_a_cluster_that_does_not_say_what_it_serves(rough: RoughServer) -> None:
    async def closed(request: web.Request) -> web.StreamResponse:
        if "events" in request.path:
            return web.json_response({"metadata": {}, "items": []})
        return web.json_response({"kind": "Status", "code": 403, "message": "no"}, status=403)

    rough.handler = closed
    api = rough.api()
    object.__setattr__(api, "negotiation", Discovery())
    for _ in range(2):
        await list_objects(api, "events", "shop", lambda obj: obj, Bounds(10, 10))
    assert [request.path for request in rough.requests] == ["/api", *["/api/v1/namespaces/shop/events"] * 2]


@pytest.mark.parametrize("version", KNOWN)
async def test_what_each_version_serves(version: str) -> None:
    plain = served(version, "v1.34.2")
    assert plain.git_version.startswith(f"v{version}.")
    groups = plain.groups()
    assert {"", "apps", "policy", "events.k8s.io", "autoscaling"} <= set(groups)
    assert groups["autoscaling"] == ["v2", "v1"]
    assert ("authentication.k8s.io" in groups) is (version != "1.27")
    assert "autoscaling/v2" not in served(version, "v1.34.2", ["autoscaling/v2"]).groups()["autoscaling"]


def test_a_version_that_is_unknown() -> None:
    with pytest.raises(UnknownVersionError):
        served("1.12", "v1.34.2")
