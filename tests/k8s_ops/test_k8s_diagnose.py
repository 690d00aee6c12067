"""k8s_diagnose_workload: the story told in one call, parts that cannot be read, and what is refused."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus_contracts import ErrorCode
from opsbus_k8s_ops.app import build
from opsbus_k8s_ops.eventrows import read_event
from opsbus_k8s_ops.findings import Parts, find
from opsbus_k8s_ops.podhealth import pod_health
from opsbus_k8s_ops.probes import probe_rows
from opsbus_k8s_ops.rollout import rollout_of

from .conftest import RoughServer, identity, kubeconfig
from .test_k8s_reads import schema_of

NOW = datetime.now(UTC)


async def test_the_story_is_told_in_one_call(ask: Any) -> None:
    reply = await ask("diagnose_workload", role="viewer", namespace="shop", workload="checkout", since="3h")
    schema_of("diagnose_workload").validate(reply.structured)
    found = reply.structured
    assert (found["healthy"], found["state"], found["workload"]) == (False, "stuck", "Deployment/checkout")
    assert len(json.dumps(found)) < 24_000
    first = found["findings"][0]
    assert first["level"] == "problem"
    assert "revision 14" in found["verdict"]
    assert "the rollout is the likely cause" in found["verdict"]
    # What changed and can kill for memory comes first.
    assert "resources.limits.memory: 512Mi -> 256Mi" in first["evidence"][0]
    said = " ".join(finding["what"] for finding in found["findings"])
    assert "OOMKilled" in said
    assert "readiness probe" in said
    assert "maximum of 6" in said
    assert found["pod_states"]["CrashLoopBackOff"] == len(found["pods"]) == 2
    assert found["owner"] == "checkout@shop.example"
    assert found["runbook"].startswith("https://runbooks")
    assert {event["reason"] for event in found["events"]} >= {"BackOff", "Unhealthy"}
    assert found["rollouts"][0]["revision"] == 14
    (readiness,) = [probe for probe in found["probes"] if probe["probe"] == "readiness"]
    assert readiness["check"] == "GET :8080/readyz"
    assert readiness["failed"] > 0
    assert found["logs"]
    assert all(tail["previous"] and 0 < len(tail["lines"]) <= 15 for tail in found["logs"])
    assert found["warnings"] == [] or all("more" in warning for warning in found["warnings"])
    assert any("k8s_get_pod_logs" in step for step in found["next_steps"])
    assert any("k8s_rollback_deployment" in step and "to_revision=13" in step for step in found["next_steps"])
    assert "[problem]" in reply.text
    assert "512Mi -> 256Mi" in reply.text
    assert b"frd_live" not in reply.body


async def test_a_pending_pod_is_explained(ask: Any) -> None:
    found = (await ask("diagnose_workload", namespace="shop", workload="recommendations", since="3h")).structured
    assert not found["healthy"]
    assert any("Unschedulable" in finding["what"] for finding in found["findings"])
    assert "Insufficient cpu" in json.dumps(found["findings"])


@pytest.mark.parametrize("workload", ["deployment/cart", "redis", "statefulset/redis"])
async def test_what_is_well_is_said_to_be(ask: Any, workload: str) -> None:
    found = (await ask("diagnose_workload", namespace="shop", workload=workload)).structured
    assert found["healthy"]
    assert not [finding for finding in found["findings"] if finding["level"] == "problem"]
    assert "logs" not in found
    assert found["verdict"]


async def test_logs_need_their_own_permission(ask: Any) -> None:
    who = identity("viewer").model_copy(update={"permissions": ["k8s:get"]})
    asked = {"namespace": "shop", "workload": "checkout"}
    found = (await ask("diagnose_workload", options={"identity": who}, **asked)).structured
    assert "logs" not in found
    assert any("k8s:logs" in warning for warning in found["warnings"])
    assert found["findings"]


async def test_no_logs_on_request(ask: Any) -> None:
    found = (await ask("diagnose_workload", namespace="shop", workload="checkout", log_lines=0)).structured
    assert "logs" not in found
    assert not any("log" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ({"workload": "chekout"}, ErrorCode.NOT_FOUND, "chekout"),
        ({"workload": "pod/x"}, ErrorCode.INVALID_ARGUMENTS, "pod"),
        ({"workload": "checkout", "namespace": "shopp"}, ErrorCode.NOT_FOUND, "shopp"),
        ({"workload": "checkout", "since": "long ago"}, ErrorCode.INVALID_ARGUMENTS, "since"),
        ({"workload": "checkout", "log_lines": 101}, ErrorCode.INVALID_ARGUMENTS, "log_lines"),
        ({"workload": "checkout", "name": "x"}, ErrorCode.INVALID_ARGUMENTS, "name"),
        ({}, ErrorCode.INVALID_ARGUMENTS, "workload"),
    ],
)
async def test_what_cannot_be_diagnosed(ask: Any, arguments: dict[str, Any], code: ErrorCode, word: str) -> None:
    error = (await ask("diagnose_workload", **{"namespace": "shop", **arguments})).error
    assert error.code is code, error
    assert word in error.message
    assert error.hint


async def test_rights_decide_on_a_diagnosis(ask: Any) -> None:
    error = (await ask("diagnose_workload", role="stranger", namespace="shop", workload="deployment/checkout")).error
    assert error.code is ErrorCode.FORBIDDEN


async def test_closed_namespaces_are_not_diagnosed(estate: Any, run_worker: Any, caller: Any) -> None:
    async with run_worker(build(), kubeconfig=str(estate.kubeconfig), contexts=["lab"], namespaces=["shop"]):
        asked = {"namespace": "payments", "workload": "ledger"}
        reply = await caller.call("k8s", "diagnose_workload", asked, identity=identity("operator"))
    assert reply.error.code is ErrorCode.FORBIDDEN


def workload(**status: Any) -> dict[str, Any]:
    container = {"name": "x", "image": "r/x:v1", "readinessProbe": {"tcpSocket": {"port": 80}}}
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "shop", "uid": "u", "generation": 1},
        "spec": {
            "replicas": 50,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {}, "spec": {"containers": [container]}},
        },
        "status": {"observedGeneration": 1, **status},
    }


def crashing(index: int, message: str = "boom") -> dict[str, Any]:
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": NOW.isoformat()}}
    status = {"name": "x", "state": state, "lastState": last, "restartCount": 5, "ready": False}
    return {
        "metadata": {"name": f"x-7d9f8c5b4-x7k{index:02d}", "namespace": "shop", "uid": str(index)},
        "spec": {"containers": [{"name": "x"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


class Troubled:
    """An API server with one workload in trouble; ``broken`` parts of it fail."""

    def __init__(self, broken: dict[str, int] | None = None) -> None:
        self.broken = broken or {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        last = request.path.rpartition("/")[2]
        if last in self.broken:
            if self.broken[last] == 0:
                await asyncio.sleep(60)
            code = self.broken[last]
            return web.json_response({"kind": "Status", "code": code, "message": "no"}, status=code)
        if last == "x":
            return web.json_response(workload(replicas=50))
        if last == "pods":
            return web.json_response({"items": [crashing(i, "m" * 2_000) for i in range(50)]})
        if last == "log":
            line = f"{NOW:%Y-%m-%dT%H:%M:%SZ} password=hunter2 {'y' * 3_000}\n"
            return web.Response(text=line * 200)
        if last == "events":
            about = {"kind": "Pod", "namespace": "shop", "name": "x-7d9f8c5b4-x7k2p"}
            told = [
                {
                    "metadata": {"uid": str(i)},
                    "involvedObject": about,
                    "type": "Warning",
                    "reason": f"Reason{chr(97 + i)}",
                    "message": "z" * 2_000,
                    "lastTimestamp": NOW.isoformat(),
                }
                for i in range(26)
            ]
            return web.json_response({"items": told})
        return web.json_response({"items": []})


async def diagnosed(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, broken: dict[str, int] | None = None, **more: Any
) -> Any:
    rough.handler = Troubled(broken)
    asked = {"namespace": "shop", "workload": "deployment/x", **more}
    timeout_s = 2.0 if 0 in (broken or {}).values() else 25.0  # what hangs is waited for
    path = kubeconfig(tmp_path, {"lab": rough.url})
    async with run_worker(build(), kubeconfig=str(path), request_timeout_s=timeout_s):
        return await caller.call("k8s", "diagnose_workload", asked)


async def test_a_lot_of_trouble_fits_the_budget_and_says_what_is_left_out(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path
) -> None:
    reply = await diagnosed(rough, run_worker, caller, tmp_path, log_lines=100)
    found = reply.structured
    assert len(json.dumps(found)) < 24_000
    assert b"hunter2" not in reply.body
    assert found["pod_states"] == {"CrashLoopBackOff": 50}
    told = " ".join(found["warnings"])
    assert "log lines were left out: k8s_get_pod_logs" in told
    assert "42 more pods" in told
    assert "14 more rows of events" in told
    assert all(len(line) < 400 for tail in found["logs"] for line in tail["lines"])


@pytest.mark.parametrize("code", [403, 410, 500, 503, 0])
@pytest.mark.parametrize("part", ["pods", "events", "replicasets", "horizontalpodautoscalers", "log"])
async def test_a_part_that_cannot_be_read_is_a_warning(
    rough: RoughServer,
    run_worker: Any,
    caller: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    code: int,
) -> None:
    monkeypatch.setattr("opsbus_k8s_ops.tool_diagnose.LOG_READ_S", 1.0)
    found = (await diagnosed(rough, run_worker, caller, tmp_path, {part: code})).structured
    assert found["findings"]
    assert any("read" in warning or "not shown" in warning for warning in found["warnings"]), found["warnings"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(403, ErrorCode.FORBIDDEN), (500, ErrorCode.BACKEND_ERROR), (0, ErrorCode.BACKEND_UNAVAILABLE)],
)
async def test_without_the_workload_there_is_nothing_to_say(
    rough: RoughServer, run_worker: Any, caller: Any, tmp_path: Path, code: int, expected: ErrorCode
) -> None:
    assert (await diagnosed(rough, run_worker, caller, tmp_path, {"x": code})).error.code is expected


def parts(obj: dict[str, Any], pods: list[Any] | None = None, events: list[Any] | None = None) -> Parts:
    judged = [(pod_health(pod, NOW), pod) for pod in pods or []]
    read = [read_event(event) for event in events or []]
    template = obj["spec"]["template"]["spec"]
    return Parts(obj, rollout_of(obj), judged, read, [], [], probe_rows(template, read), None, NOW)


def told(reason: str, message: str, kind: str = "Pod", **more: Any) -> dict[str, Any]:
    about = {"kind": kind, "name": "x", "namespace": "shop", "fieldPath": "spec.containers{x}"}
    when = (NOW - timedelta(minutes=5)).isoformat()
    event = {"involvedObject": about, "type": "Warning", "reason": reason, "message": message, "lastTimestamp": when}
    return {**event, "metadata": {}, **more}


ALL_WELL = {"replicas": 50, "updatedReplicas": 50, "readyReplicas": 50, "availableReplicas": 50}


@pytest.mark.parametrize(
    ("events", "level", "word"),
    [
        ([told("FailedCreate", "exceeded quota: shop-quota", "ReplicaSet")], "problem", "exceeded quota"),
        ([told("FailedMount", 'secret "db" not found')], "warning", "volume"),
        ([told("Unhealthy", "Readiness probe failed: refused", count=7)], "warning", "failed 7 times"),
        ([told("Pulled", "image pulled", type="Normal")], "note", "nothing that is wrong"),
        ([], "note", "nothing that is wrong"),
    ],
)
def test_events_become_findings(events: list[Any], level: str, word: str) -> None:
    first = find(parts(workload(**ALL_WELL), events=events))[0]
    assert first.level == level
    assert word in first.what


def test_rollouts_become_findings() -> None:
    paused = workload(**ALL_WELL)
    paused["spec"]["paused"] = True
    assert "paused" in find(parts(paused))[0].what
    none = workload()
    none["spec"]["replicas"] = 0
    assert "scaled to zero" in find(parts(none))[0].what
    failing = workload(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "password=hunter2 quota"}])
    first = find(parts(failing))[0]
    assert first.level == "problem"
    assert "hunter2" not in first.what


def test_pods_of_one_cause_are_one_finding() -> None:
    first = find(parts(workload(**ALL_WELL), [crashing(i) for i in range(5)]))[0]
    assert (first.level, first.what) == ("problem", "5 pods are CrashLoopBackOff (Error)")
    assert len(first.evidence or []) == 3


def test_probes_are_rows() -> None:
    template = {
        "containers": [
            {
                "name": "a",
                "livenessProbe": {"httpGet": {"port": 80, "path": "/h", "scheme": "HTTPS"}, "initialDelaySeconds": 5},
                "startupProbe": {"exec": {"command": ["redis-cli", "-a", "x", "--password=hunter2", "ping"]}},
                "readinessProbe": {"grpc": {"port": 9}},
            },
            {"name": "b", "readinessProbe": {"tcpSocket": {"port": "http"}}, "livenessProbe": {}},
        ]
    }
    rows = probe_rows(template, [])
    assert [(row.container, row.probe) for row in rows] == [
        ("a", "readiness"),
        ("a", "liveness"),
        ("a", "startup"),
        ("b", "readiness"),
    ]
    assert [row.check for row in rows[:2]] == ["grpc :9", "https GET :80/h"]
    assert "hunter2" not in rows[2].check
    assert (rows[1].delay_s, rows[1].period_s, rows[1].failed) == (5, 10, None)
