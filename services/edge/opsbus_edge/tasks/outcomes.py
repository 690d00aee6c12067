"""What a reply makes of a task: how it ends, or what it asks."""

from typing import Any, NamedTuple

import orjson

from opsbus_contracts.calls import Status
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_contracts.tasks import Task, TaskCall, TaskQuestion, TaskStatus
from opsbus_edge.answers import error_of, is_protocol_error, to_jsonrpc_error, to_tool_result
from opsbus_edge.asgi.splice import tool_result
from opsbus_edge.mcp_face.elicitation import QUESTIONS_MAX, not_declared
from opsbus_edge.model import Reply, Request, error_body

_SENTENCE_MAX = 1_000


class End(NamedTuple):
    """How a task ends."""

    status: TaskStatus
    message: str = ""
    result: bytes | None = None
    """MCP result of a completed one."""
    error: dict[str, Any] | None = None
    """JSON-RPC error of a failed one."""


class Asks(NamedTuple):
    """What a worker wants to know before it goes on."""

    questions: dict[str, Any]
    """By the worker's key."""
    state: str | None


def outcome(reply: Reply, client: dict[str, Any], result_bytes_max: int) -> End | Asks:
    """What comes of a reply.

    Args:
        client: Capabilities the client declared.
    """
    try:
        if reply.status is Status.INPUT_REQUIRED:
            return _asks(reply, client)
        if reply.status is Status.OK:
            return _completed(reply, result_bytes_max)
        return ended_by(error_of(reply))
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return ended_by(_bad_reply(reply))


def ended_by(error: ErrorBody) -> End:
    """JSON-RPC errors fail a task; every other error is a result, as it is for a call that is waited for."""
    sentence = f"{error.message} {error.hint}".strip()[:_SENTENCE_MAX]
    if not is_protocol_error(error):
        return End(TaskStatus.COMPLETED, sentence, result=tool_result(to_tool_result(error)))
    return failed(error)


def failed(error: ErrorBody) -> End:
    """A task whose call has no result that could be told."""
    code, message, data, _ = to_jsonrpc_error(error)
    sentence = f"{error.message} {error.hint}".strip()[:_SENTENCE_MAX]
    return End(TaskStatus.FAILED, sentence, error={"code": code, "message": message, "data": data})


def lost(why: str) -> ErrorBody:
    """The edge that ran the call did not live to tell."""
    return error_body(
        ErrorCode.OUTCOME_UNKNOWN,
        f"{why}; what the call did by then is not known.",
        hint="Read the state before you call again.",
        executed=Executed.UNKNOWN,
    )


def ask(task: Task, asks: Asks, request: Request) -> dict[str, Any]:
    """The fields of a task that waits for answers.

    A key is never used twice in a task's life: the client may remember which it has answered. A worker that asks
    again under its own key gets another one towards the client.
    """
    rounds = task.rounds + 1
    issued, questions = list(task.issued), {}
    for key, question in asks.questions.items():
        outward = key if key not in issued else f"{key}.{rounds}"
        while outward in issued:
            outward += "x"
        issued.append(outward)
        questions[outward] = TaskQuestion(key=key, request=question)
    again = TaskCall(
        arguments=request.params.decode(),
        request_state=asks.state,
        idempotency_key=request.idempotency_key,
        traceparent=request.traceparent,
        tracestate=request.tracestate,
    )
    return {
        "status": TaskStatus.INPUT_REQUIRED,
        "message": "The call waits for answers.",
        "owner": "",
        "rounds": rounds,
        "issued": issued,
        "questions": questions,
        "answers": {},
        "again": again,
    }


def _asks(reply: Reply, client: dict[str, Any]) -> End | Asks:
    body = orjson.loads(reply.body)
    questions, state = body.get("inputRequests") or {}, body.get("requestState")
    if not isinstance(questions, dict) or len(questions) > QUESTIONS_MAX or not isinstance(state, str | None):
        return ended_by(_bad_reply(reply))
    refused = not_declared(questions, client)
    return ended_by(refused) if refused is not None else Asks(questions, state)


def _completed(reply: Reply, result_bytes_max: int) -> End:
    result = tool_result(reply.body)
    if not isinstance(orjson.loads(result), dict):
        raise TypeError
    if len(result) <= result_bytes_max:
        return End(TaskStatus.COMPLETED, result=result)
    return ended_by(
        error_body(
            ErrorCode.RESULT_TOO_LARGE,
            f"The call has run, but its result has {len(result)} bytes and {result_bytes_max} are kept.",
            hint="Ask for less: a filter, a limit, fewer fields.",
            executed=reply.executed,
        )
    )


def _bad_reply(reply: Reply) -> ErrorBody:
    return error_body(
        ErrorCode.BAD_REPLY,
        "The worker's answer is not a valid MCP result.",
        hint="Tell the team that owns it; the call itself has run.",
        executed=reply.executed,
        details={"instance": reply.instance},
    )
