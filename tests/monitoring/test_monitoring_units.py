"""Summaries, times, expressions, matchers, dashboards: the small parts, mostly in their invalid space."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus import ErrorCode, Executed, ToolError
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.dashboards import MADE_BY, PanelSpec, changes_between, merged, uid_of
from opsbus_monitoring.expressions import is_scalar, parse, selectors_of, sides
from opsbus_monitoring.faults import told
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.overload import overload_of
from opsbus_monitoring.prometheus import Series
from opsbus_monitoring.settings import MonitoringSettings
from opsbus_monitoring.summary import on_grid, percentile, rounded, slope, sparkline, summarize
from opsbus_monitoring.templates import TEMPLATES, fill
from opsbus_monitoring.times import STEPS_S, in_words, parse_step, step_for
from opsbus_monitoring.tool_query import plan_span

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


def test_a_series_in_a_few_numbers() -> None:
    points = [(0.0, 1.0), (60.0, 2.0), (180.0, None), (240.0, 5.0)]
    found = summarize(points, 0, 240, 60)
    assert (found.last, found.least, found.most, found.average) == (5.0, 1.0, 5.0, 2.66667)
    assert (found.points, found.missing) == (3, 2)
    assert found.p95 == 5.0
    assert found.sparkline == "▁▃  █"
    assert found.slope_per_hour == 60.0


def test_a_series_of_nothing_but_nan_has_no_numbers() -> None:
    found = summarize([(0.0, None), (60.0, None)], 0, 60, 60)
    assert (found.last, found.average, found.sparkline, found.missing) == (None, None, "", 2)


@given(st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12)), min_size=1, max_size=300))
def test_summaries_hold_for_any_values(values: list[float | None]) -> None:
    found = summarize([(i * 60.0, v) for i, v in enumerate(values)], 0, (len(values) - 1) * 60.0, 60)
    assert found.points + found.missing == len(values)
    assert len(found.sparkline) <= 24
    if found.least is not None and found.most is not None and found.average is not None and found.p95 is not None:
        slack = 1e-4 * max(abs(found.least), abs(found.most), 1e-300)
        assert found.least - slack <= found.average <= found.most + slack
        assert found.least <= found.p95 <= found.most


def test_parts_of_a_summary() -> None:
    assert percentile([5, 1, 3], 0.95) == 5
    assert percentile([7], 0.5) == 7
    assert slope([(0, 1.0)]) is None
    assert slope([(0, 1.0), (0, 2.0)]) is None
    assert slope([(0, 0.0), (3600, 10.0)]) == 10
    assert sparkline([3.0, 3.0]) == "▄▄"
    assert sparkline([]) == ""
    assert on_grid([(10, 1.0), (999, 2.0), (-5, 3.0)], 10, 30, 10) == [1.0, None, None]
    assert rounded(math.inf) is None
    assert rounded(1795220123.4) == 1795220123.0
    assert rounded(0.123456789) == 0.123457


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "1y", "fast", "1e9", "auto?"])
def test_what_is_no_step(text: str) -> None:
    with pytest.raises(ToolError):
        parse_step(text)


@given(st.floats(1, 3.2e7), st.integers(2, 1000))
def test_an_automatic_step_keeps_to_the_points(span_s: float, points: int) -> None:
    step = step_for(span_s, points)
    assert span_s / step + 1 <= points + 1e-6
    assert step in STEPS_S or step % 86_400 == 0


def test_spans() -> None:
    span, warnings = plan_span("now-1h", "now", "auto", 120, NOW)
    assert (span.step_s, span.instant, warnings) == (60.0, False, [])
    span, warnings = plan_span("now-1d", "now", "15s", 100, NOW)
    assert span.step_s == 900.0
    assert "widened to 15m" in warnings[0]
    assert plan_span("now-1h", "now", "30s", 200, NOW)[0].step_s == 30.0
    assert plan_span("now-5m", "now-5m", "auto", 10, NOW)[0].instant
    for start, end in (("now", "now-1h"), ("now-9999d", "now")):
        with pytest.raises(ToolError):
            plan_span(start, end, "auto", 10, NOW)
    assert [in_words(s) for s in (45, 60, 5400, 7200, 86400, 0.5)] == ["45s", "1m", "90m", "2h", "1d", "0.5s"]


def test_selectors_are_found_wherever_they_are() -> None:
    tree = parse(
        'sum by (x) (rate(a_total{code=~"5..",job="j"}[5m])) / on (x) group_left () topk(3, b) > scalar(c{d!="e"})'
    )
    found = {selector.text(): selector.range_s for selector in selectors_of(tree)}
    assert found == {'a_total{code=~"5..",job="j"}': 300.0, "b": None, 'c{d!="e"}': None}
    assert [s.text() for s in selectors_of(parse('max_over_time(rate({__name__="up"}[1m])[1h:5m])'))] == ["up"]
    assert selectors_of(parse("time() + 1")) == []


def test_expressions_that_do_not_parse_are_left_to_prometheus() -> None:
    assert parse("sum(") is None
    assert parse("(" * 5000 + ")" * 5000) is None
    assert selectors_of(None) == []
    assert sides(None) is None


def test_sides_and_scalars() -> None:
    assert sides(parse("(a > 5)")) == ("a", ">", "5")
    assert sides(parse("rate(a[5m])")) is None
    assert is_scalar("5")
    assert is_scalar("-(5)")
    assert not is_scalar("a")


def test_matchers_are_read_as_prometheus_writes_them() -> None:
    one, two, three, four = parse_matchers(['a="b\\"c"', "team!=web", 'n=~"shop.*"', 'n!~"shop"'])
    assert (one.value, str(one)) == ('b"c', 'a="b\\"c"')
    assert two.holds({"team": "x"})
    assert two.holds({})
    assert not two.holds({"team": "web"})
    assert three.holds({"n": "shop-staging"})
    assert not three.holds({"n": "my-shop"})
    assert four.holds({"n": "shop-staging"})


@pytest.mark.parametrize("text", ["", "severity", 'a=="b"', 'a="b",c="d"', 'a=~"("', "{a=b}", 'a="b', "1a=b"])
def test_what_is_no_matcher(text: str) -> None:
    with pytest.raises(ToolError) as refusal:
        parse_matchers([text])
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("unavailable", 0, ErrorCode.BACKEND_UNAVAILABLE),
        ("unauthorized", 401, ErrorCode.BACKEND_ERROR),
        ("not_found", 404, ErrorCode.NOT_FOUND),
        ("conflict", 412, ErrorCode.CONFLICT),
        ("bad_request", 400, ErrorCode.INVALID_ARGUMENTS),
        ("too_large", 0, ErrorCode.RESULT_TOO_LARGE),
        ("error", 500, ErrorCode.BACKEND_ERROR),
        ("unheard of", 0, ErrorCode.BACKEND_ERROR),
    ],
)
def test_failures_of_a_backend(code: str, status: int, expected: ErrorCode) -> None:
    fault = told(BackendError("Grafana", code, "no", status=status))
    assert (fault.code, fault.executed, fault.details["system"]) == (expected, Executed.NO, "Grafana")


def test_a_write_that_was_sent_and_not_answered_is_unknown() -> None:
    silent = BackendError("Grafana", "unavailable", "did not answer", retryable=True)
    assert told(silent, writes=True).code is ErrorCode.OUTCOME_UNKNOWN
    unsent = BackendError("Grafana", "unavailable", "refused", retryable=True, sent=False)
    assert told(unsent, writes=True).executed is Executed.NO
    assert told(BackendError("Grafana", "error", "boom", status=500), writes=True).executed is Executed.UNKNOWN
    assert told(BackendError("Grafana", "conflict", "newer", status=412), writes=True).executed is Executed.NO


def test_cardinality_and_rewrites() -> None:
    series = [Series({"__name__": "m", "pod": f"p{i}", "zone": f"z{i % 3}"}, []) for i in range(30)]
    found = overload_of("m", series, 20)
    assert found.series == 30
    assert list(found.cardinality.items())[:2] == [("pod", 30), ("zone", 3)]
    assert found.rewrites == ["topk(20, m)", "sum by (zone) (m)"]
    alike = [Series({"pod": f"p{i}"}, []) for i in range(30)]
    assert overload_of("m", alike, 20).rewrites == ["topk(20, m)", "sum(m)"]


def test_the_same_title_always_has_the_same_uid() -> None:
    assert uid_of("Shop: Überblick") == "shop-uberblick"
    long = uid_of("A" * 300)
    assert long == uid_of("A" * 300) != uid_of("A" * 301)
    for title in ("A" * 300, "日本語", "!!!", "a" * 40, "a b" * 20):
        assert 1 <= len(uid_of(title)) <= 40
        assert all(c.isalnum() or c == "-" for c in uid_of(title))


def test_an_update_replaces_the_panels_and_keeps_the_rest() -> None:
    known = {
        "id": 7,
        "uid": "x",
        "version": 3,
        "title": "Old",
        "tags": ["mine"],
        "templating": {"list": [1]},
        "panels": [],
    }
    panels = [
        PanelSpec(title="A", expr="up"),
        PanelSpec(title="B", expr="down", unit="s", kind="stat", legend="{{pod}}"),
    ]
    after = merged(known, "x", "New", panels, ["team"], "prom")
    assert (after["id"], after["version"], after["templating"]) == (7, 3, {"list": [1]})
    assert after["tags"] == ["mine", "team", MADE_BY]
    assert [panel["gridPos"]["x"] for panel in after["panels"]] == [0, 12]
    assert after["panels"][1]["targets"][0]["legendFormat"] == "{{pod}}"
    assert known["title"] == "Old"
    changed = {change.path for change in changes_between(known, after)}
    assert changed == {"title", "tags", "panels[A]", "panels[B]"}
    assert changes_between(after, merged(after, "x", "New", panels, ["team"], "prom")) == []
    turned = merged(after, "x", "New", list(reversed(panels)), [], "prom")
    assert [change.path for change in changes_between(after, turned)] == ["panels"]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates_are_valid_promql(name: str) -> None:
    variables = dict.fromkeys(TEMPLATES[name].variables, "checkout")
    _, panels = fill(name, variables, MonitoringSettings())
    for panel in panels:
        assert parse(panel.expr) is not None, panel.expr
        assert "$" not in panel.expr
        assert "%" not in panel.expr


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("service_rad", {"service": "x"}),
        ("service_red", {}),
        ("service_red", {"service": "x", "y": "z"}),
        ("service_red", {"service": 'x"} or vector(1) #'}),
        ("nodes_use", {"service": "x"}),
    ],
)
def test_templates_are_filled_with_plain_names_only(name: str, variables: dict[str, Any]) -> None:
    with pytest.raises(ToolError) as refusal:
        fill(name, variables, MonitoringSettings())
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS
