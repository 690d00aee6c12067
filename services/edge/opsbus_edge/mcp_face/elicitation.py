"""Questions of a worker to the client: what the client must have declared, and, in the older eras, asking it.

In the modern era the client gets the questions as a result and calls again; in a session the edge asks and calls again.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    REQUEST_TIMEOUT,
    CreateMessageRequest,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
)
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, ValidationError

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.mcp_face.exchange import Ctx
from opsbus_edge.model import error_body

QUESTIONS_MAX = 20
"""Questions of one round."""

_KINDS: dict[str, tuple[type[Any], type[BaseModel], str]] = {
    "elicitation/create": (ElicitRequest, ElicitResult, "elicitation"),
    "sampling/createMessage": (CreateMessageRequest, CreateMessageResultWithTools, "sampling"),
    "roots/list": (ListRootsRequest, ListRootsResult, "roots"),
}


def not_declared(questions: Mapping[str, Any], capabilities: Mapping[str, Any]) -> ErrorBody | None:
    """``missing_capability`` when a question needs what the client did not declare; ``bad_reply`` for no question."""
    missing: dict[str, Any] = {}
    for question in questions.values():
        if not isinstance(question, Mapping) or question.get("method") not in _KINDS:
            return error_body(
                ErrorCode.BAD_REPLY,
                "The worker asks something that MCP does not know.",
                hint="Tell the team that owns it.",
            )
        needed = _needed(question)
        for capability, detail in needed.items():
            declared = capabilities.get(capability)
            if declared is None or any(part not in declared for part in detail):
                missing[capability] = detail
    if not missing:
        return None
    return error_body(
        ErrorCode.MISSING_CAPABILITY,
        f"This call needs a client that can do {', '.join(sorted(missing))}.",
        hint="Declare the capability, or use a client that has it.",
        details={"requiredCapabilities": missing},
    )


def _needed(question: Mapping[str, Any]) -> dict[str, Any]:
    """Capabilities a question needs, in MCP's shape."""
    params = question.get("params")
    params = params if isinstance(params, Mapping) else {}
    capability = _KINDS[question["method"]][2]
    if capability == "elicitation" and params.get("mode") == "url":
        return {capability: {"url": {}}}
    if capability == "sampling" and (params.get("tools") or params.get("toolChoice")):
        return {capability: {"tools": {}}}
    return {capability: {}}


async def ask_client(ctx: Ctx, questions: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | ErrorBody:
    """Asks the client of a session each question, one after the other; its answers by key."""
    answers: dict[str, Any] = {}
    for key, question in questions.items():
        answer = await _ask(ctx, question, timeout_s)
        if isinstance(answer, ErrorBody):
            return answer
        answers[key] = answer
    return answers


async def _ask(ctx: Ctx, question: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | ErrorBody:
    request_type, result_type, capability = _KINDS[question["method"]]
    try:
        request = request_type.model_validate(_worded(question, ctx.protocol_version), by_name=False)
    except ValidationError:
        return error_body(
            ErrorCode.BAD_REPLY, "The worker's question is malformed.", hint="Tell the team that owns it."
        )
    try:
        result = await ctx.session.send_request(
            request,
            result_type,
            request_read_timeout_seconds=timeout_s,
            metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        )
    except NoBackChannelError:
        return _unanswered(capability, "cannot be asked on this connection")
    except MCPError as error:
        late = error.code == REQUEST_TIMEOUT
        return _unanswered(capability, f"gave no answer within {timeout_s:g} s" if late else "refused to answer")
    except ValidationError:
        return _unanswered(capability, "gave an answer that is none by MCP's schema")
    answer: dict[str, Any] = orjson.loads(result.model_dump_json(by_alias=True, exclude_none=True))
    return answer


def _worded(question: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """The question as this revision words it: ``mode`` came with 2025-11-25."""
    found = {"method": question["method"], "params": dict(question.get("params") or {})}
    if not is_version_at_least(protocol, "2025-11-25"):
        found["params"].pop("mode", None)
    return found


def _unanswered(capability: str, what: str) -> ErrorBody:
    return error_body(
        ErrorCode.DECLINED,
        f"The client {what} ({capability}).",
        hint="Nothing was done. Call again when the question can be answered.",
    )
