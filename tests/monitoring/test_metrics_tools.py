"""Which metrics, targets and rules there are: over the estate, and before a Prometheus that is broken or lies."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build
from opsbus_monitoring.cardinality import SERIES_READ_MAX
from opsbus_monitoring.metrics import metrics_of, search
from opsbus_monitoring.tool_targets import masked

from .conftest import all_pages

BUDGET = 24_000


def valid(tool: str, structured: Any) -> Any:
    schema = build().registry.tools[tool].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


async def test_metrics_are_found_by_words(ask: Any) -> None:
    reply = await ask("find_metrics", query="request latency")
    found = valid("find_metrics", reply.structured)
    first = found["items"][0]
    assert (first["name"], first["type"]) == ("http_request_duration_seconds", "histogram")
    assert first["parts"] == [f"http_request_duration_seconds{part}" for part in ("_bucket", "_sum", "_count")]
    assert first["series"] > 100
    assert "Duration of requests" in reply.text
    memory = (await ask("find_metrics", query="node memory")).structured["items"]
    assert {row["name"] for row in memory} == {"node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"}
    assert (await ask("find_metrics", query="node_*_bytes", type=["gauge"])).structured["page"]["total"] == 4
    assert (await ask("find_metrics", query="node_*_bytes", type=["counter"])).structured["items"] == []


async def test_metrics_are_found_by_labels(ask: Any) -> None:
    checkout = (await ask("find_metrics", matchers=['service="checkout"'])).structured["items"]
    assert {"http_requests_total", "http_request_duration_seconds"} <= {row["name"] for row in checkout}
    assert all(not row["name"].startswith("node_") for row in checkout)
    whole = (await ask("find_metrics", query="http_requests_total")).structured["items"][0]["series"]
    assert next(row["series"] for row in checkout if row["name"] == "http_requests_total") < whole


async def test_what_is_not_found_says_what_to_do(ask: Any) -> None:
    none = (await ask("find_metrics", query="chekout_*")).structured
    assert none["items"] == []
    assert "no metric matches" in none["warnings"][0]
    near = (await ask("find_metrics", query="http_requsts_totl")).structured
    assert any("http_requests_total" in warning for warning in near["warnings"])
    value = (await ask("find_metrics", query="checkout requests")).structured
    assert value["items"][0]["name"] == "http_requests_total"
    assert any("no metric has the word checkout" in warning for warning in value["warnings"])


async def test_metrics_in_pages(ask: Any) -> None:
    seen, cursor = [], None
    while True:
        page = (await ask("find_metrics", limit=7, cursor=cursor)).structured
        assert page["families"]["kube"] > 5
        seen += [row["name"] for row in page["items"]]
        cursor = page["page"]["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == page["page"]["total"]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("find_metrics", {"cursor": "x"}, "cursor"),
    ("find_metrics", {"since": "someday"}, "someday"),
    ("find_metrics", {"type": ["number"]}, "type"),
    ("find_metrics", {"matchers": ["service"]}, "no matcher"),
    ("find_metrics", {"limit": 0}, "limit"),
    ("find_metrics", {"words": "x"}, "words"),
    ("describe_metric", {"metric": 'up{a="b"}'}, "metric"),
    ("describe_metric", {"metric": ""}, "metric"),
    ("describe_metric", {}, "metric"),
    ("get_targets", {"health": ["bad"]}, "health"),
    ("get_targets", {"cursor": "down"}, "cursor"),
    ("get_rules", {"state": ["loud"]}, "state"),
    ("get_rules", {"cursor": "a.b"}, "cursor"),
]


async def test_what_is_not_asked(ask: Any) -> None:
    replies = await asyncio.gather(*(ask(tool, **arguments) for tool, arguments, _ in WRONG))
    for (tool, arguments, word), reply in zip(WRONG, replies, strict=True):
        assert reply.error.code is ErrorCode.INVALID_ARGUMENTS, (tool, arguments)
        assert word in reply.error.message, (tool, arguments)
        assert reply.error.hint, (tool, arguments)


async def test_a_histogram_is_described(ask: Any) -> None:
    reply = await ask("describe_metric", metric="http_request_duration_seconds")
    found = valid("describe_metric", reply.structured)
    assert (found["type"], found["buckets"][0], found["buckets"][-1]) == ("histogram", "0.005", "+Inf")
    labels = {row["name"]: row for row in found["labels"]}
    assert "le" not in labels
    assert labels["service"]["values"] == 7
    assert "checkout" in labels["service"]["examples"]
    assert found["labels"] == sorted(found["labels"], key=lambda row: (row["values"], row["name"]))
    assert "histogram_quantile(0.95" in reply.text
    for query in found["queries"]:
        answer = (await ask("query_metrics", expr=query["expr"], start="now")).structured
        assert len(answer["items"]) == query["series"] > 0


@pytest.mark.parametrize("metric", ["http_requests_total", "container_memory_working_set_bytes", "up"])
async def test_every_query_offered_gives_series(ask: Any, metric: str) -> None:
    found = valid("describe_metric", (await ask("describe_metric", metric=metric)).structured)
    assert found["help"]
    assert found["series"] > 0
    assert all(query["series"] > 0 for query in found["queries"])
    narrowed = (await ask("describe_metric", metric=metric, matchers=['namespace="shop"'])).structured
    assert 0 < narrowed["series"] < found["series"]
    assert all('namespace="shop"' in query["expr"] for query in narrowed["queries"])


async def test_an_unknown_metric_has_neighbours(ask: Any) -> None:
    error = (await ask("describe_metric", metric="http_request_total")).error
    assert (error.code, error.did_you_mean[0]) == (ErrorCode.NOT_FOUND, "http_requests_total")
    empty = (await ask("describe_metric", metric="up", matchers=['job="nobody"'])).structured
    assert (empty["series"], empty["labels"]) == (0, [])
    assert "leave a matcher out" in empty["warnings"][0]


async def test_rules_of_the_estate(ask: Any) -> None:
    reply = await ask("get_rules")
    found = valid("get_rules", reply.structured)
    assert found["items"][0]["name"] == "CheckoutHighErrorRate"
    assert found["items"][0]["severity"] == "critical"
    assert found["items"][0]["alerts"] == 1
    assert found["counts"]["firing"] >= 2
    assert found["groups"] == {"estate": found["page"]["total"]}
    users = (await ask("get_rules", metric="http_requests_total")).structured["items"]
    assert users
    assert all("http_requests_total" in row["expr"] for row in users)
    quiet = (await ask("get_rules", state=["inactive"])).structured["items"]
    assert {row["state"] for row in quiet} == {"inactive"}
    wrong = (await ask("get_rules", name="ChekoutHighErrorRate")).error
    assert (wrong.code, wrong.did_you_mean[0]) == (ErrorCode.NOT_FOUND, "CheckoutHighErrorRate")
    assert (await ask("get_rules", group="esate")).error.did_you_mean == ["estate"]
    assert (await ask("get_rules", name="checkouthigherror")).structured["page"]["total"] == 1
    seen, whole = await all_pages(ask, "get_rules", "name", limit=3)
    assert seen == [row["name"] for row in whole["items"]]


async def test_no_targets_is_an_answer(ask: Any) -> None:
    reply = await ask("get_targets")
    assert valid("get_targets", reply.structured)["items"] == []
    assert "No targets" in reply.text
    error = (await ask("get_targets", job="opsbus")).error
    assert error.code is ErrorCode.NOT_FOUND


# A Prometheus that is made up: large, broken, lying.

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def served(run_worker: Any, caller: Any) -> Any:
    """Starts a worker before a handler; gives the way to call it."""
    ends: list[Any] = []

    async def start(handler: Handler, **settings: Any) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = run_worker(build(), prometheus_url=f"http://127.0.0.1:{runner.addresses[0][1]}", **settings)
        await running.__aenter__()
        ends.append((running, runner))

        async def call(tool: str, **arguments: Any) -> Any:
            return await caller.call("monitoring", tool, arguments)

        return call

    yield start
    for running, runner in ends:
        await running.__aexit__(None, None, None)
        await runner.cleanup()


def answers(**paths: Any) -> Handler:
    """Data by the last word of the path; a callable gets the request."""

    async def handler(request: web.Request) -> web.StreamResponse:
        name = "names" if "__name__" in request.path else request.path.rsplit("/", 1)[-1]
        data = paths.get(name)
        if callable(data):
            data = data(await request.post())
        if data is None:
            return web.json_response({"status": "error", "error": "no such thing"}, status=404)
        return web.json_response({"status": "success", "data": data})

    return handler


def vector(*rows: tuple[dict[str, str], float]) -> dict[str, Any]:
    return {"resultType": "vector", "result": [{"metric": labels, "value": [0, str(n)]} for labels, n in rows]}


async def test_ten_thousand_metrics_stay_within_the_budget(served: Any) -> None:
    names = [f"{family}_metric_{n:05d}_with_a_long_name_total" for family in ("app", "db") for n in range(5_000)]
    metadata = {name: [{"type": "counter", "help": "words " * 50, "unit": ""}] for name in names}
    ask = await served(answers(names=names, metadata=metadata, query=vector()))
    page = (await ask("find_metrics", limit=500)).structured
    assert len(json.dumps(page)) < BUDGET
    assert page["page"]["total"] == 10_000
    assert page["page"]["truncated"] is True
    assert page["families"] == {"app": 5_000, "db": 5_000}
    following = (await ask("find_metrics", limit=500, cursor=page["page"]["next_cursor"])).structured
    assert following["items"][0]["name"] == names[page["page"]["returned"]]


async def test_a_large_metric_is_asked_and_not_read(served: Any) -> None:
    asked: list[str] = []

    def query(form: Any) -> Any:
        expr = str(form["query"])
        asked.append(expr)
        if label := re.fullmatch(r"count\(count by \((\w+)\) \(big\)\)", expr):
            return vector(({}, {"pod": 40_000, "zone": 3}[label[1]]))
        if label := re.fullmatch(r"topk\(5, count by \((\w+)\) \(big\)\)", expr):
            return vector(({label[1]: "b"}, 1), ({label[1]: "a" * 500}, 2))
        return vector(({}, SERIES_READ_MAX * 50))

    ask = await served(
        answers(
            names=["big"], metadata={"big": [{"type": "gauge", "help": ""}]}, query=query,
            labels=["__name__", "pod", "zone"], values=["big"],
        )
    )  # fmt: skip
    found = valid("describe_metric", (await ask("describe_metric", metric="big")).structured)
    assert [(row["name"], row["values"]) for row in found["labels"]] == [("zone", 3), ("pod", 40_000)]
    assert found["labels"][0]["examples"][0] == "a" * 80 + "..."
    assert any("pod (40000)" in warning for warning in found["warnings"])
    assert found["queries"][0]["expr"] == "avg by (zone) (big)"


def target(job: str, n: int, health: str, **more: Any) -> dict[str, Any]:
    return {
        "labels": {"job": job, "instance": f"10.0.0.{n}:80", "zone": "a"},
        "scrapePool": job,
        "scrapeUrl": f"http://10.0.0.{n}:80/metrics",
        "lastError": "connection refused" if health == "down" else "",
        "lastScrape": "2026-08-01T10:00:00.123456789+02:00",
        "lastScrapeDuration": 0.01,
        "scrapeInterval": "15s",
        "scrapeTimeout": "10s",
        "health": health,
    } | more


async def test_targets_that_are_down_come_first(served: Any) -> None:
    many = [target("web", n, "down" if n % 50 == 0 else "up") for n in range(2_000)]
    slow = target("slow", 1, "up", lastScrapeDuration=9.5)
    fresh = target("new", 1, "unknown", lastScrape="0001-01-01T00:00:00Z")
    secret = target("push", 1, "down", scrapeUrl="https://u:hunter2@h/m?token=hunter2&x=1",
                    lastError='Get "https://u:hunter2@h/m?token=hunter2&x=1": EOF')  # fmt: skip
    ask = await served(answers(targets={"activeTargets": [*many, slow, fresh, secret]}))
    reply = await ask("get_targets", limit=500)
    page = valid("get_targets", reply.structured)
    assert len(reply.body) < BUDGET * 2
    assert len(json.dumps(page)) < BUDGET
    assert page["counts"] == {"down": 41, "unknown": 1, "up": 1_961}
    assert [row["health"] for row in page["items"][:42]] == ["down"] * 41 + ["unknown"]
    assert page["jobs"][0] == {"job": "web", "up": 1_960, "down": 40, "unknown": 0}
    assert any("time-out" in warning for warning in page["warnings"])
    assert "hunter2" not in reply.body.decode()
    assert next(row for row in page["items"] if row["job"] == "push")["url"] == "https://***@h/m?token=***&x=1"
    assert next(row for row in page["items"] if row["job"] == "new").get("last_scrape") is None
    down = (await ask("get_targets", health=["down"], job="web", matchers=['instance=~"10.0.0.1?50:80"'])).structured
    assert [row["instance"] for row in down["items"]] == ["10.0.0.150:80", "10.0.0.50:80"]
    wrong = (await ask("get_targets", job="wab")).error
    assert (wrong.code, wrong.did_you_mean) == (ErrorCode.NOT_FOUND, ["web"])


def test_what_cannot_be_an_address_is_not_shown() -> None:
    assert "secret" not in masked("http://[secret")


async def test_broken_rules_come_first_and_late_groups_are_told(served: Any) -> None:
    rules: list[dict[str, Any]] = [
        {"type": "recording", "name": "job:up:sum", "query": "sum(up)", "health": "ok", "evaluationTime": 0.1},
        {"type": "alerting", "name": "Quiet", "query": "up == 0", "health": "ok", "state": "inactive", "duration": 60},
        {"type": "alerting", "name": "Broken", "query": "a * b", "health": "err", "lastError": "many-to-many"},
        *({"type": "alerting", "name": f"A{n}", "query": "x" * 900, "health": "ok"} for n in range(200)),
    ]
    group = {"name": "g", "interval": 15, "evaluationTime": 20.5, "rules": rules}
    ask = await served(answers(rules={"groups": [group]}))
    page = valid("get_rules", (await ask("get_rules", limit=500)).structured)
    assert len(json.dumps(page)) < BUDGET
    assert page["page"]["truncated"] is True
    assert (page["items"][0]["name"], page["items"][0]["error"]) == ("Broken", "many-to-many")
    assert page["counts"] == {"broken": 1, "inactive": 201, "recorded": 1}
    assert any("longer to evaluate" in warning for warning in page["warnings"])
    (record,) = (await ask("get_rules", state=["recorded"])).structured["items"]
    assert (record["name"], record["kind"]) == ("job:up:sum", "record")


async def test_a_system_without_metadata_is_searched_all_the_same(served: Any) -> None:
    ask = await served(answers(names=["up", "a_total"], query=vector(({"__name__": "up"}, 3))))
    page = (await ask("find_metrics")).structured
    assert [(row["name"], row["type"]) for row in page["items"]] == [("a_total", "counter"), ("up", "gauge")]
    assert any("types and help are not known" in warning for warning in page["warnings"])


async def test_a_system_that_only_answers_queries_says_so(served: Any) -> None:
    ask = await served(answers(query=vector()))
    for tool, what in (("get_targets", "no scrape targets"), ("get_rules", "no rules")):
        error = (await ask(tool)).error
        assert error.code is ErrorCode.NOT_FOUND
        assert what in error.message
        assert "Thanos" in error.hint


def plain(status: int, body: str, kind: str = "application/json") -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=kind)

    return handler


async def silent(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def breaking_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"status":')
    assert request.transport is not None
    request.transport.close()
    return answer


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (plain(429, "slow down", "text/plain"), "HTTP 429"),
        (plain(503, "", "text/plain"), "HTTP 503"),
        (plain(500, "boom", "text/plain"), "HTTP 500"),
        (plain(200, "<html>login</html>", "text/html"), "where JSON is expected"),
        (plain(200, '{"status": "success", "da'), "where JSON is expected"),
        (plain(200, "[]"), "another shape"),
        (plain(200, '{"status": "success", "data": {"groups": [1], "activeTargets": "x"}}'), "another shape"),
        (
            plain(200, '{"status": "success", "data": {"groups": [{"rules": [7]}], "activeTargets": [{"labels": 7}]}}'),
            "another shape",
        ),
        (breaking_off, "broke off"),
        (silent, "did not answer"),
    ],
)
async def test_each_fault_names_the_system(served: Any, handler: Handler, words: str) -> None:
    ask = await served(handler, query_timeout_s=1.0 if handler is silent else 30.0)
    tools = ("get_targets", "get_rules", "find_metrics", "describe_metric")
    calls = [ask(tool, **({"metric": "up"} if tool == "describe_metric" else {})) for tool in tools]
    for tool, reply in zip(tools, await asyncio.gather(*calls), strict=True):
        assert reply.error.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.BACKEND_ERROR), tool
        assert "Prometheus" in reply.error.message, tool
        assert words in reply.error.message, tool
        assert reply.error.hint, tool


def test_an_openmetrics_counter_has_its_help() -> None:
    facts = {"type": "counter", "help": "Jobs done."}
    (metric,) = metrics_of(["jobs_total"], {"jobs": facts})
    assert (metric.name, metric.help, metric.type) == ("jobs_total", "Jobs done.", "counter")


def test_a_summary_is_one_metric() -> None:
    found = metrics_of(["d", "d_sum", "d_count", "d_count_total"], {"d": {"type": "summary"}})
    assert [(metric.name, metric.series) for metric in found] == [
        ("d", ("d", "d_sum", "d_count")),
        ("d_count_total", ("d_count_total",)),
    ]
    assert min(search(found, "D_COUNT")[0], key=lambda item: item[0])[1].name == "d"
