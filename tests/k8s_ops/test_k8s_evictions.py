"""Evictions against an API server that is overloaded, silent, forbidding or quick to change; and what a plan says."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus.testing.waiting import until
from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.draining import Drain
from opsbus_k8s_ops.drainplan import Choice, budget_warnings, confirmed_version, objections, plan_drain, pod_changes
from opsbus_k8s_ops.nodes import node_pod
from opsbus_k8s_ops.tool_cordon import uncordon_undo

from .conftest import RoughServer, kubeconfig

HELD = {
    "kind": "Status",
    "code": 429,
    "reason": "TooManyRequests",
    "message": "Cannot evict pod as it would violate the pod's disruption budget.",
    "details": {"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget a needs 2 healthy pods"}]},
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsbus_k8s_ops.draining.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("opsbus_k8s_ops.draining.ASK_AGAIN_S", 0.1)


def pod(name: str, namespace: str = "shop", owner: str | None = "ReplicaSet", **more: Any) -> dict[str, Any]:
    owners = [{"kind": owner, "name": f"{name}-rs", "uid": "o", "controller": True}] if owner else []
    found = {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "a:1"}]},
        "status": {"phase": "Running"},
    }
    for part, value in more.items():
        found[part] = {**found[part], **value}
    return found


class Node:
    """An API server with one node. ``answers`` says what evictions of a pod meet, one after the other; the last stays.

    An answer is a Status, ``ok`` (the pod is gone), ``slow`` (it goes on stopping), ``silent`` (the connection breaks,
    nothing was done), ``lost`` (it breaks, and it was done), ``replaced`` (by a pod of the same name).
    """

    def __init__(self, *pods: dict[str, Any], answers: dict[str, list[Any]] | None = None) -> None:
        self.pods = {found["metadata"]["name"]: found for found in pods}
        self.answers = answers or {}
        self.evicted: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.rehearsed: Counter[str] = Counter()
        self.dry_answers: dict[str, Any] = {}
        self.cordoned = False
        self.conflicts = 0
        self.blind_after: int | None = None
        self.looks = 0
        self.newcomer: dict[str, Any] | None = None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        path, dry_run = request.path, "dryRun" in request.query
        if path.endswith("/eviction"):
            name = path.split("/")[-2]
            body = await request.json()
            return self._rehearse(name) if dry_run else self._evict(request, name, body)
        if path.endswith("/nodes/n1"):
            if request.method == "PATCH" and not dry_run:
                if self.conflicts:
                    self.conflicts -= 1
                    return status(409, "the object has been modified")
                self.cordoned = True
            return web.json_response(self.node())
        if path == "/api/v1/pods":
            return self._list()
        return web.json_response({"items": []})

    def node(self) -> dict[str, Any]:
        spec = {"unschedulable": True} if self.cordoned else {}
        return {"kind": "Node", "metadata": {"name": "n1", "uid": "u", "resourceVersion": "1"}, "spec": spec}

    def _list(self) -> web.Response:
        self.looks += 1
        if self.cordoned and self.blind_after is not None and self.looks > self.blind_after:
            return status(403, "no more")
        if self.cordoned and self.newcomer:
            self.pods[self.newcomer["metadata"]["name"]] = self.newcomer
        return web.json_response({"items": list(self.pods.values())})

    def _rehearse(self, name: str) -> web.Response:
        self.rehearsed[name] += 1
        answer = self.dry_answers.get(name)
        return web.json_response(answer, status=answer["code"]) if answer else status(201, "")

    def _evict(self, request: web.Request, name: str, body: Any) -> web.StreamResponse:
        self.evicted[name] += 1
        self.bodies.append(body)
        answers = self.answers.get(name, ["ok"])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, dict):
            return web.json_response(answer, status=answer["code"])
        if answer == "slow":
            self.pods[name]["metadata"]["deletionTimestamp"] = "2026-11-20T10:00:00Z"
        if answer in ("ok", "lost"):
            del self.pods[name]
        if answer == "replaced":
            self.pods[name] = pod(name, metadata={"name": name, "namespace": "shop", "uid": "another"})
            return status(409, "Precondition failed: UID in precondition")
        if answer in ("lost", "silent"):
            assert request.transport is not None
            request.transport.abort()
        return status(201, "")


def status(code: int, message: str, reason: str = "") -> web.Response:
    return web.json_response(said(code, message, reason), status=code)


def said(code: int, message: str, reason: str = "") -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.fixture
def drained(rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path) -> Any:
    """Drains a node: asks for the plan, confirms it."""

    async def drain(server: Node, options: dict[str, Any] | None = None, **more: Any) -> Any:
        rough.handler = server
        arguments: dict[str, Any] = {"node": "n1", "reason": "kernel update", "wait_s": 60, **more}
        patient = {"deadline_s": 120.0, "timeout_s": 130.0} | (options or {})
        async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
            first = await caller.call("k8s", "drain_node", arguments)
            if first.error.code is not ErrorCode.CONFIRMATION_REQUIRED:
                return first
            arguments["confirm"] = first.error.details["confirm"]
            return await caller.call("k8s", "drain_node", arguments, **patient)

    return drain


async def test_a_pod_is_evicted_once_and_by_its_identity(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), pod("d", owner="DaemonSet"))
    done = (await drained(server)).structured
    assert (done["complete"], done["counts"]["gone"]) == (True, 2)
    assert server.evicted == {"a": 1, "b": 1}
    assert server.rehearsed == {"a": 2, "b": 2}, "with the plan, and again when it was confirmed"
    body = server.bodies[0]
    assert (body["apiVersion"], body["kind"]) == ("policy/v1", "Eviction")
    assert body["deleteOptions"]["preconditions"]["uid"] == f"uid-{body['metadata']['name']}"
    assert server.cordoned


async def test_what_a_budget_holds_is_asked_again(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), answers={"a": [HELD, HELD, HELD, "ok"]})
    done = (await drained(server)).structured
    assert done["complete"] is True
    assert server.evicted == {"a": 4, "b": 1}


async def test_budgets_that_hold_many_are_no_outage_and_what_stops_slowly_is_waited_for(drained: Any) -> None:
    names = [f"p{number}" for number in range(20)]
    server = Node(pod("slow"), *map(pod, names), answers={name: [HELD] for name in names} | {"slow": ["slow"]})
    done = (await drained(server, wait_s=10)).structured
    counts = done["counts"]
    assert (done["complete"], counts["blocked"], counts["stopping"]) == (False, 20, 1)
    assert all(row["reason"].startswith("The disruption budget a") for row in done["pods"][:20])
    assert server.evicted.pop("slow") == 1
    assert min(server.evicted.values()) >= 2
    assert not [warning for warning in done["warnings"] if "watched" in warning]


async def test_an_overloaded_server_is_asked_again(drained: Any) -> None:
    overload = said(429, "Too many requests, please try again later.", "TooManyRequests")
    server = Node(pod("a"), pod("b"), answers={"a": [overload, "ok"], "b": [said(503, "starting"), "ok"]})
    done = (await drained(server)).structured
    assert done["complete"] is True
    assert server.evicted == {"a": 2, "b": 2}


async def test_silence_is_never_answered_with_a_second_eviction(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), pod("c"), answers={"a": ["silent"], "b": ["lost"]})
    done = (await drained(server)).structured
    assert server.evicted == {"a": 1, "b": 1, "c": 1}
    assert (done["complete"], done["verified"]) == (False, False)
    assert (done["counts"]["gone"], done["counts"]["unknown"]) == (2, 1)
    (row,) = done["pods"]
    assert (row["name"], row["fate"]) == ("a", "unknown")
    assert "whether it happened is unknown" in row["reason"]
    assert done["next_call"]["tool"] == "k8s_drain_node"


async def test_what_the_cluster_refuses_for_good_is_told(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), answers={"a": [said(403, "b may not", "Forbidden")]})
    done = (await drained(server)).structured
    assert (done["complete"], done["counts"]["refused"], server.evicted["a"]) == (False, 1, 1)
    assert "b may not" in done["pods"][0]["reason"]


async def test_a_pod_of_the_same_name_is_another(drained: Any) -> None:
    server = Node(pod("a"), answers={"a": ["replaced"]})
    done = (await drained(server)).structured
    assert (done["complete"], done["verified"], server.evicted["a"]) == (True, False, 1)
    assert any("1 pods came since the plan" in warning for warning in done["warnings"])
    assert "a" in server.pods


async def test_a_pod_that_came_since_is_not_touched(drained: Any) -> None:
    server = Node(pod("a"))
    server.newcomer = pod("late")
    done = (await drained(server)).structured
    assert (done["complete"], done["verified"]) == (True, False)
    assert server.evicted == {"a": 1}
    assert any("shop/late" in warning for warning in done["warnings"])


async def test_the_calls_own_deadline_ends_it_with_an_answer(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), answers={"a": [HELD]})
    done = (await drained(server, {"deadline_s": 10.0}, wait_s=500)).structured
    assert (done["outcome"], done["complete"]) == ("done", False)
    assert done["waited_s"] < 10


async def test_when_the_pods_cannot_be_seen_any_more_it_ends(drained: Any) -> None:
    server = Node(pod("a"), pod("b"), answers={"a": [HELD]})
    server.blind_after = 3
    done = (await drained(server)).structured
    assert done["complete"] is False
    assert any("could not be watched" in warning for warning in done["warnings"])


async def test_a_conflict_at_the_cordon_leaves_the_pods_alone(drained: Any) -> None:
    server = Node(pod("a"))
    server.conflicts = 1
    reply = await drained(server, expected_version="1")
    assert reply.error.code is ErrorCode.CONFLICT
    assert (reply.executed, dict(server.evicted)) == ("no", {})


async def test_a_forbidden_eviction_is_known_before_anybody_is_asked(drained: Any) -> None:
    server = Node(pod("a"), pod("b"))
    server.dry_answers["b"] = said(403, "you may not evict", "Forbidden")
    reply = await drained(server)
    assert reply.error.code is ErrorCode.FORBIDDEN
    assert "you may not evict" in reply.error.message
    assert not server.cordoned


async def test_too_many_pods_are_no_plan_to_read(drained: Any) -> None:
    server = Node(*[pod(f"p{number}") for number in range(251)])
    reply = await drained(server)
    assert reply.error.code is ErrorCode.PRECONDITION_FAILED
    assert "251 pods" in reply.error.message
    assert not server.cordoned


async def test_a_plan_of_the_most_pods_fits_an_answer(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    names = [f"a-rather-long-workload-name-{number:03}-7d9f8c5b4-x7k2p" for number in range(250)]
    server = Node(*[pod(name, namespace=f"namespace-{index % 20}") for index, name in enumerate(names)])
    server.dry_answers = {names[7]: HELD, names[8]: said(500, "more than one PodDisruptionBudget")}
    rough.handler = server
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        asked = {"node": "n1", "reason": "kernel update", "dry_run": True}
        reply = await caller.call("k8s", "drain_node", asked)
    found = reply.structured
    assert [row["fate"] for row in found["pods"][:3]] == ["refused", "blocked", "goes"]
    assert found["pods_left_out"] == 250 - len(found["pods"])
    text = str(found["plan"]["changes"])
    assert all(name in text for name in names)


async def test_a_cancelled_drain_hears_what_it_asked(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsbus.call.GRACE_S", 60.0)
    monkeypatch.setattr("opsbus_k8s_ops.tool_drain.TELL_S", 10.0)
    monkeypatch.setattr("opsbus_k8s_ops.draining.EVICTIONS_AT_ONCE", 1)
    monkeypatch.setattr("opsbus_k8s_ops.draining.STOP_S", 30.0)
    drains: list[Drain] = []

    class Seen(Drain):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            drains.append(self)

    monkeypatch.setattr("opsbus_k8s_ops.tool_drain.Drain", Seen)
    server, asked, let_go = Node(pod("a"), pod("b"), pod("c")), asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/eviction") and "dryRun" not in request.query:
            asked.set()
            await let_go.wait()
        return await server(request)

    rough.handler = handler
    arguments: dict[str, Any] = {"node": "n1", "reason": "kernel update", "wait_s": 60}
    call_id = "a" * 32
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        first = await caller.call("k8s", "drain_node", arguments)
        arguments["confirm"] = first.error.details["confirm"]
        call = asyncio.create_task(caller.call("k8s", "drain_node", arguments, call_id=call_id))
        await asked.wait()
        await caller.cancel("k8s", call_id, "stop")
        await until(lambda: drains[0]._stopped, 30)
        let_go.set()
        reply = await call
    counts = reply.error.details["counts"]
    assert (counts["stopping"], counts["waiting"], counts["unknown"]) == (1, 2, 0), reply.error
    assert sum(server.evicted.values()) == 1
    assert reply.executed == "yes"


def test_what_a_pod_is_to_a_drain() -> None:
    mirror = pod("s", owner=None, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}})
    cases = {
        "managed": pod("a"),
        "unmanaged": pod("a", owner=None),
        "daemonset": pod("a", owner="DaemonSet"),
        "static": mirror,
        "finished": pod("a", owner=None, status={"phase": "Succeeded"}),
    }
    for part, obj in cases.items():
        assert node_pod(obj).part == part
    loose = pod("a", metadata={"ownerReferences": [{"kind": "Custom", "name": "x", "controller": False}]})
    assert node_pod(loose).part == "unmanaged"
    stored = pod("a", spec={"volumes": [{"name": "w", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}]})
    assert node_pod(stored).local_storage == ("w",)
    stored["status"]["phase"] = "Failed"
    assert node_pod(stored).local_storage == ()


def test_what_stops_already_is_nobodys_question() -> None:
    stopping = node_pod(pod("a", owner=None, metadata={"deletionTimestamp": "2026-11-20T10:00:00Z"}))
    object.__setattr__(stopping, "uid", "x")
    assert objections([stopping], Choice(force=False, delete_local_data=False)) == {}
    node: dict[str, Any] = {"metadata": {"uid": "n"}, "spec": {}}
    assert confirmed_version(node, [stopping]) == confirmed_version(node, [])
    assert confirmed_version(node, []) != confirmed_version({**node, "spec": {"unschedulable": True}}, [])


def test_every_pod_is_in_the_plan_however_many_namespaces() -> None:
    pods = [node_pod(pod(f"p{number}", namespace=f"ns-{number:02}")) for number in range(40)]
    changes = pod_changes(pods)
    assert len(changes) == 16
    assert all(any(f"p{number}" in str(change.before) for change in changes) for number in range(40))


def budget(name: str, expected: int, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"selector": {"matchLabels": labels}, **spec},
        "status": {"expectedPods": expected},
    }


async def test_a_plan_tells_of_budgets(rough: RoughServer) -> None:
    budgets = [
        budget("never", 2, {"app": "a"}, maxUnavailable=0),
        budget("some", 4, {"app": "b"}, minAvailable="50%"),
        budget("too", 4, {"app": "b"}, maxUnavailable=1),
        budget("elsewhere", 4, {"app": "z"}, maxUnavailable=1),
    ]

    async def handler(request: web.Request) -> web.Response:
        if "poddisruptionbudgets" in request.path:
            return web.json_response({"items": budgets})
        return web.json_response({"items": []})

    rough.handler = handler

    def of(name: str, app: str) -> Any:
        found = pod(name, metadata={"labels": {"app": app, "pod-template-hash": "h"}})
        found["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": f"{app}-h", "controller": True}]
        return node_pod(found)

    pods = [of("a1", "a"), of("b1", "b"), of("c1", "c"), of("c2", "c")]
    warnings = await budget_warnings(rough.api(), pods)
    text = " | ".join(warnings)
    assert "shop/never wants all of its 2 pods available: it never lets 1 pod here go" in text
    assert "shop/some (2 of 4 stay available)" in text
    assert "shop/b1 have more than one disruption budget" in text
    assert "go at once: shop/Deployment/c (2)" in text
    assert "elsewhere" not in text
    node = {"metadata": {"name": "n1", "uid": "u"}, "spec": {"unschedulable": True}}
    choice = Choice(force=False, delete_local_data=False)
    plan = await plan_drain(rough.api(), node, pods, choice, "why", uncordon_undo("n1", "why", None))
    assert plan.undo is None
    assert any("nothing to undo" in warning for warning in plan.warnings)

    async def forbidding(request: web.Request) -> web.Response:
        return status(403, "you may not list")

    rough.handler = forbidding
    (unread,) = await budget_warnings(rough.api(), pods)
    assert "disruption budgets were not looked at" in unread
