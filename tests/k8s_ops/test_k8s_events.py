"""k8s_get_events: what the cluster told, counted once; the objects it can be about; and what is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.eventrows import merge, read_event
from opsbus_k8s_ops.family import Family, siblings_of

from .conftest import RoughServer, identity, kubeconfig
from .test_k8s_reads import schema_of

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
ALL = frozenset({"count", "objects", "others", "message", "first", "last", "age_s", "source"})


async def test_the_shop_tells_its_trouble_warnings_first(ask: Any) -> None:
    reply = await ask("get_events", role="viewer", namespaces=["shop"], since="3h")
    schema_of("get_events").validate(reply.structured)
    found = reply.structured
    types = [row["type"] for row in found["items"]]
    assert types == sorted(types, reverse=True)
    backoff = next(row for row in found["items"] if row["reason"] == "BackOff")
    assert (backoff["objects"], len(backoff["others"])) == (2, 1)
    assert backoff["count"] >= 148
    assert backoff["object"].startswith("Pod/checkout-")
    scheduling = next(row for row in found["items"] if row["reason"] == "FailedScheduling")
    assert "Insufficient cpu" in scheduling["message"]
    assert scheduling["count"] >= 65
    counts = found["counts"]
    assert counts["events"] > counts["warnings"] > 0
    assert next(iter(counts["reasons"].values())) == max(counts["reasons"].values())
    assert "BackOff" in reply.text
    assert found["source"] == "kubernetes:lab/events"


async def test_events_of_a_workload_are_those_of_its_pods_too(ask: Any) -> None:
    for about in ("deployment/checkout", "checkout", "Deployment.apps/checkout"):
        found = (await ask("get_events", namespaces=["shop"], object=about, since="3h")).structured
        kinds = {row["object"].partition("/")[0] for row in found["items"]}
        assert {"Pod", "Deployment", "HorizontalPodAutoscaler"} <= kinds
        assert all("/checkout" in row["object"] for row in found["items"])


async def test_events_of_one_pod_and_of_a_node(ask: Any) -> None:
    pod = (await ask("get_pods", namespaces=["shop"], problem_only=True)).structured["items"][0]["name"]
    found = (await ask("get_events", namespaces=["shop"], object=f"po/{pod}", since="3h", types=["Warning"])).structured
    assert found["items"]
    assert {row["object"] for row in found["items"]} == {f"Pod/{pod}"}
    assert {row["type"] for row in found["items"]} == {"Warning"}
    nodes = (await ask("get_events", reasons=["SystemOOM"], since="3h")).structured["items"]
    assert nodes
    node = nodes[0]["object"].partition("/")[2]
    about = (await ask("get_events", object=f"node/{node}", since="3h")).structured
    assert [row["reason"] for row in about["items"]] == ["SystemOOM"]


async def test_an_object_of_which_nothing_is_told_is_no_error(ask: Any) -> None:
    found = (await ask("get_events", namespaces=["shop"], object="configmap/checkout-config")).structured
    assert found["items"] == []
    assert found["page"]["total"] == 0


async def test_events_are_grouped_chosen_and_paged(ask: Any) -> None:
    grouped = (await ask("get_events", group_by="reason", since="3h")).structured
    assert grouped["items"] == []
    assert sum(group["events"] for group in grouped["groups"]) == grouped["counts"]["events"]
    by_workload = (await ask("get_events", group_by="workload", since="3h")).structured["groups"]
    assert "shop/checkout" in [group["key"] for group in by_workload]
    rows = (await ask("get_events", since="3h", fields=["count"])).structured["items"]
    assert all(set(row) == {"namespace", "type", "reason", "object", "count"} for row in rows)
    seen: list[str] = []
    cursor = None
    while True:
        page = (await ask("get_events", since="3h", limit=3, cursor=cursor)).structured
        seen += [json.dumps([row["namespace"], row["reason"], row["message"]]) for row in page["items"]]
        cursor = page["page"]["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"object": "deployment/checkout"}, ErrorCode.INVALID_ARGUMENTS, "name exactly one"),
        ({"object": "checkout", "namespaces": ["shop", "payments"]}, ErrorCode.INVALID_ARGUMENTS, "name exactly one"),
        ({"object": "deployment/chekout", "namespaces": ["shop"]}, ErrorCode.NOT_FOUND, "chekout"),
        ({"object": "chekout", "namespaces": ["shop"]}, ErrorCode.NOT_FOUND, "chekout"),
        ({"object": "deploymint/checkout", "namespaces": ["shop"]}, ErrorCode.NOT_FOUND, "deploymint"),
        ({"object": "node/lab-worker-1", "namespaces": ["shop"]}, ErrorCode.INVALID_ARGUMENTS, "no namespace"),
        ({"object": "node/lab-wörker"}, ErrorCode.INVALID_ARGUMENTS, "object"),
        ({"object": "pod/../secrets", "namespaces": ["shop"]}, ErrorCode.INVALID_ARGUMENTS, "object"),
        ({"namespaces": ["shopp"]}, ErrorCode.NOT_FOUND, "shopp"),
        ({"since": "yesterday"}, ErrorCode.INVALID_ARGUMENTS, "since"),
        ({"types": ["Error"]}, ErrorCode.INVALID_ARGUMENTS, "types"),
        ({"namespace": "shop"}, ErrorCode.INVALID_ARGUMENTS, "namespace"),
        ({"fields": ["secret"]}, ErrorCode.INVALID_ARGUMENTS, "fields"),
        ({"cursor": "x"}, ErrorCode.INVALID_ARGUMENTS, "cursor"),
    ],
)
async def test_events_that_cannot_be_asked_for(ask: Any, arguments: dict[str, Any], code: ErrorCode, word: str) -> None:
    error = (await ask("get_events", **arguments)).error
    assert error.code is code, error
    assert word in error.message
    assert error.hint


async def test_names_that_are_near_are_told(ask: Any) -> None:
    for about, meant in [("deployment/chekout", "checkout"), ("chekout", "checkout")]:
        assert (await ask("get_events", namespaces=["shop"], object=about)).error.did_you_mean[0] == meant
    kind = (await ask("get_events", namespaces=["shop"], object="deploymint/x")).error
    assert "Deployment" in kind.did_you_mean or "deployments" in kind.did_you_mean


async def test_the_clusters_rights_decide_on_events(ask: Any) -> None:
    error = (await ask("get_events", role="stranger", namespaces=["shop"])).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "stranger@shop.example" in error.message


async def test_closed_namespaces_have_no_events(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop*"]):
        who = {"identity": identity("operator")}
        closed = await caller.call("k8s", "get_events", {"namespaces": ["payments"]}, **who)
        assert closed.error.code is ErrorCode.FORBIDDEN
        about = await caller.call("k8s", "get_events", {"namespaces": ["payments"], "object": "pod/x"}, **who)
        assert about.error.code is ErrorCode.FORBIDDEN
        everywhere = await caller.call("k8s", "get_events", {"since": "3h"}, **who)
        assert {row["namespace"] for row in everywhere.structured["items"]} <= {"shop", "shop-staging"}


def event(name: str, message: str, **more: Any) -> dict[str, Any]:
    about = {"kind": "Pod", "name": name, "namespace": "shop"}
    base = {"involvedObject": about, "type": "Warning", "reason": "Failed", "message": message, "metadata": {}}
    return {**base, "lastTimestamp": "2026-08-01T11:50:00Z", **more}


def test_the_same_of_siblings_is_one_row_and_other_things_are_not() -> None:
    told = [
        event("checkout-7d9f8c5b4-x7k2p", "pod checkout-7d9f8c5b4-x7k2p took 12 s", count=3),
        event("checkout-7d9f8c5b4-b2c4d", "pod checkout-7d9f8c5b4-b2c4d took 9 s", count=4),
        event("cart-7d9f8c5b4-b2c4d", "pod cart-7d9f8c5b4-b2c4d took 9 s"),
        event("checkout-7d9f8c5b4-b2c4d", "no such image", count=1),
    ]
    rows = [row for _, row in sorted(merge(map(read_event, told), NOW, ALL), key=lambda item: item[0])]
    assert sorted((row.count, row.objects) for row in rows) == [(1, None), (1, None), (7, 2)]


def test_both_ways_of_telling_a_series_are_read_and_secrets_masked() -> None:
    new = event(
        "a",
        "password=hunter2 refused",
        lastTimestamp=None,
        eventTime="2026-08-01T10:00:00.123456Z",
        series={"count": 9, "lastObservedTime": "2026-08-01T11:00:00.000000Z"},
    )
    read = read_event(new)
    assert (read.count, read.first.hour, read.last.hour) == (9, 10, 11)
    assert "hunter2" not in read.message
    empty = read_event({})
    assert (empty.count, empty.type, empty.name) == (1, "Normal", "")


@pytest.mark.parametrize(
    ("kind", "name", "made_kind", "made", "covered"),
    [
        ("Deployment", "checkout", "Pod", "checkout-7d9f8c5b4-x7k2p", True),
        ("Deployment", "checkout", "ReplicaSet", "checkout-7d9f8c5b4", True),
        ("Deployment", "checkout", "Pod", "checkout-worker-7d9f8c5b4-x7k2p", False),
        ("Deployment", "checkout", "Deployment", "checkout-worker", False),
        ("Deployment", "checkout", "Service", "checkout", False),
        ("StatefulSet", "redis", "Pod", "redis-0", True),
        ("StatefulSet", "redis", "PersistentVolumeClaim", "data-redis-0", True),
        ("DaemonSet", "agent", "Pod", "agent-x7k2p", True),
        ("DaemonSet", "agent", "Pod", "agent-7d9f8c5b4-x7k2p", False),
        ("CronJob", "nightly", "Pod", "nightly-29000000-x7k2p", True),
        ("Pod", "a.b", "Pod", "axb", False),
        ("Deployment", "a" * 50, "Pod", "a" * 50 + "-7d9f8c5x7k2p", True),
        ("Deployment", "a" * 60, "Pod", "a" * 58 + "x7k2p", True),
        ("Deployment", "a" * 50, "Pod", "a" * 50 + "-api-7d9fx7k2", False),
        ("Deployment", "a" * 50, "Pod", "b" * 50 + "-7d9f8c5x7k2p", False),
    ],
)
def test_a_family_is_told_by_its_names(kind: str, name: str, made_kind: str, made: str, covered: bool) -> None:
    assert Family(kind, name).covers(made_kind, made) is covered


def test_siblings() -> None:
    assert siblings_of("Pod", "checkout-7d9f8c5b4-x7k2p") == "checkout"
    assert siblings_of("Pod", "redis-12") == "redis"
    assert siblings_of("Pod", "standalone") == "standalone"
    assert siblings_of("Node", "worker-1") == "worker-1"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, ErrorCode.FORBIDDEN),
        (410, ErrorCode.BACKEND_ERROR),
        (500, ErrorCode.BACKEND_ERROR),
        (503, ErrorCode.BACKEND_UNAVAILABLE),
    ],
)
async def test_a_cluster_that_refuses_is_named(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, status: int, code: ErrorCode
) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)

    rough.handler = serve
    path = kubeconfig(tmp_path, {"lab": rough.url})
    async with run_worker(build(), kubeconfig=str(path), request_timeout_s=5):
        error = (await caller.call("k8s", "get_events", {})).error
    assert error.code is code
    assert "lab" in error.message


async def test_thousands_of_events_are_few_rows_within_the_budget(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    now = datetime.now(UTC).isoformat()
    many = [
        event(f"app{i % 200}-7d9f8c5b4-x7k{i % 10}p", f"probe of {i % 200} failed {'x' * 300} {i}", lastTimestamp=now)
        for i in range(3_000)
    ]

    async def serve(request: web.Request) -> web.Response:
        begin, limit = int(request.query.get("continue") or 0), int(request.query["limit"])
        rest = str(begin + limit) if begin + limit < len(many) else ""
        return web.json_response({"metadata": {"continue": rest}, "items": many[begin : begin + limit]})

    rough.handler = serve
    path = kubeconfig(tmp_path, {"lab": rough.url})
    async with run_worker(build(), kubeconfig=str(path)):
        reply = await caller.call("k8s", "get_events", {"limit": 500})
    found = reply.structured
    assert found["page"]["total"] == 200
    assert found["counts"]["events"] == 3_000
    assert len(json.dumps(found)) < 24_500
    assert found["page"]["next_cursor"]
    assert any("left out" in warning for warning in found["warnings"])
