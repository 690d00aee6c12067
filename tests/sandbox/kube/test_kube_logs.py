"""Pod logs: the windows one can ask for, the words of what one cannot, and lines that repeat from read to read."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from kubernetes.aio.client import ApiException

STAGING = "shop-staging"


@pytest.fixture
def speed():
    """As fast as life, so that the story stands still."""
    return 1.0


def named(cluster, app, namespace="shop", **status):
    pods = [p for p in cluster.store.list("pods", namespace) if p["metadata"]["labels"].get("app") == app]
    return [p["metadata"]["name"] for p in pods]


@pytest.fixture
def crashing(cluster):
    pods = [
        p["metadata"]["name"] for p in cluster.store.list("pods", "shop")
        if p["spec"]["containers"][0]["image"].endswith("checkout:v2.4.1")
    ]  # fmt: skip
    return pods[0]


async def log(api, name, namespace="shop", **options):
    # The client makes None of "no content": there is no node to ask.
    return (await api.core.read_namespaced_pod_log(name, namespace, **options) or "").splitlines()


async def test_tail_and_since(api, cluster):
    name = named(cluster, "catalog")[0]
    assert len(await log(api, name, tail_lines=7)) == 7
    assert await log(api, name, tail_lines=0) == []
    recent = await log(api, name, since_seconds=120, timestamps=True)
    assert recent
    oldest = datetime.fromisoformat(recent[0].split(" ")[0][:26] + "+00:00")
    assert datetime.now(UTC) - oldest < timedelta(seconds=130)
    moment = (datetime.now(UTC) - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    code, _, text = await api.raw("GET", f"/api/v1/namespaces/shop/pods/{name}/log?sinceTime={moment}")
    assert code == 200
    assert 0 < len(text.splitlines()) < len(recent)
    for _ in range(20):
        before = await log(api, name, limit_bytes=100)
        whole, begin = await log(api, name), await log(api, name, limit_bytes=100)
        if before == begin:
            break  # the oldest lines were not let go meanwhile, as they are when time passes
    assert len(whole) > 1000
    assert begin == "\n".join(whole)[:100].splitlines()


async def test_the_same_lines_each_time(api, cluster):
    name = named(cluster, "payments-api", "payments")[0]
    first = await log(api, name, "payments", since_seconds=300, timestamps=True)
    again = await log(api, name, "payments", since_seconds=300, timestamps=True)
    shared = first[first.index(again[0]) :]  # without what grew too old between the two
    assert shared
    assert again[: len(shared)] == shared
    times = [line.split(" ")[0] for line in first]
    assert times == sorted(times)


async def test_the_previous_run_ends_in_the_allocation_failure(api, crashing):
    lines = await log(api, crashing, previous=True, tail_lines=400)
    text = "\n".join(lines)
    assert "fatal error: runtime: cannot allocate memory" in lines
    assert lines[-2].startswith("shop.example/checkout/internal/payments")
    assert "cart snapshot serialised inline" in text
    assert "payments-api: context deadline exceeded after 2500ms" in text
    sizes = [json.loads(line)["cart_bytes"] for line in lines if "serialised inline" in line]
    assert sizes[-1] > 4 * sizes[0]
    # While the container waits to be started again, its last run is what there is to read.
    assert (await log(api, crashing, tail_lines=400)) == lines


async def test_healthy_checkout_does_not_grow(api, cluster, crashing):
    healthy = next(name for name in named(cluster, "checkout") if not name.startswith(crashing.rsplit("-", 1)[0]))
    text = "\n".join(await log(api, healthy, tail_lines=300))
    assert "serialised inline" not in text
    assert "request completed" in text
    assert "payments-api: context deadline exceeded" in text


async def test_there_is_something_to_mask(api, cluster):
    lines = await log(api, named(cluster, "payments-api", "payments")[0], "payments", tail_lines=300)
    tokens = [line for line in lines if re.search(r"Authorization.{1,6}Bearer eyJ", line)]
    assert tokens
    json.loads(tokens[0])


async def test_formats_differ(api, cluster):
    assert json.loads((await log(api, named(cluster, "cart")[0], tail_lines=1))[0])["level"]
    line = (await log(api, named(cluster, "frontend")[0], tail_lines=1))[0]
    assert re.match(r'^[\d.]+ - - \[.+\] "(GET|POST) ', line)


async def test_a_run_starts_with_its_first_words(api, cluster, make_pod, until):
    await api.core.create_namespaced_pod(STAGING, make_pod("web", "redis:7.2.5"))
    await until(lambda: cluster.store.get("pods", STAGING, "web")["status"]["phase"] == "Running")
    cart = make_pod("cart-x", "registry.shop.example/cart:v1.14.3")
    await api.core.create_namespaced_pod(STAGING, cart)
    await until(lambda: cluster.store.get("pods", STAGING, "cart-x")["status"]["phase"] == "Running")
    lines = await log(api, "cart-x", STAGING)
    assert json.loads(lines[0])["msg"] == "starting cart v1.14.3"
    assert any("redis://cart:hV7pQ2xLw9@redis" in line for line in lines)


async def test_follow_goes_on_until_the_pod_is_gone(api, cluster):
    name = named(cluster, "frontend", STAGING)[0]
    path = f"/api/v1/namespaces/{STAGING}/pods/{name}/log?follow=true&tailLines=1"
    lines = []
    async with asyncio.timeout(60), api.session.get(path) as answer:
        async for line in answer.content:
            lines.append(line)
            if len(lines) == 4:
                await api.core.delete_namespaced_pod(name, STAGING, grace_period_seconds=0)
    assert len(lines) >= 4
    assert len(set(lines)) == len(lines)


async def test_follow_obeys_its_limit(api, cluster):
    name = named(cluster, "frontend", STAGING)[0]
    async with asyncio.timeout(60):
        path = f"/api/v1/namespaces/{STAGING}/pods/{name}/log?follow=1&tailLines=1&limitBytes=250"
        _, _, text = await api.raw("GET", path)
    assert len(text) == 250


async def refused(awaitable):
    with pytest.raises(ApiException) as caught:
        await awaitable
    return json.loads(caught.value.body)


async def test_words(api, cluster, make_pod, until):
    pending = next(p["metadata"]["name"] for p in cluster.store.list("pods", "shop") if not p["spec"].get("nodeName"))
    assert await log(api, pending) == []
    healthy = named(cluster, "cart")[0]
    status = await refused(log(api, healthy, container="sidecar"))
    assert (status["code"], status["message"]) == (400, f"container sidecar is not valid for pod {healthy}")
    status = await refused(log(api, healthy, previous=True))
    assert status["message"] == f'previous terminated container "cart" in pod "{healthy}" not found'
    status = await refused(log(api, "ghost"))
    assert (status["code"], status["message"]) == (404, 'pods "ghost" not found')
    body = make_pod("two")
    body["spec"]["containers"].append({"name": "side", "image": "nginx:9.9"})
    body["spec"]["initContainers"] = [{"name": "first", "image": "busybox", "command": ["true"]}]
    await api.core.create_namespaced_pod(STAGING, body)
    await until(
        lambda: all(
            word in str(cluster.store.get("pods", STAGING, "two")["status"]) for word in ("ErrImagePull", "'running'")
        )
    )
    status = await refused(log(api, "two", STAGING))
    assert status["message"] == (
        "a container name must be specified for pod two, choose one of: [main side] "
        "or one of the init containers: [first]"
    )
    status = await refused(log(api, "two", STAGING, container="side"))
    assert status["code"] == 400
    assert status["message"] in (
        'container "side" in pod "two" is waiting to start: image can\'t be pulled',
        'container "side" in pod "two" is waiting to start: trying and failing to pull image',
    )
    assert await log(api, "two", STAGING, container="main", tail_lines=1)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("tailLines=few", 400, 'strconv.ParseInt: parsing "few": invalid syntax'),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds`"),
        ("sinceTime=yesterday", 400, 'parsing time "yesterday"'),
        ("sinceTime=2026-01-01", 400, "parsing time"),
        ("follow=maybe", 400, "strconv.ParseBool"),
    ],
)
async def test_bad_options(api, query, code, text):
    path = f"/api/v1/namespaces/{STAGING}/pods/redis-0/log?{query}"
    got, _, status = await api.raw("GET", path)
    assert got == code
    assert text in status["message"]
