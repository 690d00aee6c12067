"""Verdicts on pods and rollouts, from statuses as real API servers write them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsbus_k8s_ops.podhealth import FAILING, HEALTHY, NOT_READY, PENDING, STARTING, pod_health, ready_counts, restarts
from opsbus_k8s_ops.rollout import rollout_of

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    phase: str = "Running",
    age: float = 3600,
    ready: bool = True,
    containers: list[dict[str, Any]] | None = None,
    **status: Any,
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "ns", "creationTimestamp": ago(age)},
        "spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "256Mi"}}}]},
        "status": {
            "phase": phase,
            "startTime": ago(age),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ago(300)}],
            "containerStatuses": [
                {"name": "app", "ready": ready, "restartCount": 0, "state": {"running": {}}, **c}
                for c in containers or [{}]
            ],
            **status,
        },
    }


OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(52)}}


def test_a_running_pod_is_healthy() -> None:
    health = pod_health(pod(), NOW)
    assert (health.state, health.severity, health.healthy, health.reason) == ("Running", HEALTHY, True, None)


def test_a_crash_loop_tells_what_kills_it() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    health = pod_health(pod(ready=False, containers=[{"state": waiting, "lastState": OOM, "restartCount": 8}]), NOW)
    assert (health.state, health.cause, health.severity) == ("CrashLoopBackOff", "OOMKilled", FAILING)
    assert health.reason == "container app: OOMKilled (exit 137), 8 restarts, last 52 s ago; its memory limit is 256Mi"


def test_between_two_crashes_it_is_not_healthy_either() -> None:
    health = pod_health(pod(containers=[{"lastState": OOM, "restartCount": 5}]), NOW)
    assert (health.state, health.cause, health.healthy) == ("Restarting", "OOMKilled", False)


def test_one_old_restart_is_forgiven() -> None:
    old = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ago(90_000)}}
    assert pod_health(pod(containers=[{"lastState": old, "restartCount": 9}]), NOW).healthy
    assert pod_health(pod(containers=[{"lastState": OOM, "restartCount": 1}]), NOW).healthy


@pytest.mark.parametrize("why", ["ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "InvalidImageName"])
def test_containers_that_cannot_start(why: str) -> None:
    waiting = {"waiting": {"reason": why, "message": 'secret "x" not found, password=hunter2'}}
    health = pod_health(pod("Pending", ready=False, containers=[{"state": waiting}]), NOW)
    assert (health.state, health.cause, health.severity) == (why, why, FAILING)
    assert health.reason is not None
    assert "hunter2" not in health.reason


def test_a_pending_pod_has_the_schedulers_words() -> None:
    waiting = pod("Pending", age=3840, ready=False, containerStatuses=[])
    waiting["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/4 nodes are available: 3 Insufficient cpu.",
        }
    ]
    health = pod_health(waiting, NOW)
    assert (health.state, health.cause, health.severity) == ("Pending", "Unschedulable", PENDING)
    assert health.reason == "waiting for 64 min: 0/4 nodes are available: 3 Insufficient cpu."


def test_a_new_pod_is_starting_and_an_old_one_is_not() -> None:
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    assert pod_health(pod("Pending", age=10, ready=False, containers=[creating]), NOW).severity == STARTING
    assert pod_health(pod("Pending", age=900, ready=False, containers=[creating]), NOW).severity == PENDING
    assert pod_health(pod(age=10, ready=False), NOW).healthy
    late = pod_health(pod(age=900, ready=False), NOW)
    assert (late.state, late.severity) == ("NotReady", NOT_READY)


def test_init_containers_count() -> None:
    failing = {
        "name": "migrate",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": OOM,
    }
    health = pod_health(pod("Pending", ready=False, initContainerStatuses=[failing]), NOW)
    assert health.state == "Init:CrashLoopBackOff"
    assert health.reason is not None
    assert health.reason.startswith("init container migrate")


def test_ends() -> None:
    assert pod_health(pod("Succeeded"), NOW).healthy
    evicted = pod_health(
        pod("Failed", reason="Evicted", message="The node was low on memory", containerStatuses=[]), NOW
    )
    assert (evicted.state, evicted.reason) == ("Evicted", "The node was low on memory")
    died = {"state": {"terminated": {"exitCode": 2, "reason": "Error", "finishedAt": ago(60)}}}
    assert pod_health(pod("Failed", containers=[died]), NOW).cause == "Error"
    going = pod()
    going["metadata"]["deletionTimestamp"] = ago(5)
    assert pod_health(going, NOW).healthy
    going["metadata"]["deletionTimestamp"] = ago(900)
    assert pod_health(going, NOW).cause == "StuckTerminating"


def test_an_empty_object_has_a_verdict() -> None:
    assert pod_health({}, NOW).state == "Unknown"
    assert ready_counts({}) == (0, 0)
    assert restarts({}) == 0


def deployment(
    desired: int,
    *,
    updated: int,
    ready: int,
    total: int | None = None,
    progressing: str = "NewReplicaSetAvailable",
    **spec: Any,
) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"generation": 3},
        "spec": {"replicas": desired, **spec},
        "status": {
            "observedGeneration": 3,
            "replicas": desired if total is None else total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [{"type": "Progressing", "status": "True", "reason": progressing, "message": "said"}],
        },
    }


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (deployment(3, updated=3, ready=3), "complete"),
        (deployment(3, updated=3, ready=2), "degraded"),
        (deployment(3, updated=3, ready=2, progressing="ReplicaSetUpdated"), "progressing"),
        (deployment(3, updated=1, ready=3, progressing="ReplicaSetUpdated"), "progressing"),
        (deployment(3, updated=3, ready=3, total=4), "progressing"),
        (deployment(6, updated=2, ready=5, total=7, progressing="ProgressDeadlineExceeded"), "stuck"),
        (deployment(0, updated=0, ready=0), "scaled_to_zero"),
        (deployment(0, updated=0, ready=0, total=2), "progressing"),
        (deployment(3, updated=3, ready=3, paused=True), "paused"),
        ({**deployment(3, updated=3, ready=3), "metadata": {"generation": 4}}, "progressing"),
        ({}, "progressing"),
    ],
)
def test_states_of_a_rollout(obj: dict[str, Any], state: str) -> None:
    assert rollout_of(obj).state == state


def test_replicas_that_cannot_be_created_are_failing() -> None:
    obj = deployment(3, updated=0, ready=0)
    obj["status"]["conditions"].append({"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"})
    rollout = rollout_of(obj)
    assert rollout.state == "failing"
    assert rollout.reason is not None
    assert "exceeded quota" in rollout.reason
    assert not rollout.healthy


def test_other_workloads() -> None:
    daemon = {
        "kind": "DaemonSet",
        "status": {
            "desiredNumberScheduled": 3,
            "currentNumberScheduled": 3,
            "updatedNumberScheduled": 3,
            "numberReady": 2,
            "numberAvailable": 2,
        },
    }
    assert (rollout_of(daemon).state, rollout_of(daemon).desired) == ("degraded", 3)
    stateful = {
        "kind": "StatefulSet",
        "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
        "status": {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3},
    }
    assert rollout_of(stateful).state == "complete"
    stateful["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0  # type: ignore[index]
    assert rollout_of(stateful).state == "progressing"
