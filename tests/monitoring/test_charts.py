"""Charts: units, thresholds, names and pictures as such; then monitoring_query_metrics with chart=true on the bus."""

import base64
import gc
import math
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from PIL import Image

from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build
from opsbus_monitoring.chartmodels import ALARM, COLORS, Chart, Line
from opsbus_monitoring.charts import draw
from opsbus_monitoring.prometheus import Series
from opsbus_monitoring.thresholds import Threshold, from_rules, merged, split_comparison
from opsbus_monitoring.tool_query_chart import names_of
from opsbus_monitoring.units import guess_unit, in_unit

NOW = 1_800_000_000.0
ERRORS = (
    'sum by (namespace, service) (rate(http_requests_total{code=~"5..",service="checkout"}[5m]))'
    ' / sum by (namespace, service) (rate(http_requests_total{service="checkout"}[5m]))'
)


def valid(structured: Any) -> Any:
    schema = build().registry.tools["query_metrics"].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


def picture(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG")
    opened = Image.open(BytesIO(png))
    opened.load()
    return opened.convert("RGB")


def has(image: Image.Image, color: str, least: int = 40) -> bool:
    """Whether so many pixels have nearly the colour."""
    wanted = tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
    counts = image.getcolors(1 << 24) or []
    near = (count for count, seen in counts if all(abs(a - b) < 24 for a, b in zip(seen, wanted, strict=True)))
    return sum(near) >= least


def wave(n: int, scale: float = 1.0) -> list[tuple[float, float | None]]:
    return [(NOW + 60 * i, scale * (2 + math.sin(i / 9 + n))) for i in range(61)]


def chart(lines: list[Line], **more: Any) -> Chart:
    given: dict[str, Any] = {"title": "t", "subtitle": "s", "unit": "short", "start": NOW, "end": NOW + 3_600}
    return Chart(lines=lines, step_s=60.0, **(given | more))


@pytest.mark.parametrize(
    ("expr", "unit"),
    [
        ("container_memory_working_set_bytes", "bytes"),
        ("sum(rate(node_network_receive_bytes_total[5m]))", "Bps"),
        ("sum by (service) (rate(http_requests_total[5m]))", "reqps"),
        (ERRORS, "percentunit"),
        ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "percentunit"),
        ("histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))", "s"),
        ("histogram_quantile(0.99, sum by (le) (rate(response_size_bytes_bucket[5m])))", "bytes"),
        ("rate(x_seconds_sum[5m]) / rate(x_seconds_count[5m])", "s"),
        ("sum(rate(container_cpu_usage_seconds_total[5m]))", "short"),
        ("node_load1", "short"),
        ("process_start_time_seconds", "s"),
        ("cache_hit_ratio", "percentunit"),
        ('up{job="x_bytes"}', "short"),
        ("", "short"),
    ],
)
def test_the_unit_is_guessed_from_names(expr: str, unit: str) -> None:
    assert guess_unit(expr) == unit


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1536.0, "bytes", "1.5 KiB"),
        (1024.0**3, "bytes", "1 GiB"),
        (1023.9, "bytes", "1 KiB"),
        (-2048.0, "Bps", "-2 KiB/s"),
        (0.0042, "s", "4.2 ms"),
        (7.5e-6, "s", "7.5 µs"),
        (90.0, "s", "1.5 min"),
        (0.0, "s", "0 s"),
        (0.999, "percentunit", "99.9%"),
        (42.0, "percent", "42%"),
        (1234.0, "reqps", "1.23k/s"),
        (1_000_000.0, "short", "1M"),
        (1e30, "short", "1000000000000000P"),
        (None, "short", "-"),
        (math.nan, "s", "-"),
        (math.inf, "bytes", "-"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, unit: Any, text: str) -> None:
    assert in_unit(value, unit) == text


