"""k8s_can_i and k8s_list_clusters: who may do what, and which clusters answer."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build

from .conftest import RoughServer, identity, kubeconfig
from .test_k8s_reads import schema_of


@pytest.mark.parametrize(
    ("role", "arguments", "allowed"),
    [
        ("viewer", {"verb": "list", "kind": "pods"}, True),
        ("viewer", {"verb": "get", "kind": "pods/log", "namespace": "shop"}, True),
        ("viewer", {"verb": "patch", "kind": "deployments/scale", "namespace": "shop"}, False),
        ("operator", {"verb": "patch", "kind": "deployments/scale", "namespace": "shop"}, True),
        ("operator", {"verb": "patch", "kind": "deploy", "namespace": "shop", "name": "checkout"}, True),
        ("operator", {"verb": "get", "kind": "secrets", "namespace": "shop"}, False),
        ("admin", {"verb": "get", "kind": "secret", "namespace": "shop"}, True),
        ("admin", {"verb": "*", "kind": "*"}, False),
        ("viewer", {"verb": "get", "kind": "nodes"}, True),
        ("stranger", {"verb": "list", "kind": "pods", "namespace": "shop"}, False),
        ("operator", {"verb": "create", "kind": "pods/eviction", "namespace": "shop"}, True),
        ("admin", {"verb": "impersonate", "kind": "serviceaccounts", "namespace": "shop"}, False),
    ],
)
async def test_the_cluster_answers_for_the_caller(
    ask: Any, role: str, arguments: dict[str, Any], allowed: bool
) -> None:
    reply = await ask("can_i", role=role, **arguments)
    schema_of("can_i").validate(reply.structured)
    found = reply.structured
    assert (found["allowed"], found["by"]) == (allowed, "cluster")
    assert found["user"] == f"{role}@shop.example"
    assert found["groups"] == [f"opsbus:{role}"]
    assert reply.text.startswith("Yes" if allowed else "No")
    assert bool(found.get("hint")) is not allowed


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"verb": "list", "kind": "podds"}, ErrorCode.NOT_FOUND, "podds"),
        ({"verb": "get", "kind": "pods/logs"}, ErrorCode.NOT_FOUND, "logs"),
        ({"verb": "lst", "kind": "pods"}, ErrorCode.INVALID_ARGUMENTS, "lst"),
        ({"verb": "get", "kind": "nodes", "namespace": "shop"}, ErrorCode.INVALID_ARGUMENTS, "no namespace"),
        ({"verb": "get"}, ErrorCode.INVALID_ARGUMENTS, "kind"),
        ({"verb": "get", "kind": "../x"}, ErrorCode.INVALID_ARGUMENTS, "kind"),
        ({"verb": "GET it", "kind": "pods"}, ErrorCode.INVALID_ARGUMENTS, "verb"),
        ({"verb": "get", "kind": "pods", "user": "ann"}, ErrorCode.INVALID_ARGUMENTS, "user"),
    ],
)
async def test_what_cannot_be_asked(ask: Any, arguments: dict[str, Any], code: ErrorCode, word: str) -> None:
    error = (await ask("can_i", **arguments)).error
    assert error.code is code, error
    assert word in error.message
    assert error.hint


async def test_near_names_are_told(ask: Any) -> None:
    assert (await ask("can_i", verb="get", kind="pods/logs")).error.did_you_mean == ["pods/log"]
    assert (await ask("can_i", verb="lst", kind="pods")).error.did_you_mean[0] == "list"
    meant = (await ask("can_i", verb="get", kind="podds")).error.did_you_mean
    assert {"pods", "Pod"} & set(meant)


async def test_a_closed_namespace_is_a_no(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop"]):
        asked = {"verb": "get", "kind": "pods", "namespace": "payments"}
        found = (await caller.call("k8s", "can_i", asked, identity=identity("admin"))).structured
    assert (found["allowed"], found["by"]) == (False, "settings")


async def test_without_impersonation_the_answer_is_about_the_worker(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], impersonate=False):
        who = {"identity": identity("stranger")}
        may = (await caller.call("k8s", "can_i", {"verb": "list", "kind": "pods"}, **who)).structured
        may_not = (await caller.call("k8s", "can_i", {"verb": "list", "kind": "secrets"}, **who)).structured
    assert (may["allowed"], may_not["allowed"]) == (True, False)
    assert "user" not in may


class Reviewing:
    """An API server whose callers may not ask about themselves."""

    def __init__(self, self_status: int, status: int, body: Any) -> None:
        self.self_status, self.status, self.body = self_status, status, body
        self.asked: list[tuple[str, Any, Any]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path in ("/api", "/apis"):
            pods = {"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced", "verbs": ["get"]}
            items = [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [pods]}]}]
            found = items if request.path == "/api" else []
            return web.json_response({"kind": "APIGroupDiscoveryList", "items": found})
        code = self.self_status if request.path.endswith("/selfsubjectaccessreviews") else self.status
        self.asked.append((request.path, await request.json(), request.headers.get("Impersonate-User")))
        if code >= 400:
            return web.json_response({"kind": "Status", "code": code, "message": "no"}, status=code)
        return web.json_response({"kind": "SubjectAccessReview", "metadata": {}, **self.body}, status=code)


ASKED = {"verb": "get", "kind": "pods", "namespace": "shop"}


async def test_the_worker_asks_about_a_caller_who_may_not(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    rough.handler = reviewing = Reviewing(403, 201, {"status": {"allowed": True, "reason": "because"}})
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        reply = await caller.call("k8s", "can_i", ASKED, identity=identity("viewer"))
    assert (reply.structured["allowed"], reply.structured["reason"]) == (True, "because")
    (own, first, as_whom), (other, second, as_worker) = reviewing.asked
    assert own.endswith("/selfsubjectaccessreviews")
    assert (as_whom, as_worker) == ("viewer@shop.example", None)
    assert first["spec"] == {
        "resourceAttributes": {"verb": "get", "group": "", "resource": "pods", "namespace": "shop"}
    }
    assert other.endswith("/subjectaccessreviews")
    assert second["spec"]["user"] == "viewer@shop.example"
    assert second["spec"]["groups"] == ["opsbus:viewer", "system:authenticated"]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, {}, ErrorCode.FORBIDDEN),
        (410, {}, ErrorCode.BACKEND_ERROR),
        (500, {}, ErrorCode.BACKEND_ERROR),
        (503, {}, ErrorCode.BACKEND_UNAVAILABLE),
        (201, {}, ErrorCode.BACKEND_ERROR),
        (201, {"status": {"allowed": "true"}}, ErrorCode.BACKEND_ERROR),
    ],
)
async def test_no_answer_is_never_a_yes(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, status: int, body: Any, code: ErrorCode
) -> None:
    rough.handler = Reviewing(status, status, body)
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        error = (await caller.call("k8s", "can_i", ASKED, identity=identity("viewer"))).error
    assert error.code is code
    assert "lab" in error.message


async def test_a_denial_beats_an_allowance(rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path) -> None:
    rough.handler = Reviewing(201, 201, {"status": {"allowed": True, "denied": True}})
    async with run_worker(build(), kubeconfig=str(kubeconfig(tmp_path, {"lab": rough.url}))):
        found = (await caller.call("k8s", "can_i", ASKED, identity=identity("viewer"))).structured
    assert found["allowed"] is False


async def test_the_clusters_are_listed(ask: Any) -> None:
    reply = await ask("list_clusters", role="viewer")
    schema_of("list_clusters").validate(reply.structured)
    (lab,) = reply.structured["items"]
    assert (lab["name"], lab["default"], lab["reachable"]) == ("lab", True, True)
    assert lab["version"].startswith("v1.")
    assert (reply.structured["reachable"], reply.structured["default"]) == (1, "lab")
    assert "1 of 1 clusters answer" in reply.text
    assert (await ask("list_clusters", problem_only=True)).structured["items"] == []
    assert (await ask("list_clusters", cluster="lab")).error.code is ErrorCode.INVALID_ARGUMENTS
    assert (await ask("list_clusters", cursor="x")).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_dead_and_slow_clusters_hold_up_nobody(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    awake = asyncio.Event()

    async def serve(request: web.Request) -> web.Response:
        if request.path.startswith("/slow"):
            await awake.wait()
        if request.path.startswith("/html"):
            return web.Response(text="<html>welcome</html>", content_type="text/html")
        if request.path.startswith("/closed"):
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        return web.json_response({"gitVersion": "v1.34.2"})

    rough.handler = serve
    contexts = {"live": rough.url, "gone": "http://127.0.0.1:1", "html": f"{rough.url}/html"}
    contexts |= {f"slow{i}": f"{rough.url}/slow" for i in range(5)} | {"closed": f"{rough.url}/closed"}
    path = kubeconfig(tmp_path, contexts, current="live")
    async with run_worker(build(), kubeconfig=str(path), probe_timeout_s=5.0):
        begun = time.monotonic()
        found = (await caller.call("k8s", "list_clusters", {})).structured
        took = time.monotonic() - begun
        awake.set()
        pages = []
        cursor = None
        while True:
            page = (await caller.call("k8s", "list_clusters", {"limit": 4, "cursor": cursor})).structured
            pages += [row["name"] for row in page["items"]]
            cursor = page["page"]["next_cursor"]
            if cursor is None:
                break
    rows = {row["name"]: row for row in found["items"]}
    assert len(rows) == 9
    assert sorted(pages) == sorted(rows)
    assert [name for name, row in rows.items() if row["reachable"]] == ["live"]
    assert found["items"][-1]["name"] == "live"  # the ones in trouble come first
    # A machine that is slow itself passes the bound around the request before the request's own.
    assert re.search("in time|did not answer within", rows["slow0"]["reason"])
    assert "credentials" in rows["closed"]["reason"]
    assert "no Kubernetes object" in rows["html"]["reason"]
    assert "cannot be reached" in rows["gone"]["reason"]
    assert took < 20  # not five times 5


async def test_credentials_that_hang_are_told_within_the_probe(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.json_response({"gitVersion": "v1.34.2"})

    rough.handler = serve
    # A program that hands out a token at once the first time, and never again.
    program = tmp_path / "login.py"
    token = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    runs, hung, stop = tmp_path / "runs", tmp_path / "hung", tmp_path / "stop"
    program.write_text(
        "import pathlib, time\n"
        f"runs, hung, stop = map(pathlib.Path, {[str(runs), str(hung), str(stop)]!r})\n"
        "first = not runs.exists()\n"
        "runs.open('a').write('x')\n"
        "if not first and not stop.exists():\n"
        "    hung.open('a').write('x')\n"
        "    while not stop.exists():\n        time.sleep(0.05)\n"
        f"print({json.dumps(json.dumps(token))})\n"
    )
    path = kubeconfig(tmp_path, {"live": rough.url, "hangs": rough.url}, current="live")
    document = yaml.safe_load(path.read_text())
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(program)]}
    run["interactiveMode"] = "Never"
    document["users"].append({"name": "slow", "user": {"exec": run}})
    document["contexts"][1]["context"]["user"] = "slow"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setattr("opsbus_k8s_ops.kubeconfig.REFRESH_EVERY_S", 0.0)
    async with run_worker(build(), kubeconfig=str(path), probe_timeout_s=3.0):
        rows = {row["name"]: row for row in (await caller.call("k8s", "list_clusters", {})).structured["items"]}
        assert rows["live"]["reachable"]
        assert not rows["hangs"]["reachable"]
        assert "credentials" in rows["hangs"]["reason"]
        again = (await caller.call("k8s", "list_clusters", {})).structured
        assert again["reachable"] == 1
        stop.touch()
        async with asyncio.timeout(60):
            while (await caller.call("k8s", "list_clusters", {})).structured["reachable"] < 2:
                await asyncio.sleep(0.1)
    assert runs.read_text().count("x") >= 2
    assert hung.read_text() == "x"  # who waits again waits for the same program
