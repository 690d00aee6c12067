"""Watches: what they make of objects, how they start over, what reaches the stream, and that it is told once."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from opsbus import logs
from opsbus.runtime import Runtime
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_k8s_ops import watching
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.podhealth import pod_health
from opsbus_k8s_ops.telling import Telling
from opsbus_k8s_ops.watchfacts import Fact, Nodes, Pods, View, Workloads, slim_pod
from opsbus_k8s_ops.watching import Parts, Watch
from opsbus_k8s_ops.watchmetrics import WatchMetrics
from opsbus_k8s_ops.watchstream import (
    LINE_BYTES_MAX,
    BrokenWatchError,
    StaleWatchError,
    WatchRefusedError,
    watch_events,
)

from .conftest import RoughServer, Still, kubeconfig, still_cluster, still_store

WITHIN_S = 40


def deployment(name: str = "checkout", version: int = 1, uid: str = "", **status: Any) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {
            "namespace": "shop", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version),
            "annotations": {"deployment.kubernetes.io/revision": "3"},
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": "shop/app:1"}]}}},
        "status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2} | status,
    }  # fmt: skip


def pod(name: str = "p", *, ready: bool = True, age_s: float = 900, **status: Any) -> dict[str, Any]:
    born = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    return {
        "metadata": {
            "namespace": "shop", "name": name, "uid": f"uid-{name}", "resourceVersion": "5", "creationTimestamp": born,
            "labels": {"pod-template-hash": "7d9"}, "ownerReferences": [{"kind": "ReplicaSet", "name": "checkout-7d9"}],
        },
        "spec": {"containers": [{"name": "app", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]},
        "status": {
            "phase": "Running", "startTime": born,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": born}],
            "containerStatuses": [{"name": "app", "ready": ready, "restartCount": 0, "state": {"running": {}}}],
        } | status,
    }  # fmt: skip


def crashing(name: str = "p", cause: str = "OOMKilled") -> dict[str, Any]:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"reason": cause, "exitCode": 137, "finishedAt": datetime.now(UTC).isoformat()}}
    entry = {"name": "app", "ready": False, "restartCount": 9, "state": state, "lastState": last}
    return pod(name, ready=False, containerStatuses=[entry])


def kinds(facts: list[Fact]) -> list[str]:
    return [fact.kind for fact in facts]


def test_a_workload_is_told_when_what_is_told_changes() -> None:
    view = Workloads("lab", "deployment")
    [first] = view.seen(deployment())
    assert first.data == {
        "cluster": "lab", "namespace": "shop", "name": "checkout", "kind": "deployment", "images": ["shop/app:1"],
        "replicas": 2, "ready": 2, "revision": "3",
    }  # fmt: skip
    assert first.subject == "shop/checkout"
    assert view.seen(deployment(version=2, observedGeneration=7)) == []
    [changed] = view.seen(deployment(version=3, readyReplicas=1))
    assert changed.data["ready"] == 1
    assert changed.about == first.about
    assert changed.id != first.id
    assert Workloads("lab", "deployment").seen(deployment())[0].id == first.id, "every worker gives it the same id"
    assert Workloads("other", "deployment").seen(deployment())[0].id != first.id
    assert kinds(view.gone(deployment(version=4))) == ["workload_deleted"]
    assert view.gone(deployment(version=4)) == []
    assert kinds(view.seen(deployment(version=5, uid="another"))) == ["workload_seen"]


def test_what_went_unseen_is_told_by_a_listing() -> None:
    view = Workloads("lab", "deployment")
    for name in "abc":
        view.seen(deployment(name))
    gone = view.only([("shop", "b")])
    assert sorted(fact.data["name"] for fact in gone) == ["a", "c"]
    assert set(kinds(gone)) == {"workload_deleted"}
    assert len(view) == 1


def test_a_pod_is_told_on_a_change_of_state_alone() -> None:
    view = Pods("lab")
    assert view.seen(pod()) == []
    [fact] = view.seen(crashing())
    assert (fact.kind, fact.data["cause"], fact.data["state"]) == ("pod_unhealthy", "OOMKilled", "CrashLoopBackOff")
    assert fact.data["workload"] == "Deployment/checkout"
    assert "137" in fact.data["reason"]
    assert view.seen(crashing()) == []
    assert [one.data["cause"] for one in view.seen(crashing(cause="Error"))] == ["Error"]
    assert [(one.kind, one.data["reason"]) for one in view.seen(pod())] == [("pod_recovered", "Running")]
    assert view.seen(pod()) == []
    assert view.gone(pod()) == []
    view.seen(crashing())
    assert [(one.kind, one.data["reason"]) for one in view.gone(crashing())] == [("pod_recovered", "Deleted")]
    view.seen(crashing("a"))
    assert kinds(view.only([])) == ["pod_recovered"]


def test_a_pod_that_goes_to_and_fro_is_told_once() -> None:
    view, facts = Pods("lab"), list[Fact]()
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"):
        entry = {"name": "app", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}
        facts += view.seen(pod(ready=False, phase="Pending", containerStatuses=[entry]))
    assert [one.data["cause"] for one in facts] == ["ImagePullBackOff"]
    stopping = crashing()
    view.seen(stopping)
    stopping["metadata"]["deletionTimestamp"] = datetime.now(UTC).isoformat()
    assert [(one.kind, one.data["reason"]) for one in view.seen(stopping)] == [("pod_recovered", "Terminating")]
    assert view.gone(stopping) == []


def test_another_pod_of_the_same_name_is_another() -> None:
    view = Pods("lab")
    view.seen(crashing("db-0"))
    next_one = crashing("db-0")
    next_one["metadata"]["uid"] = "its successor"
    assert kinds(view.seen(next_one)) == ["pod_recovered", "pod_unhealthy"]


def test_time_alone_makes_a_pod_unhealthy_and_well() -> None:
    view = Pods("lab")
    assert view.seen(pod(ready=False, age_s=10)) == []
    now = datetime.now(UTC)
    assert view.later(now + timedelta(seconds=30)) == []
    [late] = view.later(now + timedelta(seconds=300))
    assert (late.kind, late.data["state"]) == ("pod_unhealthy", "NotReady")
    restarting = pod("r")
    restarting["status"]["containerStatuses"][0] |= {
        "restartCount": 5,
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": now.isoformat()}},
    }
    assert kinds(view.seen(restarting)) == ["pod_unhealthy"]
    assert kinds(view.later(now + timedelta(seconds=700))) == ["pod_recovered"]


def test_little_is_kept_of_five_thousand_pods() -> None:
    view = Pods("lab")
    for number in range(5_000):
        view.seen(pod(f"p-{number}"))
    assert len(view) == 0
    broken = crashing("x")
    broken["metadata"]["managedFields"] = [{"fieldsV1": {"f": "x" * 10_000}}]
    kept = json.dumps(slim_pod(broken))
    assert len(kept) < 1_500
    assert "hunter2" not in kept


def test_the_slim_pod_is_judged_as_the_whole_one() -> None:
    store = still_store()
    now, pods = store.clock.now(), store.list("pods")
    assert pods
    for each in [*pods, pod(), crashing(), pod(ready=False, age_s=10)]:
        assert pod_health(slim_pod(each), now) == pod_health(each, now)


def node(ready: bool, uid: str = "n", since: str = "2026-11-21T00:00:00Z") -> dict[str, Any]:
    state = {"type": "Ready", "status": "True" if ready else "Unknown", "reason": "NodeStatusUnknown"}
    return {
        "metadata": {"name": "node-1", "uid": uid},
        "status": {"conditions": [state | {"lastTransitionTime": since}]},
    }


def test_nodes() -> None:
    view = Nodes("lab")
    assert kinds(view.seen(node(ready=True))) == ["node_ready"], "at first how it is"
    assert view.seen(node(ready=True)) == []
    [fact] = view.seen(node(ready=False))
    assert (fact.kind, fact.data) == (
        "node_not_ready", {"cluster": "lab", "name": "node-1", "reason": "NodeStatusUnknown"},
    )  # fmt: skip
    assert view.seen(node(ready=False)) == []
    assert kinds(view.seen(node(ready=True))) == ["node_ready"]
    view.again()
    assert kinds(view.seen(node(ready=True))) == ["node_ready"]
    view.seen(node(ready=False))
    assert kinds(view.seen(node(ready=True, uid="another"))) == ["node_ready", "node_ready"]
    view.seen(node(ready=False, uid="another"))
    assert [(one.kind, one.data["reason"]) for one in view.only([])] == [("node_ready", "Deleted")]
    assert kinds(Nodes("lab").seen(node(ready=False))) == ["node_not_ready"]


class Bytes:
    """A body that comes in these pieces, then is silent, or ends."""

    def __init__(self, *pieces: bytes, ends: bool = True, drip: bytes = b"") -> None:
        self._pieces = list(pieces)
        self._ends = ends
        self._drip = drip

    async def readany(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._ends:
            return b""
        await asyncio.sleep(0.02 if self._drip else 3600)
        return self._drip


def event(kind: str, version: int, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": str(version)}} | more}).encode()


async def read(*pieces: bytes, **how: Any) -> list[str]:
    return [kind async for kind, _ in watch_events(Bytes(*pieces, **how), 0.2)]  # type: ignore[arg-type]


async def test_events_are_read_however_they_are_cut() -> None:
    whole = event("ADDED", 1) + b"\n" + event("BOOKMARK", 2) + b"\n\n" + event("DELETED", 3) + b"\n"
    expected = ["ADDED", "BOOKMARK", "DELETED"]
    assert await read(whole) == expected
    assert await read(*(whole[i : i + 7] for i in range(0, len(whole), 7))) == expected


@pytest.mark.parametrize(
    ("pieces", "how", "error"),
    [
        ((b"<html>\nSign in\n",), {}, BrokenWatchError),
        ((b'{"type": "ADDED"}\n',), {}, BrokenWatchError),
        ((b'{"type": "PATCHED", "object": {"metadata": {}}}\n',), {}, BrokenWatchError),
        ((b"[]\n",), {}, BrokenWatchError),
        ((event("ADDED", 1)[:20],), {}, BrokenWatchError),
        ((b"x" * (LINE_BYTES_MAX + 1),), {"ends": False}, BrokenWatchError),
        ((b'{"type": "ERROR", "object": {"kind": "Status", "code": 410}}\n',), {}, WatchRefusedError),
        ((), {"ends": False}, StaleWatchError),
        ((), {"ends": False, "drip": b"\n"}, StaleWatchError),
        ((), {"ends": False, "drip": b" "}, StaleWatchError),
    ],
)
async def test_what_is_no_watch(pieces: tuple[bytes, ...], how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await read(*pieces, **how)


class Heard:
    """Takes facts in place of the stream."""

    def __init__(self) -> None:
        self.facts: list[tuple[Fact, bool]] = []

    def add(self, facts: list[Fact], *, first: bool = False) -> None:
        self.facts += [(fact, first) for fact in facts]

    def told(self) -> list[tuple[str, str]]:
        return [(fact.kind, fact.data["name"]) for fact, _ in self.facts]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(watching, "BACKOFF_MAX_S", 0.1)


@asynccontextmanager
async def watch_of(rough: RoughServer, view: View, stale_s: float = 30) -> AsyncIterator[tuple[Watch, Heard]]:
    heard = Heard()
    parts = Parts(heard, WatchMetrics(), logs.get("k8s"), stale_s, 1_000, 2)  # type: ignore[arg-type]
    watch = Watch(
        rough.api(), "deployments", None, view, parts,
        wanted=lambda name: name != "closed", listing=asyncio.Lock(), moved=lambda: None,
    )  # fmt: skip
    running = asyncio.create_task(watch.run())
    try:
        yield watch, heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.02)


Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listing(version: int, *names: str, token: str = "") -> Step:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert "watch" not in request.query
        items = [deployment(name, version) for name in names]
        return web.json_response({"metadata": {"resourceVersion": str(version), "continue": token}, "items": items})

    return answer


def watched(since: int, *lines: bytes, stays: bool = False) -> Step:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        assert request.query["allowWatchBookmarks"] == "true"
        assert request.query["resourceVersion"] == str(since)
        assert int(request.query["timeoutSeconds"]) > 60
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"".join(line + b"\n" for line in lines))
        if stays:
            await asyncio.sleep(3600)
        return response

    return answer


def refused(code: int) -> Step:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": code, "message": "no", "metadata": {}}, status=code)

    return answer


def line(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def script(rough: RoughServer, *steps: Step) -> list[str]:
    """Answers in this order; what was wrong with a request is in the list returned."""
    left, wrong = list(steps), list[str]()

    async def serve_next(request: web.Request) -> web.StreamResponse:
        if not left:
            await asyncio.sleep(3600)
        try:
            return await left.pop(0)(request)
        except AssertionError as error:
            wrong.append(f"{request.path_qs}: {error}")
            raise

    rough.handler = serve_next
    return wrong


@pytest.mark.usefixtures("quick")
async def test_a_bookmark_is_where_the_next_watch_begins_and_410_lists_again(rough: RoughServer) -> None:
    gone = b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}'
    wrong = script(
        rough,
        listing(10, "a", "b", token="next"), listing(10, "c"),
        watched(10, line("MODIFIED", deployment("a", 11, readyReplicas=1)), event("BOOKMARK", 20)),
        refused(410),  # of the watch from 20, which nobody checks here
        listing(30, "a", "c"),
        watched(30, line("DELETED", deployment("c", 31)), gone),
        listing(40, "a", "d"),
        watched(40, line("ADDED", deployment("e", 41)), stays=True),
    )  # fmt: skip
    async with watch_of(rough, Workloads("lab", "deployment")) as (watch, heard):
        await until(lambda: ("workload_seen", "e") in heard.told())
        assert watch.open
        assert not wrong
    assert rough.requests[3].query["resourceVersion"] == "20"
    assert heard.told() == [
        ("workload_seen", "a"), ("workload_seen", "b"), ("workload_seen", "c"), ("workload_seen", "a"),
        ("workload_seen", "a"), ("workload_deleted", "b"), ("workload_deleted", "c"), ("workload_seen", "d"),
        ("workload_seen", "e"),
    ]  # fmt: skip
    assert [first for _, first in heard.facts] == [True] * 3 + [False] * 6


@pytest.mark.usefixtures("quick")
async def test_what_runs_is_told_again_after_hours_and_can_wait(
    rough: RoughServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "AGAIN_S", 0.0)
    script(
        rough, listing(10, "a", "b"), watched(10, line("MODIFIED", deployment("a", 11, readyReplicas=1))),
        listing(20, "b"), watched(20, stays=True),
    )  # fmt: skip
    async with watch_of(rough, Workloads("lab", "deployment")) as (_, heard):
        await until(lambda: ("workload_deleted", "a") in heard.told())
    assert [name for kind, name in heard.told() if kind == "workload_seen"] == ["a", "b", "a", "b"]
    assert [first for fact, first in heard.facts if fact.data["name"] == "b"] == [True, True]


@pytest.mark.usefixtures("quick")
async def test_a_silent_watch_is_given_up_and_the_list_tells_what_it_kept_back(rough: RoughServer) -> None:
    wrong = script(
        rough, listing(10, "a", "b"), watched(10, stays=True), listing(20, "b", "c"), watched(20, stays=True),
    )  # fmt: skip
    began = time.monotonic()
    async with watch_of(rough, Workloads("lab", "deployment"), stale_s=1.0) as (_, heard):
        await until(lambda: ("workload_seen", "c") in heard.told())
        assert time.monotonic() - began >= 1.0
        assert not wrong
    assert ("workload_deleted", "a") in heard.told()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("first", [refused(500), refused(503), refused(401)])
async def test_a_cluster_that_fails_is_asked_again(rough: RoughServer, first: Step) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    script(rough, first, page, page, listing(10, "a"), page, listing(11, "a", "b"), watched(11, stays=True))
    async with watch_of(rough, Workloads("lab", "deployment")) as (watch, heard):
        await until(lambda: ("workload_seen", "b") in heard.told())
        await until(lambda: watch.open)


@pytest.mark.usefixtures("quick")
async def test_a_broken_connection_goes_on_where_it_was(rough: RoughServer) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("ADDED", deployment("b", 15)) + b"\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    wrong = script(rough, listing(10, "a"), broken, watched(15, line("ADDED", deployment("c", 16)), stays=True))
    async with watch_of(rough, Workloads("lab", "deployment")) as (_, heard):
        await until(lambda: ("workload_seen", "c") in heard.told())
    assert not wrong
    assert [name for _, name in heard.told()] == ["a", "b", "c"]


@pytest.mark.usefixtures("quick")
async def test_a_kind_that_may_not_be_watched_is_tried_rarely(
    rough: RoughServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "REFUSED_RETRY_S", 0.3)
    script(rough, refused(403), refused(403), refused(403), listing(10, "a"), watched(10, stays=True))
    async with watch_of(rough, Workloads("lab", "deployment")) as (_, heard):
        await until(lambda: len(rough.requests) == 2)
        assert heard.told() == []
        await until(lambda: ("workload_seen", "a") in heard.told())
    assert [record.getMessage() for record in caplog.records].count("watch_refused") == 1


async def stored(bus: Bus, subject: str = "event.k8s.>") -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of every event on the stream."""
    js = await bus.jetstream()
    info = await js.stream_info("EVENTS")
    found = []
    for sequence in range(info.state.first_seq or 1, info.state.last_seq + 1):
        message = await js.get_msg("EVENTS", sequence)
        body = json.loads(message.data or b"{}")
        found.append((str(message.subject).removeprefix("event.k8s."), body["data"]))
    return found


