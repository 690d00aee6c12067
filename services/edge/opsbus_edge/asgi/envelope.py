"""A modern request's envelope: what the express lane may take is read here; what is odd in any way is left to the SDK.

The checks are the SDK's own (``mcp.shared.inbound``); what fails one is handed on, and the SDK words the refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.shared.inbound import (
    InboundModernRoute,
    classify_inbound_request,
    validate_mcp_param_headers,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from opsbus_contracts.calls import ClientInfo
from opsbus_edge import jsonin
from opsbus_edge.catalog import Catalog, ToolEntry
from opsbus_edge.model import Caller, Request

TASKS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
LANE = frozenset({"tools/call", "tools/list"}) | TASKS
_LOG_LEVELS = frozenset({"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"})
_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
_TEXT_MAX = 200


@dataclass(slots=True)
class Envelope:
    """A request of the lane, checked."""

    id: str | int
    method: str
    params: dict[str, Any]
    meta: dict[str, Any]
    client: ClientInfo
    protocol: str

    @property
    def progress_token(self) -> str | int | None:
        """Where the client wants progress to go."""
        token = self.meta.get("progressToken")
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None


def wanted(headers: Mapping[str, str]) -> bool:
    """Whether a POST may be for the lane, as its headers say; they are compared with the body later."""
    return (
        headers.get("mcp-method") in LANE
        and headers.get("mcp-protocol-version") in MODERN_PROTOCOL_VERSIONS
        and headers.get("content-type", "").lower().startswith("application/json")
    )


def accepts(headers: Mapping[str, str]) -> tuple[bool, bool]:
    """``(JSON, event stream)`` as the Accept header has it; the SDK judges the odd ones."""
    accept = headers.get("accept", "").lower()
    return "application/json" in accept, "text/event-stream" in accept


def parse(decoded: Any, headers: dict[str, str]) -> Envelope | None:
    """The envelope; None when the SDK is to answer. No routing header may be there twice: the caller has seen to it."""
    if not isinstance(decoded, dict) or decoded.get("jsonrpc") != "2.0":
        return None
    request_id, params = decoded.get("id"), decoded.get("params")
    if not isinstance(request_id, str | int) or isinstance(request_id, bool) or not isinstance(params, dict):
        return None
    if decoded.get("method") not in LANE:
        return None
    verdict = classify_inbound_request(decoded, headers=headers)
    if not isinstance(verdict, InboundModernRoute) or not isinstance(verdict.client_capabilities, dict):
        return None
    client = verdict.client_info
    if client is not None and not isinstance(client, dict):
        return None
    return Envelope(
        id=request_id,
        method=decoded["method"],
        params=params,
        meta=params["_meta"],
        client=_client(client or {}, verdict),
        protocol=verdict.protocol_version,
    )


def _client(info: dict[str, Any], verdict: InboundModernRoute) -> ClientInfo:
    return ClientInfo(
        name=str(info.get("name", ""))[:_TEXT_MAX],
        version=str(info.get("version", ""))[:_TEXT_MAX],
        protocol=verdict.protocol_version,
        capabilities=verdict.client_capabilities,
    )


def to_request(envelope: Envelope, catalog: Catalog, caller: Caller, headers: dict[str, str]) -> Request | None:
    """A tools/call made ready for the pipeline; None when the SDK is to answer. ``request_state`` is still sealed.

    Raises:
        BadJsonError: the arguments cannot be carried on.
    """
    params, meta = envelope.params, envelope.meta
    name, arguments = params.get("name"), params.get("arguments", {})
    answers, state = params.get("inputResponses"), params.get("requestState")
    level, token = meta.get(_LOG_LEVEL), meta.get("progressToken")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    if not isinstance(answers, dict | None) or not isinstance(state, str | None):
        return None
    if (level is not None and level not in _LOG_LEVELS) or (token is not None and envelope.progress_token is None):
        return None
    tool = catalog.tool(name)
    if tool is not None and tool.param_headers and _disagree(tool, arguments, headers):
        return None
    traceparent, tracestate = meta.get("traceparent"), meta.get("tracestate")
    if not isinstance(traceparent, str):
        traceparent, tracestate = headers.get("traceparent"), headers.get("tracestate")
    return Request(
        method="tools/call",
        target=name,
        params=jsonin.dumps(arguments),
        caller=caller,
        client=envelope.client,
        protocol=envelope.protocol,
        transport="http",
        input_responses=jsonin.dumps(answers) if answers is not None else None,
        request_state=state,
        idempotency_key=idempotency_key(headers),
        traceparent=trace_field(traceparent),
        tracestate=trace_field(tracestate),
        log_level=level,
        wants_progress=token is not None,
    )


def _disagree(tool: ToolEntry, arguments: dict[str, Any], headers: dict[str, str]) -> bool:
    return validate_mcp_param_headers(tool.spec.input_schema, arguments, headers) is not None


def trace_field(value: object) -> str | None:
    """A W3C trace field, if it can be one; it goes into a NATS header."""
    if not isinstance(value, str) or not 0 < len(value) <= 512 or not value.isascii() or not value.isprintable():
        return None
    return value


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The header ``Idempotency-Key``, if it is a usable one."""
    key = headers.get("idempotency-key", "").strip()
    return key if 0 < len(key) <= 256 and key.isascii() and key.isprintable() else None
