"""The Prometheus face: the story it tells, and what it refuses."""

import asyncio
import time
import tracemalloc
from typing import Any

import pytest

from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.metrics.sampler import Sampler
from opsbus_sandbox.promql.database import Database


async def test_checkout_is_in_trouble_and_the_rest_is_not(api: Any) -> None:
    expr = (
        'sum by (service) (rate(http_requests_total{namespace="shop",code=~"5.."}[5m]))'
        ' / sum by (service) (rate(http_requests_total{namespace="shop"}[5m]))'
    )
    shares = {item["metric"]["service"]: float(item["value"][1]) for item in await api.vector(expr)}
    assert shares["checkout"] > 0.05
    assert all(share < 0.03 for service, share in shares.items() if service != "checkout")


async def test_the_trouble_began_twenty_minutes_ago(api: Any) -> None:
    now = time.time()
    params = {
        "query": 'sum(rate(http_requests_total{namespace="shop",service="checkout",code="503"}[5m]))',
        "start": str(now - 2 * 3600),
        "end": str(now),
        "step": "60s",
    }
    status, body = await api.call("GET", "/api/v1/query_range", params=params)
    assert status == 200
    points = [(float(t), float(v)) for t, v in body["data"]["result"][0]["values"]]
    before = max(v for t, v in points if t < now - 26 * 60)
    after = min(v for t, v in points if t > now - 10 * 60)
    assert after > 5 * before


async def test_queries_by_post_and_by_get_agree(api: Any) -> None:
    expr, when = 'count(up{job!="opsbus"})', str(time.time())
    got = await api.call("GET", "/api/v1/query", params={"query": expr, "time": when})
    posted = await api.call("POST", "/api/v1/query", data={"query": expr, "time": when})
    assert got == posted


@pytest.mark.parametrize(
    ("path", "params", "status", "kind", "words"),
    [
        ("query", {"query": "foo("}, 400, "bad_data", "parse error"),
        ("query", {"query": ""}, 400, "bad_data", "parse error"),
        ("query", {"query": "nosuch(up)"}, 400, "bad_data", "nosuch"),
        ("query", {"query": "holt_winters(up[5m], 0.1, 0.1)"}, 400, "bad_data", "holt_winters"),
        ("query", {"query": "up", "time": "yesterday"}, 400, "bad_data", "yesterday"),
        ("query", {"query": 'up{job="a" or job="b"}'}, 400, "bad_data", "supported"),
        ("query", {"query": "kube_deployment_spec_replicas + on(namespace) kube_deployment_spec_replicas"}, 422,
         "execution", "many-to-many"),
        ("query_range", {"query": "up", "start": "0", "end": "20000", "step": "1"}, 400, "bad_data", "11,000"),
        ("query_range", {"query": "up", "start": "10", "end": "0", "step": "1"}, 400, "bad_data", "before start"),
        ("query_range", {"query": "up", "start": "0", "end": "10", "step": "0"}, 400, "bad_data", "zero or negative"),
        ("query_range", {"query": "up", "start": "0", "end": "10", "step": "soon"}, 400, "bad_data", "soon"),
        ("query_range", {"query": "up[5m]", "start": "0", "end": "10", "step": "1"}, 400, "bad_data", "range query"),
        ("series", {}, 400, "bad_data", "match[]"),
        ("label/9bad/values", {}, 400, "bad_data", "9bad"),
    ],
)  # fmt: skip
async def test_wrong_queries_are_refused_in_prometheus_words(
    api: Any, path: str, params: dict[str, str], status: int, kind: str, words: str
) -> None:
    got, body = await api.call("GET", f"/api/v1/{path}", params=params)
    assert (got, body["status"], body["errorType"]) == (status, "error", kind)
    assert words in body["error"]


async def test_deep_nesting_is_an_error_and_no_crash(api: Any) -> None:
    status, body = await api.call("POST", "/api/v1/query", data={"query": "(" * 3000 + "1" + ")" * 3000})
    assert status in (200, 400)
    assert body["status"] in ("success", "error")


async def test_series_labels_metadata_and_rules(api: Any) -> None:
    _, series = await api.call(
        "GET", "/api/v1/series", params={"match[]": 'kube_deployment_spec_replicas{deployment="cart"}'}
    )
    assert {item["deployment"] for item in series["data"]} == {"cart"}
    _, names = await api.call("GET", "/api/v1/label/__name__/values")
    assert "http_requests_total" in names["data"]
    _, metadata = await api.call("GET", "/api/v1/metadata", params={"metric": "up"})
    assert metadata["data"]["up"][0]["type"] == "gauge"
    _, rules = await api.call("GET", "/api/v1/rules")
    assert {rule["health"] for rule in rules["data"]["groups"][0]["rules"]} == {"ok"}


async def test_a_pod_that_goes_takes_its_series_along(api: Any) -> None:
    pod = api.store.list("pods", "shop-staging")[0]["metadata"]["name"]
    expr = f'kube_pod_status_ready{{pod="{pod}"}}'
    assert await api.vector(expr)
    api.store.delete("pods", "shop-staging", pod)
    async with asyncio.timeout(30):
        while await api.vector(expr):
            await asyncio.sleep(0.1)


def test_history_is_written_quickly_and_small() -> None:
    store = ObjectStore(Clock())
    build_estate(store)
    tracemalloc.start()
    begun = time.perf_counter()
    database = Database()
    Sampler(store, database).backfill()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"history: {len(database)} series, {size / 1e6:.1f} MB, {time.perf_counter() - begun:.2f} s (traced)")
    assert size < 60e6
