"""The pod table, whose STATUS and RESTARTS columns are an art of their own."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.podstatus import is_ready
from opsbus_sandbox.kube.tables.cells import AGE, NAME, NONE, Column, age, dig

Obj = dict[str, Any]


def _statuses(pod: Obj, field: str = "containerStatuses") -> list[Obj]:
    return list(dig(pod, "status", field, default=[]))


def ready_text(pod: Obj) -> str:
    """`1/2`."""
    ready = sum(1 for status in _statuses(pod) if status.get("ready"))
    return f"{ready}/{len(pod['spec']['containers'])}"


def status_text(pod: Obj) -> str:
    """The one word kubectl shows for the state of a pod."""
    reason = str(dig(pod, "status", "reason") or dig(pod, "status", "phase", default="Unknown"))
    initializing = ""
    total = len(dig(pod, "spec", "initContainers", default=[]))
    for index, status in enumerate(_statuses(pod, "initContainerStatuses")):
        word = _init_word(status, index, total)
        if word:
            initializing = word
            break
    if initializing:
        reason = initializing
    else:
        running = False
        for status in reversed(_statuses(pod)):
            state = status.get("state") or {}
            if state.get("waiting", {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif "terminated" in state:
                ended = state["terminated"]
                reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
            elif status.get("ready") and "running" in state:
                running = True
        if reason == "Completed" and running:
            reason = "Running" if is_ready(pod) else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        reason = "Terminating"
    return reason


def _init_word(status: Obj, index: int, total: int) -> str:
    state = status.get("state") or {}
    if "terminated" in state:
        ended = state["terminated"]
        return "" if ended.get("exitCode") == 0 else f"Init:{ended.get('reason') or 'Error'}"
    waiting = state.get("waiting", {}).get("reason", "")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


def restarts_text(pod: Obj) -> str:
    """`0`, or `8 (2m ago)`."""
    statuses = _statuses(pod) or []
    count = sum(int(status.get("restartCount", 0)) for status in statuses)
    ends = [dig(status, "lastState", "terminated", "finishedAt") for status in statuses]
    last = max((end for end in ends if end), default="")
    return f"{count} ({age(last)} ago)" if count and last else str(count)


COLUMNS = (
    NAME,
    Column("Ready", ready_text),
    Column("Status", status_text),
    Column("Restarts", restarts_text),
    AGE,
    Column("IP", lambda pod: dig(pod, "status", "podIP") or NONE, priority=1),
    Column("Node", lambda pod: dig(pod, "spec", "nodeName") or NONE, priority=1),
    Column("Nominated Node", lambda pod: dig(pod, "status", "nominatedNodeName") or NONE, priority=1),
    Column("Readiness Gates", lambda _: NONE, priority=1),
)