def test_thresholds_are_in_the_expression_and_in_the_rules() -> None:
    assert split_comparison("a / b > 0.5") == ("a / b", Threshold(0.5, ">"))
    assert split_comparison("10 >= up") == ("up", Threshold(10.0, "<="))
    assert split_comparison("a < -1") == ("a", Threshold(-1.0, "<"))
    assert split_comparison("a == 1") is split_comparison("a > b") is split_comparison("a") is None
    assert split_comparison("(((") is None
    rules = [
        {"name": "High", "query": "sum(rate( a[5m] ))  >  5"},
        {"name": "Other", "query": "sum(rate(b[5m])) > 7"},
        {"name": "Odd", "query": "((("},
        {},
    ]
    assert from_rules("sum(rate(a[5m]))", rules) == [Threshold(5.0, ">", "High")]
    assert from_rules("sum(rate(a[5m])) > 3", rules) == [Threshold(5.0, ">", "High")]
    lines = merged([Threshold(float(n)) for n in range(9)], [Threshold(0.0, ">", "late")])
    assert [line.value for line in lines] == [0, 1, 2, 3, 4, 5]
    assert lines[0].label == ""


def test_series_are_named_by_what_tells_them_apart() -> None:
    def of(*labels: dict[str, str]) -> list[str]:
        return names_of([Series(one, []) for one in labels])

    assert of({"__name__": "up", "job": "a"}) == ["up"]
    assert of({}) == ["value"]
    assert of({"job": "a", "x": "1"}) == ["job=a, x=1"]
    assert of({"job": "a", "pod": "a-1"}, {"job": "a", "pod": "a-2"}) == ["a-1", "a-2"]
    assert of({"job": "a"}, {}) == ["a", "no job"]
    two = ({"ns": "a", "svc": "x"}, {"ns": "b", "svc": "x"}, {"ns": "a", "svc": "y"})
    assert of(*two) == ["ns=a, svc=x", "ns=b, svc=x", "ns=a, svc=y"]
    assert of({"__name__": "a"}, {"__name__": "b"}) == ["a", "b"]


def test_lines_thresholds_and_legend_are_in_the_picture() -> None:
    lines = [Line(f"series {n}", wave(n)) for n in range(3)]
    plain = picture(draw(chart(lines)))
    assert plain.width == 1_200
    assert all(has(plain, color) for color in COLORS[:3])
    assert not has(plain, COLORS[3])
    assert not has(plain, ALARM)
    lined = picture(draw(chart(lines, thresholds=[Threshold(2.5, ">", "High")])))
    assert lined.size == plain.size
    assert has(lined, ALARM, 300)
    more = picture(draw(chart([Line(f"series {n}", wave(n)) for n in range(30)])))
    assert more.height > plain.height
    assert has(more, COLORS[9])


HARD: dict[str, list[Line]] = {
    "math in a label": [Line("$\\frac{x$ _{ \n\t {}", wave(1)), Line("$$", wave(2))],
    "long labels": [Line("x" * 5_000, wave(1)), Line("日本語 🚀", wave(2))],
    "one point": [Line("a", [(NOW + 60, 3.0)])],
    "a constant": [Line("a", [(NOW + 60 * i, 7.0) for i in range(9)])],
    "zeros": [Line("a", [(NOW + 60 * i, 0.0) for i in range(9)])],
    "gaps": [Line("a", [(NOW, 1.0), (NOW + 60, None), (NOW + 600, 2.0), (NOW + 3_600, 3.0)])],
    "negative": [Line("a", wave(1, -5.0)), Line("b", wave(1, 5.0))],
    "far from zero": [Line("a", [(NOW + 60 * i, 1e12 + i) for i in range(9)])],
    "tiny": [Line("a", [(NOW + 60 * i, 1e-300 * i) for i in range(9)])],
    "large": [Line("a", [(NOW + 60 * i, 1e300 * i) for i in range(9)])],
}


@pytest.mark.parametrize(
    ("name", "unit"), [(name, ("short", "bytes", "s")[number % 3]) for number, name in enumerate(HARD)]
)
def test_hard_series_are_drawn(name: str, unit: str) -> None:
    lines = HARD[name]
    marks = [Threshold(2.0, ">", "$a_{"), Threshold(-1e9, "<"), Threshold(1e15)]
    for more in ({}, {"start": NOW + 60, "end": NOW + 60}):
        png = draw(chart(lines, unit=unit, title="$\\bad{" * 40, thresholds=marks, **more))
        assert has(picture(png), COLORS[0], 5) or more


