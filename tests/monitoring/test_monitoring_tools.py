"""The monitoring tools on the bus, over the estate's APIs: answers, findings, refusals, and missing backends."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from opsbus_contracts import ErrorCode, Status
from opsbus_monitoring.app import build

from .conftest import all_pages

CHECKOUT = 'sum(rate(http_requests_total{namespace="shop",service="checkout"}[5m]))'


def valid(tool: str, structured: Any) -> Any:
    schema = build().registry.tools[tool].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


async def test_a_range_is_a_few_numbers_per_series(ask: Any) -> None:
    reply = await ask("query_metrics", expr='sum by (service) (rate(http_requests_total{namespace="shop"}[5m]))')
    found = valid("query_metrics", reply.structured)
    assert (found["kind"], found["step_s"], found["page"]["total"]) == ("matrix", 60.0, 5)
    rows = found["items"]
    assert [row["max"] for row in rows] == sorted((row["max"] for row in rows), reverse=True)
    for row in rows:
        assert row["min"] <= row["avg"] <= row["max"]
        assert row["points"] + row["missing"] == 61
        assert len(row["sparkline"]) == 24
        assert "values" not in row
    assert rows[0]["sparkline"] in reply.text


async def test_points_are_given_on_demand(ask: Any) -> None:
    found = (await ask("query_metrics", expr=CHECKOUT, reduce="points", max_points=10)).structured
    (row,) = found["items"]
    assert len(row["values"]) == 7
    assert found["step_s"] == 600.0


async def test_an_instant_query(ask: Any) -> None:
    found = valid("query_metrics", (await ask("query_metrics", expr="up", start="now")).structured)
    assert found["kind"] == "vector"
    assert all(row["last"] in (0, 1) and "sparkline" not in row for row in found["items"])
    scalar = (await ask("query_metrics", expr="1 / 0 * 0", start="now")).structured
    assert scalar["items"][0]["last"] is None
    text = valid("query_metrics", (await ask("query_metrics", expr='"hello"', start="now")).structured)
    assert text["text"] == "hello"


@pytest.mark.parametrize(
    ("expr", "reason", "meant"),
    [
        ("http_request_total", "no metric http_request_total", "http_requests_total"),
        ('http_requests_total{service="chekout"}', 'service="chekout" excludes', "checkout"),
        ('http_requests_total{colour="red"}', "no label colour", None),
        ('http_requests_total{service="cart",namespace="payments"}', "together have none", None),
        ("kube_deployment_spec_replicas > 1000", "passes the comparison", None),
        ("kube_deployment_spec_replicas * http_requests_total", "no two have the same labels", None),
    ],
)
async def test_an_empty_answer_says_why(ask: Any, expr: str, reason: str, meant: str | None) -> None:
    reply = await ask("query_metrics", expr=expr)
    found = valid("query_metrics", reply.structured)
    assert found["items"] == []
    assert reason in found["empty"][0]["reason"]
    assert reason in reply.text
    if meant:
        assert found["empty"][0]["did_you_mean"][0] == meant


async def test_a_range_shorter_than_the_scrapes_is_found(ask: Any) -> None:
    found = (await ask("query_metrics", expr="rate(http_requests_total[10s])", start="now-2h", end="now-1h")).structured
    assert found["items"] == []
    assert "[10s] is shorter than two scrapes" in found["empty"][0]["reason"]
    assert "Use at least [" in found["empty"][0]["hint"]


async def test_too_many_series_come_with_the_way_to_fewer(ask: Any) -> None:
    found = valid(
        "query_metrics",
        (await ask("query_metrics", expr="container_memory_working_set_bytes", max_series=5)).structured,
    )
    assert len(found["items"]) == 5
    assert found["page"] == {"returned": 5, "total": 44, "next_cursor": None, "truncated": True}
    assert found["overload"]["series"] == 44
    assert found["overload"]["cardinality"]["pod"] > 40
    assert found["common_labels"] == {"__name__": "container_memory_working_set_bytes"}
    for expr in found["overload"]["rewrites"]:
        assert (await ask("query_metrics", expr=expr, start="now")).structured["items"]


async def test_many_points_stay_within_the_budget(ask: Any) -> None:
    reply = await ask(
        "query_metrics", expr="container_memory_working_set_bytes", max_series=100, max_points=1000, reduce="points"
    )
    found = reply.structured
    assert len(json.dumps(found)) < 26_000
    assert found["page"]["truncated"] is True
    assert any("left out" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"expr": "sum("}, "parse error"),
        ({"expr": "http_requests_total[5m]"}, "instant Vector"),
        ({"expr": "up", "start": "now", "end": "now-1h"}, "after"),
        ({"expr": "up", "start": "someday"}, "someday"),
        ({"expr": "up", "step": "0"}, "step"),
        ({"expr": ""}, "expr"),
        ({"expr": "up", "max_points": 1}, "max_points"),
        ({"expr": "up", "reduce": "all"}, "reduce"),
        ({"query": "up"}, "query"),
    ],
)
async def test_what_is_not_queried(ask: Any, arguments: dict[str, Any], word: str) -> None:
    error = (await ask("query_metrics", **arguments)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert word in error.message
    assert error.hint


async def test_alerts_the_gravest_first(ask: Any) -> None:
    reply = await ask("get_alerts")
    found = valid("get_alerts", reply.structured)
    first = found["items"][0]
    assert (first["name"], first["severity"], first["state"]) == ("CheckoutHighErrorRate", "critical", "firing")
    assert first["runbook"].startswith("https://runbooks.")
    assert first["age_s"] > 600
    inhibited = next(row for row in found["items"] if row["state"] == "inhibited")
    assert inhibited["inhibited_by"] == ["CheckoutHighErrorRate"]
    assert "critical" in reply.text


async def test_alerts_by_group_matcher_and_severity(ask: Any) -> None:
    found = valid("get_alerts", (await ask("get_alerts", group_by=["alertname", "namespace"])).structured)
    assert found["groups"][0]["labels"] == {"alertname": "CheckoutHighErrorRate", "namespace": "shop"}
    assert sum(group["total"] for group in found["groups"]) == found["page"]["total"]
    shop = (await ask("get_alerts", matchers=['namespace=~"sh.p"', 'alertname!="KubePodNotReady"'])).structured
    assert shop["items"]
    assert all(row["labels"]["namespace"] == "shop" and row["name"] != "KubePodNotReady" for row in shop["items"])
    critical = (await ask("get_alerts", severity=["critical"])).structured
    assert {row["severity"] for row in critical["items"]} == {"critical"}
    none = await ask("get_alerts", matchers=['namespace="nowhere"'])
    assert none.structured["items"] == []
    assert "No alerts." in none.text


async def test_alerts_in_pages(ask: Any) -> None:
    seen, whole = await all_pages(ask, "get_alerts", "fingerprint", limit=2)
    assert len(seen) == len(set(seen)) == whole["page"]["total"]
    assert (await ask("get_alerts", cursor="x")).error.code is ErrorCode.INVALID_ARGUMENTS
    assert (await ask("get_alerts", matchers=["severity"])).error.code is ErrorCode.INVALID_ARGUMENTS
    assert (await ask("get_alerts", state=["loud"])).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_a_silence_is_named(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    silence = {
        "matchers": [{"name": "alertname", "value": "CheckoutHighErrorRate", "isRegex": False, "isEqual": True}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "ann",
        "comment": "rolling back",
    }
    async with http.post(f"{estate.alertmanager}/api/v2/silences", json=silence) as answer:
        key = (await answer.json())["silenceID"]
    try:
        rows = (await ask("get_alerts", state=["silenced"])).structured["items"]
    finally:
        await (await http.delete(f"{estate.alertmanager}/api/v2/silence/{key}")).release()
    assert [row["name"] for row in rows] == ["CheckoutHighErrorRate"]
    (told,) = rows[0]["silenced_by"]
    assert (told["created_by"], told["comment"]) == ("ann", "rolling back")


async def test_health_of_a_service(ask: Any) -> None:
    reply = await ask("health_check", service="checkout", namespace="shop")
    found = valid("health_check", reply.structured)
    assert found["state"] == "unhealthy"
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["errors"]["state"] == "unhealthy"
    assert "5xx" in checks["errors"]["reason"]
    assert "CheckoutHighErrorRate" in checks["alerts"]["reason"]
    assert (await ask("health_check", service="ledger")).structured["state"] == "healthy"
    missing = (await ask("health_check", service="chekout")).error
    assert (missing.code, missing.did_you_mean) == (ErrorCode.NOT_FOUND, ["checkout"])
    assert (await ask("health_check", service='x"} or up{a="')).error.code is ErrorCode.NOT_FOUND
    assert (await ask("health_check", namespace="shop")).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_health_of_the_monitoring(ask: Any) -> None:
    found = valid("health_check", (await ask("health_check", scope="systems")).structured)
    assert found["state"] == "healthy"
    assert {check["name"] for check in found["checks"]} == {"Prometheus", "Alertmanager", "Grafana"}
    assert all(check["latency_ms"] >= 0 and check["version"] for check in found["checks"])


DASHBOARD = {
    "title": "Checkout",
    "panels": [{"title": "Requests", "expr": CHECKOUT, "unit": "reqps"}],
    "reason": "watch the rollback",
}


async def confirmed(ask: Any, **arguments: Any) -> Any:
    error = (await ask("create_dashboard", **arguments)).error
    assert error.code is ErrorCode.CONFIRMATION_REQUIRED
    return valid(
        "create_dashboard", (await ask("create_dashboard", **arguments, confirm=error.details["confirm"])).structured
    )


async def stored(http: aiohttp.ClientSession, estate: Any, uid: str) -> dict[str, Any] | None:
    async with http.get(f"{estate.grafana}/api/dashboards/uid/{uid}") as answer:
        return None if answer.status == 404 else (await answer.json())["dashboard"]


async def test_a_dashboard_is_planned_created_updated_and_never_cloned(
    ask: Any, estate: Any, http: aiohttp.ClientSession, caller: Any
) -> None:
    plan = valid("create_dashboard", (await ask("create_dashboard", **DASHBOARD, dry_run=True)).structured)
    assert plan["outcome"] == "planned"
    assert await stored(http, estate, "checkout") is None
    made = await confirmed(ask, **DASHBOARD)
    assert (made["outcome"], made["uid"], made["version"]) == ("created", "checkout", 1)
    assert made["url"].endswith("/d/checkout/checkout")
    again = (await ask("create_dashboard", **DASHBOARD)).structured
    assert again["outcome"] == "unchanged"
    more = {**DASHBOARD, "panels": [*DASHBOARD["panels"], {"title": "Up", "expr": "up"}]}  # type: ignore[misc]
    updated = await confirmed(ask, **more)
    assert (updated["outcome"], updated["version"], updated["previous_version"]) == ("updated", 2, 1)
    kept = await stored(http, estate, "checkout")
    assert kept is not None
    assert [panel["title"] for panel in kept["panels"]] == ["Requests", "Up"]
    index = await caller.read("monitoring", "enterprise://monitoring/dashboards")
    titles = [item["title"] for item in json.loads(index.result["contents"][0]["text"])["dashboards"]]
    assert titles.count("Checkout") == 1


async def test_a_user_is_asked_before_a_dashboard_is_saved(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    can = {"client": {"capabilities": {"elicitation": {}}}}
    asked = await ask("create_dashboard", options=can, **DASHBOARD)
    assert asked.status is Status.INPUT_REQUIRED
    key = next(iter(asked.result["inputRequests"]))
    answer = {"input_responses": {key: {"action": "decline"}}, "request_state": asked.result["requestState"]}
    declined = await ask("create_dashboard", options=can | answer, **DASHBOARD)
    assert declined.error.code is ErrorCode.DECLINED
    assert await stored(http, estate, "checkout") is None


async def test_a_template_is_filled(ask: Any) -> None:
    template = {"template": "service_red", "variables": {"service": "checkout"}, "reason": "see it", "dry_run": True}
    found = (await ask("create_dashboard", **template)).structured
    assert found["title"] == "Service checkout: rate, errors, duration"
    assert [panel["series"] for panel in found["panels"]] == [1, 1, 1, 1]
    unknown = {**template, "variables": {"service": "nobody"}}
    warnings = (await ask("create_dashboard", **unknown)).structured["plan"]["warnings"]
    assert any("shows nothing now" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"panels": [{"title": "a", "expr": "sum("}]}, ErrorCode.INVALID_ARGUMENTS, "panel 'a'"),
        ({"panels": [{"title": "a", "expr": "up"}] * 2}, ErrorCode.INVALID_ARGUMENTS, "more than one"),
        ({"panels": [{"title": "a", "expr": "up", "color": "red"}]}, ErrorCode.INVALID_ARGUMENTS, "color"),
        ({"panels": []}, ErrorCode.INVALID_ARGUMENTS, "panels"),
        ({"panels": None}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
        ({"template": "service_red"}, ErrorCode.INVALID_ARGUMENTS, "exactly one"),
        ({"title": None}, ErrorCode.INVALID_ARGUMENTS, "title"),
        ({"uid": "../admin"}, ErrorCode.INVALID_ARGUMENTS, "uid"),
        ({"folder": "Nowhere"}, ErrorCode.NOT_FOUND, "Nowhere"),
        ({"title": "shop: rate, errors, duration"}, ErrorCode.CONFLICT, "shop-red"),
        ({"expected_version": 7}, ErrorCode.PRECONDITION_FAILED, "version"),
        ({"confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
    ],
)
async def test_what_is_not_saved(
    ask: Any, estate: Any, http: aiohttp.ClientSession, arguments: dict[str, Any], code: ErrorCode, word: str
) -> None:
    reply = await ask("create_dashboard", **(DASHBOARD | arguments))
    assert reply.error.code is code
    assert word in reply.error.message
    assert reply.executed == "no"
    assert await stored(http, estate, "checkout") is None


async def test_a_change_behind_the_back_voids_the_confirmation(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    await confirmed(ask, **DASHBOARD)
    more = {**DASHBOARD, "panels": [{"title": "Up", "expr": "up"}]}
    token = (await ask("create_dashboard", **more)).error.details["confirm"]
    kept = await stored(http, estate, "checkout")
    body = {"dashboard": kept, "overwrite": True}
    async with http.post(f"{estate.grafana}/api/dashboards/db", json=body) as answer:
        assert answer.status == 200
    late = (await ask("create_dashboard", **more, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED


async def test_somebody_elses_dashboard_is_changed_with_a_warning(ask: Any) -> None:
    mine = {**DASHBOARD, "uid": "shop-red", "title": "Shop: rate, errors, duration", "dry_run": True}
    plan = (await ask("create_dashboard", **mine)).structured["plan"]
    assert any("somebody's hands" in warning for warning in plan["warnings"])


async def test_saving_tells_the_bus(ask: Any, bus: Any) -> None:
    client = await bus.connect("operator")
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def keep(msg: Any) -> None:
        heard.put_nowait(msg.subject)

    await client.subscribe("event.monitoring.>", cb=keep)
    await client.flush()
    await confirmed(ask, **DASHBOARD)
    async with asyncio.timeout(30):
        subjects = {await heard.get(), await heard.get()}
    assert subjects == {"event.monitoring.dashboard_saved", "event.monitoring.resource_updated"}


async def test_a_worker_without_backends_says_what_to_set(run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), prometheus_url="", alertmanager_url="", grafana_url=""):
        for tool, arguments, setting in (
            ("query_metrics", {"expr": "up"}, "PROMETHEUS_URL"),
            ("get_alerts", {}, "ALERTMANAGER_URL"),
            ("create_dashboard", DASHBOARD, "GRAFANA_URL"),
        ):
            reply = await caller.call("monitoring", tool, arguments)
            assert reply.error.code is ErrorCode.BACKEND_UNAVAILABLE
            assert setting in reply.error.hint
            assert reply.error.retryable is False
            assert reply.executed == "no"
        health = (await caller.call("monitoring", "health_check", {})).structured
        assert health["state"] == "unknown"


async def test_one_missing_backend_does_not_take_the_others_away(estate: Any, run_worker: Any, caller: Any) -> None:
    where = {"alertmanager_url": "http://127.0.0.1:1", "grafana_url": ""}
    async with run_worker(build(), **(estate.settings | where)):
        alerts = (await caller.call("monitoring", "get_alerts", {})).structured
        assert any("silences and inhibitions are not known" in warning for warning in alerts["warnings"])
        assert any(row["name"] == "CheckoutHighErrorRate" for row in alerts["items"])
        health = (await caller.call("monitoring", "health_check", {"scope": "systems"})).structured
        states = {check["name"]: check["state"] for check in health["checks"]}
        assert states == {"Prometheus": "healthy", "Alertmanager": "unhealthy", "Grafana": "unknown"}


async def test_a_flood_is_measured_and_not_read(run_worker: Any, caller: Any) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        expr = str(form.get("query", ""))
        if request.path.endswith("query_range"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for _ in range(300):
                await response.write(b" " * 65_536)
            return response
        if expr.startswith("topk"):
            result = [{"metric": {"pod": "a", "zone": "z"}, "value": [0, "1"]}]
        else:
            counts = {"count(flood)": "90000", "count(count by (pod) (flood))": "90000"}
            result = [{"metric": {}, "value": [0, counts.get(expr, "3")]}]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with run_worker(build(), prometheus_url=f"http://127.0.0.1:{runner.addresses[0][1]}"):
            found = (await caller.call("monitoring", "query_metrics", {"expr": "flood"})).structured
    finally:
        await runner.cleanup()
    assert found["items"] == []
    assert found["overload"] == {
        "series": 90000,
        "cardinality": {"pod": 90000, "zone": 3},
        "rewrites": ["topk(20, flood)", "sum by (zone) (flood)"],
    }


async def test_hints_and_permissions_are_true() -> None:
    tools = build().registry.tools
    expected = {
        "query_metrics": ("metrics:query", True),
        "capacity_report": ("metrics:query", True),
        "find_metrics": ("metrics:query", True),
        "describe_metric": ("metrics:query", True),
        "get_targets": ("metrics:query", True),
        "get_rules": ("alerts:read", True),
        "get_alerts": ("alerts:read", True),
        "health_check": ("health:read", True),
        "create_dashboard": ("dashboards:write", False),
        "get_dashboard_summary": ("metrics:query", True),
        "patch_dashboard": ("dashboards:write", False),
        "list_silences": ("alerts:read", True),
        "create_silence": ("alerts:silence", False),
        "expire_silence": ("alerts:silence", False),
    }
    assert {name: (tool.spec.permission, tool.spec.annotations.read_only) for name, tool in tools.items()} == expected
    assert all(tool.spec.output_schema for tool in tools.values())