def fact(name: str, data: int = 0) -> Fact:
    return Fact("workload_seen", {"namespace": "shop", "name": name, "n": data}, ("lab", name), f"{name}-{data}")


@asynccontextmanager
async def telling_on(bus: Bus, per_s: float = 1_000) -> AsyncIterator[Telling]:
    js = (await bus.connect("k8s")).jetstream()
    count = WatchMetrics()
    telling = Telling(
        js, "k8s", "k8s-1", logs.get("k8s"), per_s=per_s,
        told=lambda kind: count.events.labels(kind).inc(), lost=lambda kind: count.lost.labels(kind).inc(),
    )  # fmt: skip
    running = asyncio.create_task(telling.run())
    try:
        yield telling
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_facts_are_told_at_a_pace_changes_first_and_the_newest_alone(bus: Bus) -> None:
    async with telling_on(bus, per_s=40) as telling:
        began = time.monotonic()
        telling.add([fact(f"listed-{number}") for number in range(80)], first=True)
        telling.add([fact("listed-79", 1), fact("changed", 1)])
        telling.add([fact("changed", 2)])
        assert telling.pending == 81
        await until(lambda: not telling.pending)
        assert time.monotonic() - began > 1.0, "81 facts, 20 of them at once, the others 40 a second"
    told = await stored(bus)
    names = [(data["name"], data["n"]) for _, data in told]
    assert names[:2] == [("listed-79", 1), ("changed", 2)]
    assert len(names) == 81


