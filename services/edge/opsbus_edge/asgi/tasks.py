"""``tasks/get``, ``tasks/update`` and ``tasks/cancel`` as the extension words them; the work: opsbus_edge/tasks/."""

import time

import orjson
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.answers import to_jsonrpc_error
from opsbus_edge.asgi import splice
from opsbus_edge.asgi.envelope import Envelope
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, error_body
from opsbus_edge.tasks import Desk, Handle, declares, missing, wire
from opsbus_edge.tasks.desk import Seen

_HEADER_MISMATCH = -32020
_ACKNOWLEDGED = splice.tool_result(b'{"resultType":"complete"}')


def created(handle: Handle) -> bytes:
    """The result of a tools/call that became a task."""
    return splice.tool_result(orjson.dumps({"resultType": "task", **wire.fields(handle.id, handle.task)}))


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
    head = {"resultType": "complete", **wire.detailed(id, seen.task)}
    return wire.with_result(splice.tool_result(orjson.dumps(head)), seen)
