"""A task in the words of the extension: what ``tasks/get`` answers and ``notifications/tasks`` tells."""

from datetime import UTC, datetime
from typing import Any

import orjson

from opsbus_contracts.tasks import Task, TaskStatus
from opsbus_edge.tasks.desk import Seen

POLL_MS = 1_000
"""Clients are asked to poll no more often."""


def fields(id: str, task: Task) -> dict[str, Any]:
    """What is told of a task in every status."""
    found: dict[str, Any] = {"taskId": id, "status": task.status.value}
    if task.message:
        found["statusMessage"] = task.message
    found |= {"createdAt": _time(task.created_ms), "lastUpdatedAt": _time(task.updated_ms), "ttlMs": task.ttl_ms}
    return found | {"pollIntervalMs": POLL_MS}


def detailed(id: str, task: Task) -> dict[str, Any]:
    """A task with what its status calls for, but the result: ``with_result``."""
    found = fields(id, task)
    if task.status is TaskStatus.INPUT_REQUIRED:
        found["inputRequests"] = {key: question.request for key, question in task.questions.items()}
    elif task.status is TaskStatus.FAILED:
        found["error"] = task.error
    return found


def with_result(head: bytes, seen: Seen) -> bytes:
    """A JSON object with the result spliced in, byte for byte as it is kept."""
    return head if seen.result is None else head[:-1] + b',"result":' + seen.result + b"}"


def whole(id: str, seen: Seen) -> bytes:
    """All there is to tell of a task."""
    return with_result(orjson.dumps(detailed(id, seen.task)), seen)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
