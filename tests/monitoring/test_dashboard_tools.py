"""A dashboard summarized and changed in places, before the estate's Grafana; templates against a platform's metrics."""

import asyncio
import copy
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from opsbus import ToolError
from opsbus.metrics import WorkerMetrics
from opsbus_contracts import ErrorCode, Status
from opsbus_edge.metrics import Metrics
from opsbus_monitoring.app import build
from opsbus_monitoring.dashboardpanels import filled, panels_of, variables_of
from opsbus_monitoring.dashboardpatch import PanelPatch, differences, patched
from opsbus_monitoring.expressions import parse, selectors_of
from opsbus_monitoring.settings import MonitoringSettings
from opsbus_monitoring.templates import fill

REASON = "watch the rollback"


def valid(tool: str, structured: Any) -> Any:
    schema = build().registry.tools[tool].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


async def stored(http: aiohttp.ClientSession, estate: Any, uid: str) -> Any:
    async with http.get(f"{estate.grafana}/api/dashboards/uid/{uid}") as answer:
        return None if answer.status == 404 else (await answer.json())["dashboard"]


async def put(http: aiohttp.ClientSession, estate: Any, dashboard: dict[str, Any]) -> None:
    body = {"dashboard": dashboard, "overwrite": True}
    async with http.post(f"{estate.grafana}/api/dashboards/db", json=body) as answer:
        assert answer.status == 200


async def confirmed(ask: Any, **arguments: Any) -> Any:
    error = (await ask("patch_dashboard", **arguments)).error
    assert error.code is ErrorCode.CONFIRMATION_REQUIRED
    reply = await ask("patch_dashboard", **arguments, confirm=error.details["confirm"])
    return valid("patch_dashboard", reply.structured)


def folded() -> dict[str, Any]:
    """With a variable, a folded row, a panel of two queries, one of text, and two of one name."""

    def panel(number: int, title: str, *exprs: str, **more: Any) -> dict[str, Any]:
        targets = [{"refId": "ABC"[index], "expr": expr} for index, expr in enumerate(exprs)]
        return {"id": number, "type": "timeseries", "title": title, "targets": targets, **more}

    return {
        "uid": "folded",
        "title": "Folded",
        "templating": {"list": [{"name": "service", "current": {"value": ["checkout", "cart"]}}]},
        "panels": [
            panel(1, "Requests", 'rate(http_requests_total{service=~"$service"}[$__rate_interval])', custom={"a": 1}),
            {"id": 2, "type": "row", "title": "More", "panels": [panel(3, "Inside", "up"), panel(4, "Twice", "up")]},
            panel(5, "Both", "up", "up == 0"),
            panel(6, "Twice", "nothing_of_this_name"),
            {"id": 7, "type": "text", "title": "Words", "options": {"content": "hello"}},
        ],
    }


async def test_a_summary_has_all_panels_and_how_to_change_them(ask: Any) -> None:
    reply = await ask("get_dashboard_summary", dashboard="shop-red")
    found = valid("get_dashboard_summary", reply.structured)
    assert (found["uid"], found["title"], found["version"]) == ("shop-red", "Shop: rate, errors, duration", 1)
    assert [row["title"] for row in found["items"]] == ["Requests per second", "Share of 5xx", "p99"]
    assert found["items"][2]["unit"] == "s"
    assert "histogram_quantile" in found["items"][2]["exprs"]["A"]
    assert "series" not in found["items"][0]
    assert found["url"].endswith("/d/shop-red/shop-rate-errors-duration")
    assert "3. p99 (timeseries, s) histogram_quantile" in reply.text


async def test_a_summary_by_title_with_what_shows_nothing_first(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    await put(http, estate, folded())
    found = valid(
        "get_dashboard_summary", (await ask("get_dashboard_summary", dashboard="folded ", check=True)).structured
    )
    assert found["variables"] == {"service": "checkout|cart"}
    assert [row["id"] for row in found["items"]] == [6, 1, 3, 4, 5, 7]
    assert found["items"][0]["series"] == 0
    assert found["items"][1]["series"] > 1
    assert "exprs" not in found["items"][-1]
    assert "Twice" in found["warnings"][0]


async def test_a_dashboard_that_is_not_there_is_meant(ask: Any) -> None:
    error = (await ask("get_dashboard_summary", dashboard="shop-rad")).error
    assert (error.code, error.did_you_mean[0]) == (ErrorCode.NOT_FOUND, "shop-red")
    assert (await ask("get_dashboard_summary", dashboard="../../admin")).error.code is ErrorCode.NOT_FOUND


async def test_a_panel_is_changed_one_added_one_removed_and_all_of_it_undone(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    await put(http, estate, folded())
    before = await stored(http, estate, "folded")
    changes: dict[str, Any] = {
        "uid": "folded",
        "reason": REASON,
        "panels": [{"title": "Requests", "unit": "reqps"}, {"title": "New", "expr": "up", "unit": "short"}],
        "remove_panels": ["Inside"],
        "tags": ["shop"],
    }
    planned = valid("patch_dashboard", (await ask("patch_dashboard", **changes, dry_run=True)).structured)
    assert planned["outcome"] == "planned"
    paths = {change["path"] for change in planned["plan"]["changes"]}
    assert paths == {"tags", "panels[Requests].unit", "panels[New]", "panels[Inside]"}
    assert await stored(http, estate, "folded") == before

    made = await confirmed(ask, **changes)
    assert (made["outcome"], made["version"], made["previous_version"]) == ("updated", 2, 1)
    assert made["verified"] is True
    after = await stored(http, estate, "folded")
    assert [panel["title"] for panel in panels_of(after)] == ["Requests", "Twice", "Both", "Twice", "Words", "New"]
    assert after["panels"][0]["custom"] == {"a": 1}
    assert after["panels"][0]["targets"] == before["panels"][0]["targets"]
    assert after["panels"][-1]["id"] == 8
    assert after["templating"] == before["templating"]

    undo = made["undo"]
    assert undo["tool"] == "monitoring_patch_dashboard"
    back = await confirmed(ask, **undo["arguments"])
    assert (back["outcome"], back["version"], back["verified"]) == ("updated", 3, True)
    assert {**await stored(http, estate, "folded"), "version": 1} == before
    async with http.get(f"{estate.grafana}/api/search") as answer:
        assert [hit["title"] for hit in await answer.json()].count("Folded") == 1


async def test_the_same_again_changes_nothing(ask: Any) -> None:
    change = {"uid": "shop-red", "reason": REASON, "panels": [{"title": "p99", "unit": "ms"}]}
    assert (await confirmed(ask, **change))["version"] == 2
    again = (await ask("patch_dashboard", **change)).structured
    assert (again["outcome"], again["version"]) == ("unchanged", 2)


async def test_a_user_who_declines_changes_nothing(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    before = await stored(http, estate, "shop-red")
    can = {"client": {"capabilities": {"elicitation": {}}}}
    change = {"uid": "shop-red", "reason": REASON, "title": "Shop"}
    asked = await ask("patch_dashboard", options=can, **change)
    assert asked.status is Status.INPUT_REQUIRED
    key = next(iter(asked.result["inputRequests"]))
    answer = {"input_responses": {key: {"action": "decline"}}, "request_state": asked.result["requestState"]}
    declined = await ask("patch_dashboard", options=can | answer, **change)
    assert declined.error.code is ErrorCode.DECLINED
    assert await stored(http, estate, "shop-red") == before


async def test_a_change_behind_the_back_voids_the_confirmation(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    change = {"uid": "shop-red", "reason": REASON, "panels": [{"title": "p99", "unit": "ms"}]}
    token = (await ask("patch_dashboard", **change)).error.details["confirm"]
    await put(http, estate, await stored(http, estate, "shop-red"))
    late = (await ask("patch_dashboard", **change, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({}, ErrorCode.INVALID_ARGUMENTS, "nothing to change"),
        ({"panels": [{"title": "p99", "expr": "sum("}]}, ErrorCode.INVALID_ARGUMENTS, "panel 'p99'"),
        ({"panels": [{"title": "p99", "expr": "up{a=~'$who'}"}]}, ErrorCode.INVALID_ARGUMENTS, "no variable who"),
        ({"panels": [{"title": "p98", "unit": "s"}]}, ErrorCode.NOT_FOUND, "no panel"),
        ({"panels": [{"id": 99, "unit": "s"}]}, ErrorCode.NOT_FOUND, "no panel 99"),
        ({"panels": [{"unit": "s"}]}, ErrorCode.INVALID_ARGUMENTS, "title or the id"),
        ({"panels": [{"title": "p99", "ref": "Z", "expr": "up"}]}, ErrorCode.INVALID_ARGUMENTS, "no query 'Z'"),
        ({"panels": [{"title": "p99", "colour": "red"}]}, ErrorCode.INVALID_ARGUMENTS, "colour"),
        ({"remove_panels": ["p98"]}, ErrorCode.NOT_FOUND, "no panel"),
        ({"title": "Nodes: utilisation"}, ErrorCode.CONFLICT, "nodes-use"),
        ({"restore_version": 9}, ErrorCode.NOT_FOUND, "no version 9"),
        ({"restore_version": 1, "title": "x"}, ErrorCode.INVALID_ARGUMENTS, "alone"),
        ({"title": "x", "expected_version": 7}, ErrorCode.PRECONDITION_FAILED, "version"),
        ({"title": "x", "uid": "shop-rad"}, ErrorCode.NOT_FOUND, "shop-rad"),
        ({"title": "x", "confirm": "made-up-token-made-up"}, ErrorCode.PRECONDITION_FAILED, "confirmation"),
    ],
)
async def test_what_is_not_changed(
    ask: Any, estate: Any, http: aiohttp.ClientSession, arguments: dict[str, Any], code: ErrorCode, word: str
) -> None:
    before = await stored(http, estate, "shop-red")
    reply = await ask("patch_dashboard", **({"uid": "shop-red", "reason": REASON} | arguments))
    assert reply.error.code is code
    assert word in reply.error.message
    assert reply.executed == "no"
    assert await stored(http, estate, "shop-red") == before


async def test_a_change_is_told_to_the_bus(ask: Any, bus: Any) -> None:
    client = await bus.connect("operator")
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def keep(msg: Any) -> None:
        heard.put_nowait(msg.subject)

    await client.subscribe("event.monitoring.>", cb=keep)
    await client.flush()
    await confirmed(ask, uid="shop-red", reason=REASON, tags=["shop"])
    async with asyncio.timeout(30):
        subjects = {await heard.get(), await heard.get()}
    assert subjects == {"event.monitoring.dashboard_saved", "event.monitoring.resource_updated"}


async def test_a_replaced_dashboard_is_taken_back_by_its_undo(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    before = await stored(http, estate, "shop-red")
    new = {"title": before["title"], "uid": "shop-red", "panels": [{"title": "Up", "expr": "up"}], "reason": REASON}
    token = (await ask("create_dashboard", **new)).error.details["confirm"]
    made = valid("create_dashboard", (await ask("create_dashboard", **new, confirm=token)).structured)
    assert made["outcome"] == "updated"
    back = await confirmed(ask, **made["undo"]["arguments"])
    assert back["verified"] is True
    assert {**await stored(http, estate, "shop-red"), "version": 1} == before


async def test_a_plan_of_many_long_changes_stays_within_the_budget(
    ask: Any, estate: Any, http: aiohttp.ClientSession
) -> None:
    known = folded()
    long = "up" + " + up" * 700
    known["panels"] += [
        {"id": 100 + index, "type": "stat", "title": f"Long {index}", "targets": [{"refId": "A", "expr": long}]}
        for index in range(15)
    ]
    await put(http, estate, known)
    names = [f"Long {index}" for index in range(15)]
    reply = await ask("patch_dashboard", uid="folded", reason=REASON, remove_panels=names, dry_run=True)
    plan = valid("patch_dashboard", reply.structured)["plan"]
    assert 1 <= len(plan["changes"]) < 15
    assert any("more changes are too long" in warning for warning in plan["warnings"])


async def test_a_workload_template_shows_the_workload(ask: Any) -> None:
    arguments = {"template": "workload", "variables": {"namespace": "shop", "workload": "checkout"}, "reason": REASON}
    found = (await ask("create_dashboard", **arguments, dry_run=True)).structured
    assert found["title"] == "Workload shop/checkout"
    assert [panel["series"] > 0 for panel in found["panels"]] == [True] * 6


async def test_the_use_template_has_all_three_letters(ask: Any) -> None:
    found = (await ask("create_dashboard", template="nodes_use", reason=REASON, dry_run=True)).structured
    titles = " ".join(panel["title"] for panel in found["panels"])
    assert all(word in titles for word in ("busy", "used", "saturation", "errors"))
    assert [panel["series"] > 0 for panel in found["panels"][:3]] == [True] * 3


def test_the_platform_template_asks_for_metrics_that_the_platform_has() -> None:
    registries = [Metrics().registry, WorkerMetrics("demo", "1.0.0").registry]
    known = {sample for registry in registries for sample in registry._names_to_collectors}
    _, panels = fill("platform", {}, MonitoringSettings())
    asked = {selector.metric for panel in panels for selector in selectors_of(parse(panel.expr))}
    assert len(asked) >= 8
    assert asked <= known


def test_a_panel_of_several_queries_or_names_must_be_told_apart() -> None:
    for patch, word in (
        (PanelPatch(title="Both", expr="up"), "2 queries"),
        (PanelPatch(title="Twice", unit="s"), "id: 4, 6"),
        (PanelPatch(title="Words", legend="x"), "no PromQL"),
    ):
        with pytest.raises(ToolError) as refusal:
            patched(folded(), [patch], [], None, None, "prom")
        assert word in f"{refusal.value.message} {refusal.value.hint}"
    after = patched(folded(), [PanelPatch(title="Both", ref="B", expr="up == 1"), PanelPatch(id=4, unit="s")], [],
                    None, None, "prom")  # fmt: skip
    assert {change.path for change in differences(folded(), after)} == {"panels[Both].queries", "panels[Twice].unit"}


def test_a_library_panel_is_not_changed_here() -> None:
    known = folded()
    known["panels"][0]["libraryPanel"] = {"uid": "x"}
    with pytest.raises(ToolError) as refusal:
        patched(known, [PanelPatch(title="Requests", unit="s")], [], None, None, "prom")
    assert "library" in refusal.value.message


def test_new_panels_lie_below_and_beside_without_overlap() -> None:
    known: dict[str, Any] = {"uid": "x", "title": "x", "panels": []}
    for number in range(5):
        known = patched(known, [PanelPatch(title=f"p{number}", expr="up")], [], None, None, "prom")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in known["panels"]]
    assert places == [(0, 0), (12, 0), (0, 8), (12, 8), (0, 16)]
    assert [panel["id"] for panel in known["panels"]] == [1, 2, 3, 4, 5]


def test_patching_leaves_its_argument_alone() -> None:
    known = folded()
    kept = copy.deepcopy(known)
    patched(known, [PanelPatch(title="Requests", unit="s")], ["Inside"], "t", ["x"], "prom")
    assert known == kept


@pytest.mark.parametrize(
    ("expr", "whole", "unknown"),
    [
        ('up{a="$service"}', 'up{a="checkout|cart"}', []),
        ('up{a="${service}"}', 'up{a="checkout|cart"}', []),
        ('up{a=~"${service:regex}"}', 'up{a=~"checkout|cart"}', []),
        ('up{a="[[service]]"}', 'up{a="checkout|cart"}', []),
        ("rate(x[$__rate_interval])", "rate(x[5m])", []),
        ('up{a=~"x$"}', 'up{a=~"x$"}', []),
        ("up{a='$other'}", "up{a='$other'}", ["other"]),
    ],
)
def test_variables_are_filled_as_grafana_does(expr: str, whole: str, unknown: list[str]) -> None:
    assert filled(expr, variables_of(folded())) == (whole, unknown)


@pytest.mark.parametrize("odd", [{}, {"panels": None}, {"panels": [None, 3, {"panels": "x"}]}, {"templating": None}])
def test_odd_dashboards_are_read(odd: dict[str, Any]) -> None:
    assert all(isinstance(panel, dict) for panel in panels_of(odd))
    assert variables_of(odd) == {}
