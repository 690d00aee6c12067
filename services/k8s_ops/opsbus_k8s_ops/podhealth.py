"""What is wrong with a pod, from its status alone: a state, a one-word cause, a sentence.

Pure functions over objects.
"""

from dataclasses import dataclass
from datetime import datetime

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.objects import condition, in_words, meta, parse_time, seconds_since

STARTING_S = 120
"""A pod younger than this that is not ready yet is starting, not broken. Seconds."""

RECENT_S = 600
"""A container that died this recently, repeatedly, is not healthy even while it runs. Seconds."""

REASON_CHARS_MAX = 400

FAILING, PENDING, NOT_READY, STARTING, HEALTHY, DONE = range(6)
"""Severities, the worst first: the order of lists."""


@dataclass(frozen=True)
class Health:
    """A verdict. ``severity`` orders lists."""

    state: str
    severity: int
    cause: str | None = None
    reason: str | None = None

    @property
    def healthy(self) -> bool:
        """Nothing for a person to do."""
        return self.severity >= STARTING


def pod_health(pod: Obj, now: datetime) -> Health:
    """The verdict on one pod."""
    health = _judge(pod, now)
    if health.reason:
        reason = mask_text(" ".join(health.reason.split()))[:REASON_CHARS_MAX]
        health = Health(health.state, health.severity, health.cause, reason)
    return health


def ready_counts(pod: Obj) -> tuple[int, int]:
    """Ready containers and all of them."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    total = len((pod.get("spec") or {}).get("containers") or []) or len(statuses)
    return sum(1 for status in statuses if status.get("ready")), total


def restarts(pod: Obj) -> int:
    """Restarts of all containers."""
    return sum(int(status.get("restartCount") or 0) for status in _statuses(pod))


def _judge(pod: Obj, now: datetime) -> Health:
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "Unknown")
    deleted = parse_time(meta(pod).get("deletionTimestamp"))
    if deleted is not None:
        late = (now - deleted).total_seconds()
        if late > STARTING_S:
            why = f"was to be gone {in_words(late)} ago: a finalizer or a dead node holds it"
            return Health("Terminating", NOT_READY, "StuckTerminating", why)
        return Health("Terminating", STARTING)
    if phase == "Succeeded":
        return Health("Completed", DONE)
    if phase == "Failed":
        return _failed(pod, status, now)
    for entry in status.get("initContainerStatuses") or []:
        verdict = _container(pod, entry, now)
        if verdict:
            return Health(f"Init:{verdict.state}", verdict.severity, verdict.cause, f"init {verdict.reason}")
    verdicts = [verdict for entry in status.get("containerStatuses") or [] if (verdict := _container(pod, entry, now))]
    if verdicts:
        return min(verdicts, key=lambda verdict: verdict.severity)
    if phase == "Pending":
        return _pending(pod, now)
    return _running(pod, phase, now)


def _failed(pod: Obj, status: Obj, now: datetime) -> Health:
    cause = str(status.get("reason") or "")
    reason = str(status.get("message") or "")
    for entry in status.get("containerStatuses") or []:
        ended = (entry.get("state") or {}).get("terminated")
        if ended and int(ended.get("exitCode") or 0):
            cause, reason = cause or str(ended.get("reason") or "Error"), reason or _died(pod, entry, ended, now)
    return Health(cause or "Failed", FAILING, cause or "Failed", reason or "the pod has failed and will not run again")


def _container(pod: Obj, entry: Obj, now: datetime) -> Health | None:
    """What one container's status shows to be wrong, if anything."""
    state = entry.get("state") or {}
    last = (entry.get("lastState") or {}).get("terminated")
    waiting, ended = state.get("waiting"), state.get("terminated")
    name = entry.get("name")
    if waiting and waiting.get("reason") not in (None, "", "ContainerCreating", "PodInitializing"):
        why = str(waiting["reason"])
        if last:
            return Health(why, FAILING, str(last.get("reason") or "Error"), _died(pod, entry, last, now))
        return Health(why, FAILING, why, f"container {name}: {waiting.get('message') or why}")
    if ended and int(ended.get("exitCode") or 0):
        cause = str(ended.get("reason") or "Error")
        return Health(cause, FAILING, cause, _died(pod, entry, ended, now))
    if last and int(entry.get("restartCount") or 0) >= 3 and int(last.get("exitCode") or 0):
        ago = seconds_since(last.get("finishedAt"), now)
        if ago is not None and ago < RECENT_S:
            return Health("Restarting", FAILING, str(last.get("reason") or "Error"), _died(pod, entry, last, now))
    return None


def _died(pod: Obj, entry: Obj, ended: Obj, now: datetime) -> str:
    name = entry.get("name")
    ago = seconds_since(ended.get("finishedAt"), now)
    when = f", last {in_words(ago)} ago" if ago is not None else ""
    said = f"container {name}: {ended.get('reason') or 'Error'} (exit {ended.get('exitCode')})"
    said += f", {entry.get('restartCount', 0)} restarts{when}"
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, str(name))
        said += f"; its memory limit is {limit}" if limit else ""
    if ended.get("message"):
        said += f"; {ended['message']}"
    return said


def _pending(pod: Obj, now: datetime) -> Health:
    age = seconds_since(meta(pod).get("creationTimestamp"), now) or 0
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        cause = str(scheduled.get("reason") or "Unschedulable")
        return Health("Pending", PENDING, cause, f"waiting for {in_words(age)}: {scheduled.get('message') or cause}")
    for gate in (pod.get("spec") or {}).get("schedulingGates") or []:
        return Health("Pending", PENDING, "SchedulingGated", f"held back by scheduling gate {gate.get('name')}")
    if not scheduled and not (pod.get("spec") or {}).get("nodeName"):
        scheduler = (pod.get("spec") or {}).get("schedulerName") or "default-scheduler"
        why = f"no scheduler has looked at it for {in_words(age)}: it wants {scheduler}"
        return Health("Pending", STARTING if age < STARTING_S else PENDING, "NotScheduled", why)
    if age < STARTING_S:
        return Health("ContainerCreating", STARTING)
    return Health(
        "ContainerCreating", PENDING, "ContainerCreating", f"its containers are being made for {in_words(age)} now"
    )


def _running(pod: Obj, phase: str, now: datetime) -> Health:
    ready = condition(pod, "Ready")
    if phase == "Unknown":
        return Health("Unknown", NOT_READY, "NodeLost", "the node does not report its state")
    if ready.get("status") == "True":
        return Health("Running", HEALTHY)
    count, total = ready_counts(pod)
    since = seconds_since(ready.get("lastTransitionTime") or (pod.get("status") or {}).get("startTime"), now) or 0
    age = seconds_since((pod.get("status") or {}).get("startTime") or meta(pod).get("creationTimestamp"), now) or 0
    if age < STARTING_S:
        return Health("Starting", STARTING)
    detail = ready.get("message") or "its readiness probe does not pass"
    return Health(
        "NotReady",
        NOT_READY,
        str(ready.get("reason") or "NotReady"),
        f"{count} of {total} containers ready for {in_words(since)}: {detail}",
    )


def _memory_limit(pod: Obj, name: str) -> str | None:
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == name:
            value = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            return str(value) if value else None
    return None


def _statuses(pod: Obj) -> list[Obj]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
