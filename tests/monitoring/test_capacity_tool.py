"""monitoring_capacity_report on the bus: before an API with courses that are known, the estate, a real Prometheus."""

import asyncio
import json
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import ErrorCode, Status
from opsbus_monitoring.app import build
from opsbus_monitoring.capacityresources import RESOURCES, expression_of
from opsbus_monitoring.expressions import parse
from opsbus_monitoring.matchers import parse_matchers

Course = Callable[[float], float]
"""Days before now to a value; NaN is a gap."""


def wave(day: float) -> float:
    return math.sin(2 * math.pi * day)


COURSES: dict[str, dict[str, Course]] = {
    "disk": {
        "grows": lambda day: 0.7 + 0.01 * day + 0.01 * wave(day) + 0.001 * math.sin(day * 997),
        "full": lambda day: 0.93,
        "flat": lambda day: 0.4 + 0.01 * math.sin(day * 997),
        "new|one\nline": lambda day: 0.5 + 0.1 * day if day > -1.5 else math.nan,
    },
    "churn": {
        "old": lambda day: 5.0 if day < -3 else math.nan,
        "young": lambda day: 5.0 + math.sin(day * 997),
    },
    "queue": {"only": lambda day: 100 + 2 * day},
    "many": {f"s{number}": (lambda day: 1.0) for number in range(130)},
}


class KnownPrometheus:
    """Answers queries by the course whose name is in the expression; keeps what was asked."""

    def __init__(self) -> None:
        self.now = time.time()
        self.ranges: list[tuple[float, float, float]] = []
        self.status = 200

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/v1/query", self.query)
        app.router.add_post("/api/v1/query_range", self.query_range)
        app.router.add_get("/api/v1/metadata", self.metadata)
        app.router.add_get("/api/v1/label/__name__/values", self.names)
        return app

    def courses(self, expr: str) -> dict[str, Course]:
        key = "disk" if "node_filesystem_avail" in expr else next((name for name in COURSES if name in expr), "")
        return COURSES.get(key, {})

    async def query(self, request: web.Request) -> web.Response:
        expr = str((await request.post())["query"])
        if "sum(" in expr:
            words = {"status": "error", "errorType": "bad_data", "error": "parse error: unclosed"}
            return web.json_response(words, status=400)
        count = len(self.courses(expr))
        result = [{"metric": {}, "value": [self.now, str(count)]}] if count else []
        return self.told("vector", result)

    async def query_range(self, request: web.Request) -> web.Response:
        form = await request.post()
        start, end, step = (float(str(form[key])) for key in ("start", "end", "step"))
        self.ranges.append((start, end, step))
        result = []
        for name, course in self.courses(str(form["query"])).items():
            moments = [start + index * step for index in range(int((end - start) / step + 1e-6) + 1)]
            values = [(when, course((when - self.now) / 86_400)) for when in moments]
            known = [[when, str(value)] for when, value in values if not math.isnan(value)]
            if known:
                result.append({"metric": {"__name__": "x", "job": "node", "mountpoint": name}, "values": known})
        if self.status != 200:
            return web.Response(status=self.status, text="<html>busy</html>")
        return self.told("matrix", result)

    async def metadata(self, request: web.Request) -> web.Response:
        kinds = {"queue_total": "counter", "queue_length": "gauge"}
        metric = request.query.get("metric", "")
        found = {metric: [{"type": kinds[metric], "help": "", "unit": ""}]} if metric in kinds else {}
        return web.json_response({"status": "success", "data": found})

    async def names(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": ["queue_length", "queue_total"]})

    def told(self, kind: str, result: list[Any]) -> web.Response:
        return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})


