"""The evaluator against the real Prometheus: the same samples, the same expressions, the same answers.

Two differences are meant and kept out of the data: ranges are left-open here, as from Prometheus 3 on (no sample lies
on a window's edge), and extrapolation to zero follows the newer releases (no counter starts near zero).
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from opsbus_sandbox.promql.database import Database
from opsbus_sandbox.promql.errors import PromqlError
from opsbus_sandbox.promql.evaluate import query, query_range
from opsbus_sandbox.promql.values import Matrix

BASE = 1_700_000_000.0
"""As in conftest.py: half an hour of samples lies before it, an hour after."""
NOW = BASE + 3600.0

INSTANT = [
    # selectors
    "http_requests_total",
    'http_requests_total{code="500"}',
    'http_requests_total{code!="500",service=~"check.*|cat.*"}',
    'http_requests_total{service!~"check.*"}',
    'http_requests_total{missing=""}',
    '{__name__=~"mem_.*", pod="a-1"}',
    "http_requests_total offset 7m",
    "http_requests_total @ 1700001800.5",
    'rate(http_requests_total{code="200"}[5m] offset 10m)',
    "gone_gauge",
    "mem_bytes[93s]",
    "nothing_here",
    # rates, with resets and gaps
    "rate(http_requests_total[5m])",
    "rate(http_requests_total[1m])",
    "increase(http_requests_total[17m])",
    "irate(http_requests_total[5m])",
    "delta(mem_bytes[10m])",
    "idelta(mem_bytes[10m])",
    "deriv(mem_bytes[10m])",
    "predict_linear(mem_bytes[10m], 3600)",
    "changes(steps[20m])",
    "resets(http_requests_total[59m])",
    "rate(gappy_total[5m])",
    "rate(gappy_total[30m])",
    # over time
    "avg_over_time(mem_bytes[10m])",
    "min_over_time(mem_bytes[10m])",
    "max_over_time(mem_bytes[10m])",
    "sum_over_time(mem_bytes[10m])",
    "count_over_time(mem_bytes[10m])",
    "quantile_over_time(0.9, mem_bytes[10m])",
    "last_over_time(mem_bytes[10m])",
    "stddev_over_time(mem_bytes[10m])",
    "present_over_time(gone_gauge[50m])",
    "max_over_time(odd_values[10m])",
    "min_over_time(odd_values[10m])",
    "sum_over_time(odd_values[10m])",
    "avg_over_time(odd_values[10m])",
    "quantile_over_time(0.5, odd_values[10m])",
    # subqueries
    "max_over_time(rate(http_requests_total[5m])[30m:1m])",
    "avg_over_time(sum(mem_bytes)[10m:45s])",
    "rate(http_requests_total[10m:1m])",
    "max_over_time(sum by (code) (rate(http_requests_total[2m]))[15m:2m] offset 5m)",
    # aggregations
    "sum(mem_bytes)",
    "sum by (service) (rate(http_requests_total[5m]))",
    "sum without (code, method) (rate(http_requests_total[5m]))",
    "avg by (pod) (mem_bytes)",
    "min(mem_bytes)",
    "max by (nope) (mem_bytes)",
    "count(http_requests_total) by (code)",
    "count_values('v', steps)",
    "group by (service) (http_requests_total)",
    "topk(3, http_requests_total)",
    "topk by (service) (1, http_requests_total)",
    "bottomk(2, mem_bytes)",
    "topk(0, mem_bytes)",
    "quantile(0.9, mem_bytes)",
    "quantile by (service) (0.25, http_requests_total)",
    "quantile(1.5, mem_bytes)",
    "stddev(mem_bytes)",
    "stdvar by (pod) (mem_bytes)",
    "max(odd_values)",
    "min(odd_values)",
    "sum(odd_values)",
    "avg(odd_values)",
    "topk(2, odd_values)",
    # operators
    "mem_bytes / 1024",
    "2 ^ 3 ^ 2",
    "-2 ^ 2",
    "1 / 0",
    "-1 / 0",
    "0 / 0",
    "7 % 4 + -7 % 4",
    "mem_bytes % 7",
    "odd_values / 0",
    "mem_bytes % 0",
    "odd_values ^ 0.5",
    "mem_bytes > 50000000",
    "mem_bytes > bool 50000000",
    "50000000 < mem_bytes",
    "50000000 < bool mem_bytes",
    "1 > bool 2",
    "mem_bytes == mem_bytes",
    "odd_values == odd_values",
    "odd_values != odd_values",
    "-mem_bytes",
    "+mem_bytes",
    "mem_bytes / mem_limit",
    "mem_bytes / on (pod) mem_limit",
    "mem_bytes / ignoring (namespace) mem_limit",
    "mem_bytes > on (pod) mem_half",
    "mem_bytes > bool on (pod) mem_half",
    'rate(http_requests_total{code="500"}[5m]) / ignoring (code) rate(http_requests_total{code="200"}[5m])',
    "http_requests_total * on (service) group_left (team) service_info",
    "service_info * on (service) group_right (team) http_requests_total",
    "sum by (service, code) (http_requests_total) / on (service) group_left sum by (service) (http_requests_total)",
    "mem_bytes > on (pod) group_left mem_half",
    "http_requests_total and on (service) service_info",
    "http_requests_total unless on (service) service_info",
    'http_requests_total{code="500"} or mem_bytes',
    "mem_bytes and vector(1)",
    "mem_bytes and on () vector(1)",
    "mem_bytes unless on () nothing_here",
    "vector(1) or mem_bytes",
    "mem_bytes or on () vector(1)",
    "(mem_bytes + 0) atan2 mem_limit",
    "odd_values ^ -1",
    "(odd_values * 0) ^ -1",
    "-10 ^ 1001",
    # functions
    "histogram_quantile(0.99, sum by (le, service) (rate(latency_seconds_bucket[5m])))",
    "histogram_quantile(0.5, rate(latency_seconds_bucket[5m]))",
    "histogram_quantile(1.2, rate(latency_seconds_bucket[5m]))",
    "histogram_quantile(-1, rate(latency_seconds_bucket[5m]))",
    "histogram_quantile(0, latency_seconds_bucket)",
    "histogram_quantile(1, latency_seconds_bucket)",
    'histogram_quantile(0.9, latency_seconds_bucket{le!="+Inf"})',
    "abs(-mem_bytes)",
    "ceil(mem_bytes / 7)",
    "floor(-mem_bytes / 7)",
    "round(mem_bytes / 7)",
    "round(mem_bytes / 7, 0.1)",
    "round(-mem_bytes / 7, 10)",
    "ceil(odd_values)",
    "round(odd_values)",
    "clamp(mem_bytes, 40000000, 50000000)",
    "clamp(mem_bytes, 5, 1)",
    "clamp_min(mem_bytes, 50000000)",
    "clamp_max(mem_bytes, 50000000)",
    "clamp_max(odd_values, 3)",
    "sqrt(odd_values)",
    "ln(odd_values)",
    "log2(odd_values)",
    "exp(odd_values)",
    "sgn(odd_values)",
    "scalar(mem_bytes)",
    'scalar(mem_bytes{pod="a-1"})',
    "scalar(nothing_here)",
    "vector(3)",
    "vector(time())",
    "time()",
    "timestamp(mem_bytes)",
    "timestamp(mem_bytes offset 5m)",
    "absent(nothing_here)",
    'absent(nothing_here{a="b",c=~"d.*"})',
    'absent(nothing_here{a="b",a="c"})',
    "absent(mem_bytes)",
    "absent(sum(nothing_here))",
    'absent_over_time(nothing_here{a="b"}[5m])',
    "sort(mem_bytes)",
    "sort_desc(mem_bytes)",
    'label_replace(mem_bytes, "short", "$1", "pod", "(.*)-.*")',
    'label_replace(mem_bytes, "short", "${letter}!", "pod", "(?P<letter>.*)-.*")',
    'label_replace(mem_bytes, "x", "$9y", "pod", "no match")',
    'label_replace(mem_bytes, "x", "a$1b$2", "pod", "(.*)-.*")',
    'label_replace(mem_bytes, "x", "z", "pod", "a")',
    'label_join(mem_bytes, "both", "/", "namespace", "pod")',
    'label_join(mem_bytes, "both", "", "nope")',
    "hour(vector(1700000000))",
    "day_of_week()",
    "minute(vector(-1))",
    "days_in_month(vector(1709200000))",
    "day_of_year()",
    "stddev(odd_values)",
    "stddev_over_time(odd_values[10m])",
    "stdvar_over_time(odd_values[10m])",
    "deriv(odd_values[10m])",
    'label_replace(mem_bytes, "x", "$$1 $0", "pod", "a.*")',
    "'a string'",
    "42",
    "1e-7",
    "0x1f",
    "Inf",
    "NaN",
    "sum(rate(http_requests_total{code=~'5..'}[5m])) by (service)"
    " / sum(rate(http_requests_total[5m])) by (service) > 0.01",
]

RANGES = [
    "mem_bytes",
    "sum by (service) (rate(http_requests_total[5m]))",
    "histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "gone_gauge",
    "topk(1, mem_bytes)",
    "mem_bytes > 60000000",
    "absent(gone_gauge)",
    "time()",
    "1",
    "max_over_time(rate(http_requests_total[5m])[10m:90s])",
    "mem_bytes @ end()",
    "mem_bytes @ start() + mem_bytes",
    "rate(gappy_total[5m])",
    "count(gone_gauge) or vector(0)",
]

REFUSED = [
    "mem_bytes * on (namespace) mem_limit",
    "http_requests_total * on (service) service_info",
    "mem_bytes * on (namespace) group_left mem_limit",
    "service_info * on (team) group_left (x) http_requests_total",
    "sum(mem_bytes",
    "rate(mem_bytes)",
    "foo(mem_bytes)",
    "{}",
    '{a=~".*"}',
    "1 > 2",
    "sum()",
    "mem_bytes[5m] + 1",
    'label_replace(mem_bytes, "pod", "x", "pod", ".*")',
    'label_replace(mem_bytes, "pod", "", "pod", ".*")',
    "topk(NaN, mem_bytes)",
    'label_replace(mem_bytes, "1bad", "x", "pod", ".*")',
    'label_replace(mem_bytes, "x", "y", "pod", "(")',
    'label_join(mem_bytes, "1bad", "x", "pod")',
    "sum(mem_bytes[5m])",
    "mem_bytes offset",
    "",
    "mem_bytes and 1",
    "topk('a', mem_bytes)",
    '"a" + "b"',
]


def key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def same(theirs: float, ours: float) -> bool:
    if math.isnan(theirs) or math.isnan(ours):
        return math.isnan(theirs) and math.isnan(ours)
    return theirs == ours or math.isclose(theirs, ours, rel_tol=1e-9, abs_tol=1e-9)


def difference(theirs: dict[Any, list[tuple[float, float]]], ours: dict[Any, list[tuple[float, float]]]) -> list[Any]:
    """What differs: series on one side, numbers of points, values."""
    found: list[Any] = [("only one side has", k) for k in theirs.keys() ^ ours.keys()]
    for labels in theirs.keys() & ours.keys():
        left, right = theirs[labels], ours[labels]
        if [round(t, 3) for t, _ in left] != [round(t, 3) for t, _ in right]:
            found.append(("points at other times", labels, len(left), len(right)))
        else:
            found += [(labels, a, b) for a, b in zip(left, right, strict=True) if not same(a[1], b[1])]
    return found


def of_real(answer: dict[str, Any]) -> dict[Any, list[tuple[float, float]]]:
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return {"scalar": [(result[0], float(result[1]))]}
    if kind == "string":
        return {("string", result[1]): []}
    if kind == "vector":
        return {key(item["metric"]): [(item["value"][0], float(item["value"][1]))] for item in result}
    return {key(item["metric"]): [(t, float(v)) for t, v in item["values"]] for item in result}


ORDERED = ["sort(mem_bytes)", "sort_desc(mem_bytes)", "topk(3, mem_bytes)", "bottomk(2, mem_bytes)"]


def of_ours(value: Any, when: float) -> dict[Any, list[tuple[float, float]]]:
    if isinstance(value, float):
        return {"scalar": [(when, value)]}
    if isinstance(value, str):
        return {("string", value): []}
    if isinstance(value, Matrix):
        return {key(w.labels): list(zip(w.times, w.values, strict=True)) for w in value.windows}
    return {key(labels): [(when, number)] for labels, number in value}


@pytest.mark.parametrize("expression", INSTANT)
def test_an_instant_query_answers_as_prometheus_does(database: Database, real: Any, expression: str) -> None:
    status, answer = real.get("/api/v1/query", query=expression, time=str(NOW))
    assert status == 200, answer
    assert difference(of_real(answer), of_ours(query(database, expression, NOW), NOW)) == []


@pytest.mark.parametrize("expression", RANGES)
def test_a_range_query_answers_as_prometheus_does(database: Database, real: Any, expression: str) -> None:
    start, end, step = BASE + 600, BASE + 3000, 60.0
    status, answer = real.get("/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step))
    assert status == 200, answer
    ours = {key(labels): points for labels, points in query_range(database, expression, start, end, step)}
    assert difference(of_real(answer), ours) == []


@pytest.mark.parametrize("expression", REFUSED)
def test_what_prometheus_refuses_is_refused_with_the_same_kind(database: Database, real: Any, expression: str) -> None:
    status, answer = real.get("/api/v1/query", query=expression, time=str(NOW))
    assert status in (400, 422), answer
    with pytest.raises(PromqlError) as refused:
        query(database, expression, NOW)
    assert refused.value.kind == answer["errorType"], (str(refused.value), answer)


@pytest.mark.parametrize("expression", ORDERED)
def test_sorted_results_come_in_prometheus_order(database: Database, real: Any, expression: str) -> None:
    _, answer = real.get("/api/v1/query", query=expression, time=str(NOW))
    theirs = [key(item["metric"]) for item in answer["data"]["result"]]
    assert [key(sample.labels) for sample in query(database, expression, NOW)] == theirs