async def test_a_chart_comes_with_the_numbers(ask: Any) -> None:
    reply = await ask("query_metrics", expr=ERRORS, start="now-3h", chart=True, title="checkout: failed requests")
    found = valid(reply.structured)
    assert found["chart"]["unit"] == "percentunit"
    assert found["chart"]["thresholds"] == [{"value": 0.05, "op": ">", "rule": "CheckoutHighErrorRate"}]
    assert found["chart"]["series"] == len(found["items"]) == 2
    text, image = reply.result["content"]
    assert "Threshold > 0.05 CheckoutHighErrorRate" in text["text"]
    assert (image["type"], image["mimeType"]) == ("image", "image/png")
    shown = picture(base64.b64decode(image["data"]))
    assert has(shown, ALARM, 300)
    assert has(shown, COLORS[0])
    assert len(reply.body) < 300_000


async def test_many_series_and_bars(ask: Any) -> None:
    many = await ask("query_metrics", expr="container_memory_working_set_bytes", chart=True, max_series=30)
    assert (many.structured["chart"]["series"], many.structured["chart"]["unit"]) == (30, "bytes")
    assert len(many.body) < 400_000
    bars = await ask(
        "query_metrics", expr="topk(5, http_requests_total)", start="now", chart=True, unit="short", thresholds=[1, 2.5]
    )
    assert valid(bars.structured)["chart"]["thresholds"] == [{"value": 1.0}, {"value": 2.5}]
    assert picture(base64.b64decode(bars.result["content"][1]["data"])).width == 1_200
    compared = await ask("query_metrics", expr="kube_deployment_spec_replicas > 1", chart=True)
    assert compared.structured["chart"]["thresholds"] == [{"value": 1.0, "op": ">"}]
    assert any("pass the comparison" in warning for warning in compared.structured["warnings"])
    scalar = await ask("query_metrics", expr="scalar(vector(3))", start="now", chart=True)
    assert scalar.structured["chart"]["series"] == 1


@pytest.mark.parametrize("expr", ["no_such_metric", '"text"', "vector(1) / 0 * 0"])
async def test_nothing_to_draw_is_said(ask: Any, expr: str) -> None:
    reply = await ask("query_metrics", expr=expr, start="now", chart=True)
    assert [block["type"] for block in reply.result["content"]] == ["text"]
    assert any("no chart" in warning for warning in valid(reply.structured)["warnings"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"title": "x"}, "chart"),
    ({"thresholds": [1]}, "chart"),
    ({"chart": True, "unit": "furlong"}, "unit"),
    ({"chart": True, "thresholds": ["NaN"]}, "thresholds"),
    ({"chart": True, "thresholds": [1] * 6}, "thresholds"),
    ({"chart": "maybe"}, "chart"),
]


async def test_what_is_not_drawn(ask: Any) -> None:
    for arguments, word in WRONG:
        error = (await ask("query_metrics", expr="up", **arguments)).error
        assert error.code is ErrorCode.INVALID_ARGUMENTS, arguments
        assert word in error.message, arguments


async def test_a_chart_of_a_real_prometheus(prometheus_url: str, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), prometheus_url=prometheus_url, alertmanager_url="", grafana_url=""):
        reply = await caller.call(
            "monitoring", "query_metrics", {"expr": "go_memstats_heap_inuse_bytes or vector(1)", "chart": True}
        )
    assert reply.structured["chart"]["unit"] == "bytes"
    assert picture(base64.b64decode(reply.result["content"][1]["data"])).width == 1_200


def test_drawing_many_times_keeps_no_pictures() -> None:
    given = chart([Line(f"series {n}", wave(n)) for n in range(3)])
    draw(given)
    gc.collect()
    before = sum(type(thing).__name__ == "Figure" for thing in gc.get_objects())
    for _ in range(3):
        draw(given)
    gc.collect()
    assert sum(type(thing).__name__ == "Figure" for thing in gc.get_objects()) <= before


async def test_a_chart_without_the_rules_says_so(estate: Any, run_worker: Any, caller: Any) -> None:
    """Prometheus answers queries, and its rules are out of order."""

    async def through(request: web.Request) -> web.Response:
        if request.path.endswith("/rules"):
            return web.Response(status=500, text="boom")
        form = dict(await request.post())
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, estate.prometheus + request.path_qs, data=form or None) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", through)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with run_worker(build(), prometheus_url=f"http://127.0.0.1:{runner.addresses[0][1]}"):
            reply = await caller.call("monitoring", "query_metrics", {"expr": ERRORS, "chart": True})
    finally:
        await runner.cleanup()
    assert len(reply.result["content"]) == 2
    assert "thresholds" not in reply.structured["chart"]
    assert any("thresholds of alerting rules are not known" in warning for warning in reply.structured["warnings"])