@pytest.fixture
async def known() -> AsyncIterator[tuple[KnownPrometheus, str]]:
    prometheus = KnownPrometheus()
    runner = web.AppRunner(prometheus.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield prometheus, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def report(known: tuple[KnownPrometheus, str], run_worker: RunWorker, caller: Caller) -> AsyncIterator[Any]:
    async def call(**arguments: Any) -> Any:
        return await caller.call("monitoring", "capacity_report", arguments)

    async with run_worker(build(), prometheus_url=known[1], alertmanager_url="", grafana_url=""):
        yield call


def valid(structured: Any) -> Any:
    schema = build().registry.tools["capacity_report"].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


async def test_the_most_urgent_first_with_figures_that_are_true(report: Any, caller: Caller) -> None:
    reply = await report(resource="disk")
    found = valid(reply.structured)
    assert [row["labels"]["mountpoint"] for row in found["items"]] == ["full", "grows", "new|one\nline", "flat"]
    assert [row["verdict"] for row in found["items"]] == ["exceeded", "reaches", "insufficient_data", "stable"]
    assert found["verdicts"] == {"exceeded": 1, "reaches": 1, "insufficient_data": 1, "stable": 1}
    full, grows, new, flat = found["items"]
    assert full["days_to_threshold"] == 0
    # 0.7 and 0.01 a day, with a day's peak of 0.01 on top: (0.85 - 0.71) / 0.01.
    assert grows["days_to_threshold"] == pytest.approx(14, abs=0.4)
    assert grows["days_low"] <= grows["days_to_threshold"] <= grows["days_high"]
    assert grows["change_per_day"] == pytest.approx(0.01, rel=0.02)
    assert grows["daily_swing"] == pytest.approx(0.02, rel=0.1)
    assert grows["fit_error"] < 0.005 < grows["fit_error_unchanged"]
    assert grows["coverage"] == 1.0
    assert "at least 3 days" in new["why"]
    assert "days_to_threshold" not in new
    assert "days_to_threshold" not in flat
    assert (found["threshold"], found["direction"], found["horizon_days"]) == (0.85, "above", 30)
    assert len(json.dumps(found)) < 24_000
    assert len(found["assumptions"]) >= 4


async def test_it_reads_as_an_engineer_would_write_it(report: Any, caller: Caller) -> None:
    reply = await report(resource="disk")
    summary = reply.structured["summary"]
    assert summary.startswith("Disk space, 85% threshold, 4 series: 1 is over it already; 1 reaches it within 30d; ")
    assert "1 shows no trend towards it; 1 has too little data." in summary
    assert "mountpoint=full is over 85% already" in summary
    assert "mountpoint=grows reaches 85% in about 14 days (90% interval: 1" in summary
    assert "grows by 1 point a day, with a daily swing of 2 points" in summary
    assert "held back: off by" in summary
    assert summary in reply.text
    assert "Assumptions:" in reply.text

    (link,) = [block for block in reply.result["content"] if block["type"] == "resource_link"]
    assert (link["uri"], link["mimeType"]) == (reply.structured["report"], "text/markdown")
    (contents,) = (await caller.read("monitoring", link["uri"])).result["contents"]
    full = contents["text"]
    assert full.startswith("# Capacity: Disk space\n")
    assert summary in full
    for name in ("full", "grows", "flat", r"new\|one line"):
        assert f"\n## mountpoint={name}\n" in full
    assert "\n## Assumptions\n" in full
    assert full.count("| day | p95 |") == 1


async def test_the_report_is_read_with_the_permission_of_metrics_alone(report: Any, caller: Caller) -> None:
    uri = (await report(resource="disk")).structured["report"]
    refused = (await caller.read("monitoring", uri, permissions=["alerts:read"])).error
    assert refused.code is ErrorCode.FORBIDDEN
    assert (await caller.read("monitoring", uri, permissions=["metrics:query"])).result["contents"]


async def test_an_expression_with_a_threshold_below(report: Any) -> None:
    found = valid((await report(expr="queue_length", threshold=120, percentile=50)).structured)
    (row,) = found["items"]
    assert (row["verdict"], row["days_to_threshold"]) == ("reaches", pytest.approx(10, abs=0.2))
    assert "verdict" in row
    below = valid((await report(expr="queue_length", threshold=90, direction="below")).structured)
    assert below["items"][0]["verdict"] == "stable"
    over = valid((await report(expr="queue_length", threshold=90)).structured)
    assert over["items"][0]["verdict"] == "exceeded"


async def test_history_is_asked_for_by_the_week_without_overlap(report: Any, known: Any) -> None:
    await report(expr="queue_length", threshold=500, history="28d")
    ranges = known[0].ranges
    assert len(ranges) == 5
    assert all(end - start <= 7 * 86_400 for start, end, _ in ranges)
    for (_, end, step), (start, _, _) in pairwise(ranges):
        assert start == pytest.approx(end + step, abs=0.01)


async def test_series_that_ended_are_left_out_and_told(report: Any) -> None:
    found = valid((await report(expr="churn", threshold=50)).structured)
    assert [row["labels"]["mountpoint"] for row in found["items"]] == ["young"]
    assert found["items"][0]["verdict"] == "stable"
    assert any("1 series that ended" in warning for warning in found["warnings"])


async def test_progress_is_told_while_weeks_are_read(known: Any, run_worker: RunWorker, caller: Caller) -> None:
    arguments = {"expr": "queue_length", "threshold": 500, "history": "28d"}
    async with run_worker(build(), prometheus_url=known[1], alertmanager_url="", grafana_url=""):
        reply = await caller.call("monitoring", "capacity_report", arguments, progress=True)
    told = [message.data["progress"] for message in reply.of(Status.PROGRESS)]
    assert len(told) >= 2
    assert told == sorted(told)


async def test_rows_are_limited_and_the_report_is_whole(report: Any, caller: Caller) -> None:
    reply = await report(resource="disk", limit=1)
    assert reply.structured["page"] == {"returned": 1, "total": 4, "next_cursor": None, "truncated": True}
    assert sum(reply.structured["verdicts"].values()) == 4
    (contents,) = (await caller.read("monitoring", reply.structured["report"])).result["contents"]
    assert "mountpoint=flat" in contents["text"]


async def test_too_many_series_are_refused_with_the_way_to_fewer(report: Any) -> None:
    error = (await report(expr="many_things", threshold=5)).error
    assert error.code is ErrorCode.RESULT_TOO_LARGE
    assert "130 series" in error.message
    assert "matchers" in error.hint


async def test_no_data_says_why(report: Any) -> None:
    reply = await report(expr="nothing_here", threshold=5)
    found = valid(reply.structured)
    assert (found["items"], found["verdicts"]) == ([], {})
    assert "no metric nothing_here" in found["empty"][0]["reason"]
    assert "report" not in found


async def test_a_counter_is_refused_before_it_misleads(report: Any) -> None:
    error = (await report(expr="queue_total", threshold=5)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert "is a counter" in error.message
    assert "rate(queue_total[5m])" in error.hint


async def test_a_backend_that_answers_html_is_named(report: Any, known: Any) -> None:
    known[0].status = 500
    error = (await report(expr="queue_length", threshold=5)).error
    assert error.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.BACKEND_ERROR)
    assert "Prometheus" in error.message


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "exactly one"),
        ({"resource": "disk", "expr": "up"}, "exactly one"),
        ({"resource": "disc"}, "no resource"),
        ({"resource": "disk", "threshold": 85}, "no share"),
        ({"resource": "disk", "direction": "below"}, "direction"),
        ({"expr": "queue_length"}, "threshold"),
        ({"expr": "queue_length", "threshold": 5, "matchers": ["a=b"]}, "matchers"),
        ({"resource": "disk", "matchers": ["a"]}, "matcher"),
        ({"resource": "disk", "horizon": "1h"}, "horizon"),
        ({"resource": "disk", "horizon": "400d"}, "horizon"),
        ({"resource": "disk", "history": "soon"}, "history"),
        ({"resource": "disk", "percentile": 10}, "percentile"),
        ({"resource": "disk", "limit": 0}, "limit"),
        ({"resource": "disk", "horzon": "1d"}, "horzon"),
        ({"expr": "sum(", "threshold": 5}, "parse error"),
    ],
)
async def test_wrong_arguments_are_named(report: Any, arguments: dict[str, Any], word: str) -> None:
    error = (await report(**arguments)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert word in error.message


async def test_a_resource_is_meant_when_mistyped(report: Any) -> None:
    assert (await report(resource="memroy")).error.did_you_mean[0] == "memory"


@pytest.mark.parametrize("name", RESOURCES)
def test_resources_are_valid_promql(name: str) -> None:
    for matchers in ([], ['node="a"', 'mountpoint=~"/data.*"']):
        _, expr = expression_of(name, parse_matchers(matchers))
        assert "%" not in expr
        assert parse(expr) is not None
        assert expr.count('node="a"') == 2 * bool(matchers) or name == "cpu"


async def test_six_hours_of_an_estate_are_too_little(ask: Any) -> None:
    reply = await ask("capacity_report", resource="disk")
    found = valid(reply.structured)
    assert found["items"]
    assert set(found["verdicts"]) == {"insufficient_data"}
    assert all("of history: at least 3 days" in row["why"] for row in found["items"])
    assert "too little data" in reply.text


async def test_a_real_prometheus_with_two_weeks(
    tmp_path: Path, start_prometheus: Any, run_worker: RunWorker, caller: Caller
) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool on this machine (Debian package prometheus)")
    now = time.time() // 60 * 60
    lines = ["# TYPE volume_used gauge"]
    for name, course in (("grows", lambda day: 70 + day + wave(day)), ("flat", lambda day: 40 + wave(day * 50))):
        # Closer than the five minutes after which Prometheus takes a sample for stale; and beyond the moment of the
        # report, at which an older value would be a jump.
        for minute in range(14 * 24 * 60, -31, -3):
            when = now - minute * 60
            lines.append(f'volume_used{{volume="{name}"}} {course((when - now) / 86_400)} {when:.0f}')
    (tmp_path / "history.txt").write_text("\n".join([*lines, "# EOF\n"]))
    argv = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "history.txt"),
            str(tmp_path / "data")]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    url = await start_prometheus()
    arguments = {"expr": "volume_used", "threshold": 90, "history": "13d"}
    async with run_worker(build(), prometheus_url=url, alertmanager_url="", grafana_url=""):
        found = (await caller.call("monitoring", "capacity_report", arguments)).structured
    grows, flat = found["items"]
    assert (grows["labels"], grows["verdict"]) == ({"volume": "grows"}, "reaches")
    assert grows["days_to_threshold"] == pytest.approx(19, abs=0.5)
    assert (flat["labels"], flat["verdict"]) == ({"volume": "flat"}, "stable")
