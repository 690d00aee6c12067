"""The read tools on the bus, over the estate's real API: what a person would ask first, and what is refused."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from opsbus_contracts import ErrorCode, Status
from opsbus_k8s_ops.app import build

from .conftest import identity


def schema_of(tool: str) -> Draft202012Validator:
    schema = build().registry.tools[tool].spec.output_schema
    assert schema is not None
    return Draft202012Validator(schema)


def page_total(found: dict[str, Any]) -> int:
    return int(found["page"]["total"])


async def test_what_is_wrong_in_the_shop(ask: Any) -> None:
    reply = await ask("get_pods", role="viewer", namespaces=["shop"], problem_only=True)
    schema_of("get_pods").validate(reply.structured)
    found = reply.structured
    counts = found["counts"]
    assert counts["unhealthy"] == page_total(found) == 3
    assert counts["total"] == sum(counts["states"].values()) >= 22
    assert (counts["states"]["CrashLoopBackOff"], counts["states"]["Pending"]) == (2, 1)
    crashing, pending = found["items"][:2], found["items"][2]
    assert {row["cause"] for row in crashing} == {"OOMKilled"}
    assert all(row["workload"] == "Deployment/checkout" and "256Mi" in row["reason"] for row in crashing)
    assert pending["cause"] == "Unschedulable"
    assert "Insufficient cpu" in pending["reason"]
    assert found["source"] == "kubernetes:lab/pods"
    assert "3 unhealthy" in reply.text


async def test_unhealthy_come_first_and_pages_reach_all(ask: Any) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = (await ask("get_pods", limit=10, cursor=cursor)).structured
        seen += [f"{row['namespace']}/{row['name']}" for row in page["items"]]
        cursor = page["page"]["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == page["page"]["total"] >= 44
    assert "checkout" in seen[0]
    assert "recommendations" in seen[2]


async def test_a_cursor_of_another_query_is_refused(ask: Any) -> None:
    cursor = (await ask("get_pods", limit=2)).structured["page"]["next_cursor"]
    error = (await ask("get_pods", namespaces=["shop"], cursor=cursor)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert "cursor" in error.message


@pytest.mark.parametrize(
    ("group_by", "key"),
    [
        ("namespace", "shop"),
        ("workload", "shop/Deployment/checkout"),
        ("node", "(none)"),
        ("state", "CrashLoopBackOff"),
        ("owner", "checkout"),
    ],
)
async def test_groups_in_place_of_rows(ask: Any, group_by: str, key: str) -> None:
    found = (await ask("get_pods", group_by=group_by)).structured
    assert found["items"] == []
    assert sum(group["total"] for group in found["groups"]) == found["counts"]["total"] >= 44
    assert next(group for group in found["groups"] if group["key"] == key)["unhealthy"] >= 1


async def test_fields_are_chosen(ask: Any) -> None:
    rows = (await ask("get_pods", namespaces=["payments"], fields=["state", "images"])).structured["items"]
    assert all(set(row) == {"namespace", "name", "healthy", "state", "images"} for row in rows)


async def test_environment_is_masked(ask: Any) -> None:
    reply = await ask("get_pods", namespaces=["shop"], label_selector="app=checkout", fields=["containers"])
    env = reply.structured["items"][0]["containers"][0]["env"]
    assert env["FRAUD_API_TOKEN"] == "[masked:token]"
    assert env["CHECKOUT_PASSWORD"] == "(from secret checkout-payments, key password)"
    assert b"frd_live" not in reply.body


async def test_a_large_answer_is_cut_to_whole_rows_and_says_so(ask: Any) -> None:
    reply = await ask("get_pods", limit=500, fields=["reason", "labels", "containers", "images", "state"])
    found = reply.structured
    assert len(json.dumps(found)) < 26_000
    assert found["page"]["truncated"] is True
    assert found["page"]["next_cursor"]
    assert any("left out" in warning for warning in found["warnings"])


async def test_what_cannot_be_asked_is_told(ask: Any) -> None:
    namespace = (await ask("get_pods", namespaces=["shopp"])).error
    assert (namespace.code, namespace.did_you_mean[0]) == (ErrorCode.NOT_FOUND, "shop")
    cluster = (await ask("get_pods", cluster="lap")).error
    assert (cluster.code, cluster.did_you_mean) == (ErrorCode.NOT_FOUND, ["lab"])
    unknown = (await ask("get_pods", namespace="shop")).error
    assert (unknown.code, unknown.did_you_mean) == (ErrorCode.INVALID_ARGUMENTS, ["namespaces"])
    selector = (await ask("get_pods", label_selector="a=b=c")).error
    assert selector.code is ErrorCode.INVALID_ARGUMENTS
    assert "lab" in selector.message
    for wrong in (
        {"namespaces": ["a/../b"]},
        {"limit": 0},
        {"limit": 501},
        {"fields": ["secrets"]},
        {"namespaces": ["x"] * 21},
    ):
        assert (await ask("get_pods", **wrong)).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_the_clusters_own_rights_decide(ask: Any) -> None:
    error = (await ask("get_pods", role="stranger", namespaces=["shop"])).error
    assert error.code is ErrorCode.FORBIDDEN
    assert "stranger@shop.example" in error.message
    assert "opsbus:stranger" in error.hint
    everywhere = (await ask("get_pods", role="stranger")).error
    assert "namespaces" in everywhere.hint


async def test_a_permission_of_the_platform_is_needed_too(ask: Any) -> None:
    who = identity("viewer").model_copy(update={"permissions": ["k8s:get"]})
    reply = await ask("get_pod_logs", options={"identity": who}, namespace="shop", workload="checkout")
    assert reply.error.code is ErrorCode.FORBIDDEN


async def test_deployments_tell_how_their_rollout_stands(ask: Any) -> None:
    reply = await ask("get_deployments", namespaces=["shop"])
    schema_of("get_deployments").validate(reply.structured)
    rows = {row["name"]: row for row in reply.structured["items"]}
    assert set(rows) == {"frontend", "catalog", "cart", "checkout", "recommendations"}
    checkout = rows["checkout"]
    assert checkout["state"] == "stuck"
    assert "timed out progressing" in checkout["reason"]
    assert checkout["hpa"]["max_replicas"] == 6
    assert "maximum replica count" in checkout["hpa"]["note"]
    assert checkout["images"] == ["registry.shop.example/checkout:v2.4.1"]
    assert checkout["owner"] == "checkout@shop.example"
    assert "SHOP-1482" in checkout["change_cause"]
    assert checkout["version"].isdigit()
    assert rows["cart"]["state"] == "complete"


async def test_other_kinds_are_read_on_demand(ask: Any) -> None:
    found = (await ask("get_deployments", kinds=["StatefulSet", "DaemonSet"], fields=["state"])).structured
    assert {row["kind"] for row in found["items"]} == {"StatefulSet", "DaemonSet"}
    assert (await ask("get_deployments", kinds=["Pod"])).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_one_deployment_by_name(ask: Any) -> None:
    found = (await ask("get_deployments", name="checkout", fields=["containers"])).structured
    assert [row["namespace"] for row in found["items"]] == ["shop", "shop-staging"]
    limits = [row["containers"][0]["limits"]["memory"] for row in found["items"]]
    assert limits == ["256Mi", "512Mi"]
    error = (await ask("get_deployments", namespaces=["shop"], name="chekout")).error
    assert (error.code, error.did_you_mean[0]) == (ErrorCode.NOT_FOUND, "checkout")


async def test_the_logs_of_a_crash_loop_show_the_run_that_died(ask: Any) -> None:
    pod = (await ask("get_pods", namespaces=["shop"], problem_only=True)).structured["items"][0]["name"]
    reply = await ask("get_pod_logs", role="viewer", namespace="shop", pod=pod, tail=10)
    schema_of("get_pod_logs").validate(reply.structured)
    found = reply.structured
    assert [(stream["container"], stream["previous"]) for stream in found["streams"]] == [("checkout", True)]
    times = [line["time"] for line in found["items"]]
    assert times == sorted(times)
    assert len(found["items"]) == 10
    assert found["page"]["next_cursor"]


async def test_logs_of_a_workload_are_merged_by_time(ask: Any) -> None:
    found = (await ask("get_pod_logs", namespace="shop", workload="frontend", tail=10)).structured
    assert len({line["pod"] for line in found["items"]}) == 3
    times = [line["time"] for line in found["items"]]
    assert times == sorted(times)


async def test_older_lines_are_reached_with_the_cursor(ask: Any) -> None:
    asked = {"namespace": "shop", "workload": "deployment/frontend", "tail": 15, "until": "now-1m"}
    newest = (await ask("get_pod_logs", **asked)).structured
    older = (await ask("get_pod_logs", **asked, cursor=newest["page"]["next_cursor"])).structured
    assert older["items"]
    assert older["items"][-1]["time"] < newest["items"][0]["time"]


async def test_filters_by_expression_and_time(ask: Any) -> None:
    found = (
        await ask(
            "get_pod_logs",
            namespace="shop",
            workload="checkout",
            include="(?i)error",
            exclude="timeout",
            since="30m",
            tail=30,
        )
    ).structured
    assert found["items"]
    assert all("error" in line["text"].lower() and "timeout" not in line["text"] for line in found["items"])
    nothing = await ask("get_pod_logs", namespace="shop", workload="checkout", include="nobody says this")
    assert nothing.structured["items"] == []
    assert "No lines." in nothing.text


async def test_patterns_count_what_repeats(ask: Any) -> None:
    reply = await ask("get_pod_logs", namespace="shop", workload="checkout", mode="patterns")
    schema_of("get_pod_logs").validate(reply.structured)
    rows = reply.structured["items"]
    assert rows[0]["level"] in ("fatal", "error")
    assert max(row["count"] for row in rows) > 20
    levels = [row["level"] for row in rows]
    assert levels == sorted(levels, key=["fatal", "error", "warning", "info", "debug"].index)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
        ({"pod": "a", "workload": "b"}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
        ({"workload": "chekout"}, ErrorCode.NOT_FOUND, "chekout"),
        ({"workload": "cronjob/x"}, ErrorCode.INVALID_ARGUMENTS, "cronjob"),
        ({"pod": "nobody"}, ErrorCode.NOT_FOUND, "nobody"),
        ({"workload": "checkout", "containers": ["chekout"]}, ErrorCode.INVALID_ARGUMENTS, "chekout"),
        ({"workload": "checkout", "include": "("}, ErrorCode.INVALID_ARGUMENTS, "include"),
        ({"workload": "checkout", "since": "long ago"}, ErrorCode.INVALID_ARGUMENTS, "since"),
        ({"workload": "checkout", "tail": 2001}, ErrorCode.INVALID_ARGUMENTS, "tail"),
        ({"workload": "checkout", "mode": "all"}, ErrorCode.INVALID_ARGUMENTS, "mode"),
        ({"workload": "checkout", "cursor": "x"}, ErrorCode.INVALID_ARGUMENTS, "cursor"),
        ({"workload": "cart", "previous": "always"}, ErrorCode.NOT_FOUND, "previous"),
        ({"label_selector": "app=nothing"}, ErrorCode.NOT_FOUND, "app=nothing"),
    ],
)
async def test_logs_that_cannot_be_read(ask: Any, arguments: dict[str, Any], code: ErrorCode, word: str) -> None:
    error = (await ask("get_pod_logs", namespace="shop", **arguments)).error
    assert error.code is code
    assert word in error.message
    assert error.hint


async def test_a_pending_pod_has_no_log_and_says_so(ask: Any) -> None:
    pods = (await ask("get_pods", namespaces=["shop"], problem_only=True)).structured["items"]
    pending = next(row["name"] for row in pods if row["state"] == "Pending")
    error = (await ask("get_pod_logs", namespace="shop", pod=pending)).error
    assert error.code is ErrorCode.NOT_FOUND
    assert "on no node yet" in error.message


async def test_the_resource_lists_the_clusters(ask: Any, caller: Any) -> None:
    reply = await caller.read("k8s", "enterprise://k8s/clusters", identity=identity("viewer"))
    (contents,) = reply.result["contents"]
    (lab,) = json.loads(contents["text"])["clusters"]
    assert (lab["name"], lab["reachable"], lab["default"]) == ("lab", True, True)
    assert lab["version"].startswith("v1.")


async def test_the_prompt_tells_what_stands_there_and_completes_namespaces(ask: Any, caller: Any) -> None:
    who = {"identity": identity("viewer")}
    reply = await caller.prompt("k8s", "triage_namespace", {"namespace": "shop"}, **who)
    text = reply.result["messages"][0]["content"]["text"]
    assert "OOMKilled" in text
    assert "k8s_get_pod_logs" in text
    ref = {"type": "ref/prompt", "name": "triage_namespace"}
    done = await caller.complete("k8s", ref, "namespace", "sho", **who)
    assert done.result["completion"]["values"] == ["shop", "shop-staging"]
    stranger = await caller.complete("k8s", ref, "namespace", "", identity=identity("stranger"))
    assert stranger.result["completion"]["values"] == []
    wrong = await caller.prompt("k8s", "triage_namespace", {"namespace": "shopp"}, **who)
    assert wrong.status is Status.ERROR
    assert wrong.error.did_you_mean[0] == "shop"


READS = {
    "get_pods": "k8s:get",
    "get_deployments": "k8s:get",
    "get_events": "k8s:get",
    "get_resource": "k8s:get",
    "diagnose_workload": "k8s:get",
    "list_clusters": "k8s:get",
    "can_i": "k8s:get",
    "rollout_status": "k8s:get",
    "rollout_history": "k8s:get",
    "get_pod_logs": "k8s:logs",
}


async def test_hints_are_true() -> None:
    tools = build().registry.tools
    for name, tool in tools.items():
        hints, reads = tool.spec.annotations, name in READS
        assert (hints.read_only, hints.destructive, hints.idempotent) == (reads, not reads, reads), name
        assert tool.spec.output_schema
    assert {name: tools[name].spec.permission for name in READS} == READS
    writes = [tool.spec.permission for name, tool in tools.items() if name not in READS]
    assert len(writes) == len(set(writes)) >= 2  # each can be given alone
    assert not set(writes) & set(READS.values())
