"""Tables of what runs pods: deployments, replica sets, stateful and daemon sets, jobs, autoscalers, budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from opsbus_sandbox.clock import parse_timestamp
from opsbus_sandbox.kube.podstatus import condition
from opsbus_sandbox.kube.selectors import selector_text
from opsbus_sandbox.kube.tables.cells import AGE, NAME, NONE, Column, age, container_columns, dig, duration

Obj = dict[str, Any]


def _template_spec(obj: Obj) -> Obj:
    return dict(dig(obj, "spec", "template", "spec", default={}))


def _number(name: str, *path: str) -> Column:
    return Column(name, lambda obj: int(dig(obj, *path, default=0)), type="integer")


def _of(ready: tuple[str, str], total: tuple[str, str]) -> Column:
    return Column("Ready", lambda obj: f"{dig(obj, *ready, default=0)}/{dig(obj, *total, default=0)}")


_SELECTOR = Column("Selector", lambda obj: selector_text(dig(obj, "spec", "selector", default={})), priority=1)
_CONTAINERS = container_columns(_template_spec)

DEPLOYMENTS = (
    NAME,
    _of(("status", "readyReplicas"), ("spec", "replicas")),
    _number("Up-to-date", "status", "updatedReplicas"),
    _number("Available", "status", "availableReplicas"),
    AGE,
    *_CONTAINERS,
    _SELECTOR,
)
REPLICASETS = (
    NAME,
    _number("Desired", "spec", "replicas"),
    _number("Current", "status", "replicas"),
    _number("Ready", "status", "readyReplicas"),
    AGE,
    *_CONTAINERS,
    _SELECTOR,
)
REVISIONS = (
    NAME,
    Column(
        "Controller",
        lambda obj: next(
            (
                f"{owner['kind'].lower()}.apps/{owner['name']}"
                for owner in dig(obj, "metadata", "ownerReferences", default=[])
            ),
            NONE,
        ),
    ),
    _number("Revision", "revision"),
    AGE,
)
STATEFULSETS = (NAME, _of(("status", "readyReplicas"), ("spec", "replicas")), AGE, *_CONTAINERS)


def _node_selector(obj: Obj) -> str:
    selector = _template_spec(obj).get("nodeSelector") or {}
    return ",".join(f"{key}={value}" for key, value in selector.items()) or NONE


DAEMONSETS = (
    NAME,
    _number("Desired", "status", "desiredNumberScheduled"),
    _number("Current", "status", "currentNumberScheduled"),
    _number("Ready", "status", "numberReady"),
    _number("Up-to-date", "status", "updatedNumberScheduled"),
    _number("Available", "status", "numberAvailable"),
    Column("Node Selector", _node_selector),
    AGE,
    *_CONTAINERS,
    _SELECTOR,
)


def _job_status(job: Obj) -> str:
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        entry = condition(job, kind)
        if entry and entry["status"] == "True":
            return word
    return "Terminating" if job["metadata"].get("deletionTimestamp") else "Running"


def _job_duration(job: Obj) -> str:
    started = dig(job, "status", "startTime")
    if not started:
        return ""
    ended = dig(job, "status", "completionTime")
    end = parse_timestamp(ended) if ended else datetime.now(UTC)
    return duration((end - parse_timestamp(started)).total_seconds())


JOBS = (
    NAME,
    Column("Status", _job_status),
    Column("Completions", lambda j: f"{dig(j, 'status', 'succeeded', default=0)}/{dig(j, 'spec', 'completions')}"),
    Column("Duration", _job_duration),
    AGE,
    *_CONTAINERS,
    _SELECTOR,
)
CRONJOBS = (
    NAME,
    Column("Schedule", lambda obj: dig(obj, "spec", "schedule")),
    Column("Timezone", lambda obj: dig(obj, "spec", "timeZone") or NONE),
    Column("Suspend", lambda obj: str(bool(dig(obj, "spec", "suspend", default=False)))),
    Column("Active", lambda obj: len(dig(obj, "status", "active", default=[])), type="integer"),
    Column(
        "Last Schedule",
        lambda obj: age(dig(obj, "status", "lastScheduleTime")) if dig(obj, "status", "lastScheduleTime") else NONE,
    ),
    AGE,
)


def _targets(hpa: Obj) -> str:
    current = {
        dig(metric, "resource", "name"): dig(metric, "resource", "current", "averageUtilization", default=None)
        for metric in dig(hpa, "status", "currentMetrics", default=[])
    }
    texts = []
    for metric in dig(hpa, "spec", "metrics", default=[]):
        name = dig(metric, "resource", "name")
        target = dig(metric, "resource", "target", "averageUtilization", default=None)
        if target is not None:
            now = current.get(name)
            texts.append(f"{name}: {'<unknown>' if now is None else f'{now}%'}/{target}%")
    return ", ".join(texts) or "<none>"


def _scale_target(hpa: Obj) -> str:
    return f"{dig(hpa, 'spec', 'scaleTargetRef', 'kind')}/{dig(hpa, 'spec', 'scaleTargetRef', 'name')}"


AUTOSCALERS = (
    NAME,
    Column("Reference", _scale_target),
    Column("Targets", _targets),
    Column("MinPods", lambda obj: str(dig(obj, "spec", "minReplicas", default=1))),
    _number("MaxPods", "spec", "maxReplicas"),
    _number("Replicas", "status", "currentReplicas"),
    AGE,
)
BUDGETS = (
    NAME,
    Column("Min Available", lambda obj: str(dig(obj, "spec", "minAvailable", default="N/A"))),
    Column("Max Unavailable", lambda obj: str(dig(obj, "spec", "maxUnavailable", default="N/A"))),
    _number("Allowed Disruptions", "status", "disruptionsAllowed"),
    AGE,
)