async def test_facts_wait_for_a_stream_that_is_missing(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    js = await bus.jetstream()
    config = (await js.stream_info("EVENTS")).config
    await js.delete_stream("EVENTS")
    async with telling_on(bus) as telling:
        telling.add([fact("a"), fact("b")])
        await until(lambda: any("event_not_stored" in record.getMessage() for record in caplog.records))
        await asyncio.sleep(1.0)
        assert telling.pending == 2
        await js.add_stream(config)
        await until(lambda: not telling.pending)
    assert [data["name"] for _, data in await stored(bus)] == ["a", "b"]
    assert [record.getMessage() for record in caplog.records].count("event_not_stored") == 1


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[Still]:
    async with still_cluster(tmp_path, still_store(), bookmark_every_s=0.2) as made:
        yield made


def figures(runtime: Runtime, name: str) -> dict[str, float]:
    text = runtime.metrics.text().decode()
    return {
        sample.labels.get("reason") or sample.labels.get("resource") or sample.labels.get("kind") or "": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def changed_image(estate: Still, name: str, image: str, namespace: str = "shop") -> None:
    there = estate.store.get("deployments", namespace, name)
    assert there is not None
    changed = copy.deepcopy(there)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
    estate.store.update("deployments", changed)


async def all_open(*running: Runtime) -> None:
    for one in running:
        await until(
            lambda one=one: len(found := figures(one, "opsbus_k8s_watch_open")) == 5 and all(found.values())  # type: ignore[misc]
        )
        await until(lambda one=one: figures(one, "opsbus_k8s_events_pending") == {"": 0})  # type: ignore[misc]


async def test_two_workers_tell_each_fact_once(bus: Bus, still: Still, run_worker: RunWorker) -> None:
    settings = {"kubeconfig": str(still.kubeconfig), "watch": True}
    async with run_worker(build(), **settings) as one, run_worker(build(), **settings) as other:
        await all_open(one, other)
        workloads = {
            (data["kind"], data["namespace"], data["name"]): data
            for kind, data in await stored(bus)
            if kind == "workload_seen"
        }
        resources = {"deployments": "deployment", "statefulsets": "statefulset", "daemonsets": "daemonset"}
        there = {
            (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
            for resource, kind in resources.items()
            for obj in still.store.list(resource)
        }
        assert set(workloads) == there
        unhealthy = [data for kind, data in await stored(bus) if kind == "pod_unhealthy"]
        assert unhealthy, "the estate's trouble"
        changed_image(still, "cart", "shop/cart:v9")
        still.store.delete("deployments", "shop-staging", "cart")

        async def told() -> list[tuple[str, dict[str, Any]]]:
            return [
                (kind, data)
                for kind, data in await stored(bus)
                if kind == "workload_deleted" or data.get("images") == ["shop/cart:v9"]
            ]

        async with asyncio.timeout(WITHIN_S):
            while len({kind for kind, _ in await told()}) < 2:
                await asyncio.sleep(0.1)
        await all_open(one, other)
        found = await told()
        seen = [json.dumps(data, sort_keys=True) for _, data in found]
        assert len(seen) == len(set(seen)), "each once, by two workers"
        assert ("workload_deleted", {
            "cluster": "lab", "namespace": "shop-staging", "name": "cart", "kind": "deployment",
        }) in found  # fmt: skip
        assert figures(one, "opsbus_k8s_watch_age_seconds")["pods"] < 30
        assert figures(one, "opsbus_k8s_events_total")["workload_seen"] > 3


async def test_a_compacted_history_is_listed_again_and_one_kind_may_be_closed(
    bus: Bus, still: Still, run_worker: RunWorker, caller: Caller
) -> None:
    role = still.store.get("clusterroles", "", "opsbus-platform")
    assert role is not None
    without = copy.deepcopy(role)
    for rule in without["rules"]:
        rule["resources"] = [name for name in rule["resources"] if name != "statefulsets"]
    still.store.update("clusterroles", without)
    settings = {"kubeconfig": str(still.kubeconfig), "watch": True, "impersonate": False}
    async with run_worker(build(), **settings) as running:
        await until(lambda: sum(figures(running, "opsbus_k8s_watch_open").values()) == 4)
        await until(lambda: figures(running, "opsbus_k8s_events_pending") == {"": 0})
        assert not any(data.get("kind") == "statefulset" for _, data in await stored(bus))
        # Nobody hears of what happens now: the log is cut before a watch can read it.
        still.store.delete("deployments", "shop", "cart")
        changed_image(still, "recommendations", "shop/recommendations:v9")
        still.store.compact()
        async with asyncio.timeout(WITHIN_S):
            while True:
                events = await stored(bus)
                told = {(kind, data.get("name")) for kind, data in events}
                images = [data["images"] for kind, data in events if kind == "workload_seen"]
                if ("workload_deleted", "cart") in told and ["shop/recommendations:v9"] in images:
                    break
                await asyncio.sleep(0.1)
        assert figures(running, "opsbus_k8s_watch_restarts_total")["expired"] >= 1
        assert (await caller.call("k8s", "get_deployments", {"namespaces": ["shop"]})).status == "ok"


async def test_readers_of_the_clusters_are_told_when_one_changes(
    bus: Bus, rough: RoughServer, run_worker: RunWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PROBE_AFTER_S", 0.05)
    monkeypatch.setattr(watching, "BACKOFF_MAX_S", 0.5)
    version = "v1.36.0"

    async def serve_all(request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"gitVersion": version})
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(0.3)
        return response

    rough.handler = serve_all
    path = kubeconfig(tmp_path, {"lab": rough.url})
    async with run_worker(build(), kubeconfig=str(path), watch=True, watch_namespaces=["a", "b"]):
        await until(lambda: sum(request.path == "/version" for request in rough.requests) > 2)
        await until(lambda: any("/namespaces/b/pods" in request.path for request in rough.requests))
        assert not any("/nodes" in request.path for request in rough.requests)
        version = "v1.37.0"
        async with asyncio.timeout(WITHIN_S):
            while not await stored(bus):
                await asyncio.sleep(0.1)
        assert (await stored(bus))[0] == ("resource_updated", {"uri": "enterprise://k8s/clusters"})
