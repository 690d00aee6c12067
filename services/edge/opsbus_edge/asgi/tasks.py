"""``tasks/get``, ``tasks/update`` and ``tasks/cancel`` as the extension words them; the work: opsbus_edge/tasks/."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_contracts.tasks import Task, TaskStatus
from opsbus_edge.answers import to_jsonrpc_error
from opsbus_edge.asgi import splice
from opsbus_edge.asgi.envelope import Envelope
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, error_body
from opsbus_edge.tasks import Desk, Handle, declares, missing
from opsbus_edge.tasks.desk import Seen

POLL_MS = 1_000
"""Clients are asked to poll no more often."""
_HEADER_MISMATCH = -32020
_ACKNOWLEDGED = splice.tool_result(b'{"resultType":"complete"}')


def created(handle: Handle) -> bytes:
    """The result of a tools/call that became a task."""
    return splice.tool_result(orjson.dumps({"resultType": "task", **_task(handle.id, handle.task)}))


async def answer_task(
    edge: Edge, desk: Desk, envelope: Envelope, headers: dict[str, str], caller: Caller, address: str
) -> tuple[int, bytes]:
    """The HTTP status and body."""
    started = time.perf_counter()
    found = _mismatch(envelope, headers)
    if found is not None:
        status = "header_mismatch"
    else:
        result = await _result(desk, envelope, caller, address)
        if isinstance(result, ErrorBody):
            code, message, data, http = to_jsonrpc_error(result)
            status, found = result.code.value, (http, splice.error(envelope.id, code, message, data))
        else:
            status, found = "ok", (200, splice.response(envelope.id, result))
    edge.metrics.request(envelope.method, status, time.perf_counter() - started)
    return found


async def _result(desk: Desk, envelope: Envelope, caller: Caller, address: str) -> bytes | ErrorBody:
    if not declares(envelope.client.capabilities):
        return missing()
    id, answers = envelope.params.get("taskId"), envelope.params.get("inputResponses")
    if not isinstance(id, str):
        return error_body(ErrorCode.INVALID_REQUEST, "taskId must be a string", hint="Send the one you were given.")
    if envelope.method == "tasks/get":
        seen = await desk.get(caller, id)
        return seen if isinstance(seen, ErrorBody) else _seen(id, seen)
    if envelope.method == "tasks/cancel":
        refused = await desk.cancel(caller, id)
    elif not isinstance(answers, dict) or not all(isinstance(one, dict) for one in answers.values()):
        refused = error_body(
            ErrorCode.INVALID_REQUEST,
            "inputResponses must be an object of objects",
            hint="Send an answer for each key of inputRequests.",
        )
    else:
        refused = await desk.update(caller, id, answers, address)
    return _ACKNOWLEDGED if refused is None else refused


def _mismatch(envelope: Envelope, headers: dict[str, str]) -> tuple[int, bytes] | None:
    """``Mcp-Name`` is the task's id; the SDK does not look."""
    if decode_header_value(headers.get(MCP_NAME_HEADER.lower())) == envelope.params.get("taskId"):
        return None
    message = f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter"
    data = {"code": ErrorCode.INVALID_REQUEST.value, "hint": "Send the task's id in both.", "executed": "no"}
    return 400, splice.error(envelope.id, _HEADER_MISMATCH, message, data)


def _seen(id: str, seen: Seen) -> bytes:
    """The task with what its status calls for; a result is spliced in as it is kept."""
    task = seen.task
    body: dict[str, Any] = {"resultType": "complete", **_task(id, task)}
    if task.status is TaskStatus.INPUT_REQUIRED:
        body["inputRequests"] = {key: question.request for key, question in task.questions.items()}
    elif task.status is TaskStatus.FAILED:
        body["error"] = task.error
    head = splice.tool_result(orjson.dumps(body))
    return head if seen.result is None else head[:-1] + b',"result":' + seen.result + b"}"


def _task(id: str, task: Task) -> dict[str, Any]:
    fields: dict[str, Any] = {"taskId": id, "status": task.status.value}
    if task.message:
        fields["statusMessage"] = task.message
    fields |= {"createdAt": _time(task.created_ms), "lastUpdatedAt": _time(task.updated_ms), "ttlMs": task.ttl_ms}
    return fields | {"pollIntervalMs": POLL_MS}


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
