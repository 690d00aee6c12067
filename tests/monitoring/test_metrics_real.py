"""The tools about metrics, targets and rules, on the bus, before a real Prometheus that scrapes itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build

JOBS = "- {job_name: gone, scrape_interval: 200ms, params: {token: [hunter2]}, static_configs: [{targets: ['127.0.0.1:1']}]}\n"  # noqa: E501
RULES = """
groups:
- name: platform
  rules:
  - {record: 'job:up:sum', expr: sum by (job) (up)}
  - {record: 'job:broken', expr: 'max_over_time({__name__=~"up|scrape_samples_scraped"}[1m])'}
  - alert: Gone
    expr: up == 0
    labels: {severity: critical, team: web}
    annotations: {summary: 'it is gone', runbook_url: 'https://runbooks.example/gone'}
  - {alert: Later, expr: up == 0, for: 1h}
  - {alert: Quiet, expr: up > 5}
"""


@pytest.fixture
async def ask(start_prometheus: Any, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Any]:
    url = await start_prometheus(JOBS, RULES)

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    async with run_worker(build(), prometheus_url=url, alertmanager_url="", grafana_url=""):
        async with asyncio.timeout(90):
            # Rules are evaluated one after the other: in the end there is one of each state.
            while (
                len((await call("get_rules")).structured["counts"]) < 5
                or (await call("get_targets", health=["unknown"])).structured["items"]
            ):
                await asyncio.sleep(0.2)
        yield call


async def test_targets_rules_and_metrics(ask: Any) -> None:
    targets = (await ask("get_targets")).structured
    assert targets["counts"] == {"down": 1, "up": 1}
    down, up = targets["items"]
    assert (down["job"], down["health"], up["job"]) == ("gone", "down", "self")
    assert "refused" in down["error"]
    assert "hunter2" not in str(targets)
    assert up["interval"] == "200ms"

    rules = (await ask("get_rules")).structured
    assert rules["counts"] == {"broken": 1, "firing": 1, "pending": 1, "inactive": 1, "recorded": 1}
    broken, firing, *_ = rules["items"]
    assert (broken["name"], "same labelset" in broken["error"]) == ("job:broken", True)
    assert (firing["name"], firing["severity"], firing["labels"]) == ("Gone", "critical", {"team": "web"})
    assert (firing["alerts"], firing["runbook"]) == (1, "https://runbooks.example/gone")
    assert next(row["for_s"] for row in rules["items"] if row["name"] == "Later") == 3_600

    found = (await ask("find_metrics", query="http request latency", type=["histogram"])).structured
    assert found["items"][0]["name"] == "prometheus_http_request_duration_seconds"
    whole = (await ask("find_metrics", limit=5)).structured
    assert whole["families"]["prometheus"] > 50
    error = (await ask("find_metrics", matchers=['job!="x"'])).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert "non-empty matcher" in error.message

    for metric in ("prometheus_http_requests_total", "go_gc_duration_seconds", "prometheus_tsdb_head_series", "up"):
        described = (await ask("describe_metric", metric=metric)).structured
        assert described["help"]
        assert {row["name"] for row in described["labels"]} >= {"job", "instance"}
        assert all(query["series"] is not None for query in described["queries"]), "Prometheus takes every one"
    histogram = (await ask("describe_metric", metric="prometheus_http_request_duration_seconds_bucket")).structured
    assert (histogram["type"], histogram["buckets"][-1]) == ("histogram", "+Inf")
    near = (await ask("describe_metric", metric="prometheus_http_request_total")).error
    assert near.did_you_mean[0] == "prometheus_http_requests_total"
