"""One MCP request as the SDK hands it over, in the edge's nouns: who calls, from which client, in which era."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from opsbus_contracts.calls import ClientInfo
from opsbus_edge.answers import LEGACY, MODERN
from opsbus_edge.asgi.envelope import idempotency_key, trace_field
from opsbus_edge.asgi.http import client_address
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face.sessions import digest_of, public_id, session_of
from opsbus_edge.model import Caller, Request

CALLER_KEY = "opsbus.caller"
"""Where the ASGI scope carries the authenticated Caller."""

IDEMPOTENCY_META_KEY = "opsbus/idempotencyKey"
"""``_meta`` key of a call's idempotency key, for clients that cannot set the HTTP header ``Idempotency-Key``."""

_NAME_CHARS_MAX = 128

Ctx = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What every operation of a request has in common."""

    caller: Caller
    client: ClientInfo
    protocol: str
    transport: str
    """``http`` or ``stdio``."""
    era: str
    """``answers.MODERN`` or ``answers.LEGACY``."""
    meta: Mapping[str, Any]
    headers: Mapping[str, str]
    log_level: str | None
    session: str = ""
    """Digest of the session's id; empty: none."""


def exchange_of(edge: Edge, ctx: Ctx) -> Exchange:
    """The exchange a handler is called in."""
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    found = (ctx.params or {}).get("_meta")
    meta: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    return Exchange(
        caller=caller_of(edge, ctx),
        client=_modern_client(meta, ctx) if modern else _legacy_client(ctx),
        protocol=ctx.protocol_version,
        transport="stdio" if ctx.request is None else "http",
        era=MODERN if modern else LEGACY,
        meta=meta,
        headers={} if ctx.request is None else ctx.request.headers,
        log_level=_text(meta.get(LOG_LEVEL_META_KEY)) if modern else session_of(ctx).log_level,
        session="" if modern else _session(edge, ctx),
    )


def _session(edge: Edge, ctx: Ctx) -> str:
    """Digest of the id the client knows; the SDK's own, which is at hand here, is a part of it."""
    sdk_id = ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None
    return digest_of(public_id(edge.instance, sdk_id)) if sdk_id else ""


def caller_of(edge: Edge, ctx: Ctx) -> Caller:
    """Who sent this very request: a session's requests are each authenticated anew."""
    if ctx.request is None:
        return edge.stdio_caller()
    caller: Caller = ctx.request.scope[CALLER_KEY]
    return caller


def request_for(exchange: Exchange, ctx: Ctx, method: str, target: str, params: bytes) -> Request:
    """The operation for the pipeline."""
    return Request(
        method=method,
        target=target,
        params=params,
        caller=exchange.caller,
        client=exchange.client,
        protocol=exchange.protocol,
        transport=exchange.transport,
        idempotency_key=_idempotency_key(exchange),
        traceparent=trace_field(exchange.meta.get("traceparent")) or trace_field(exchange.headers.get("traceparent")),
        tracestate=trace_field(exchange.meta.get("tracestate")) or trace_field(exchange.headers.get("tracestate")),
        log_level=exchange.log_level,
        wants_progress=exchange.meta.get("progressToken") is not None,
        session=exchange.session,
        address=client_address(ctx.request.scope) if ctx.request is not None else "",
    )


def _idempotency_key(exchange: Exchange) -> str | None:
    key = exchange.meta.get(IDEMPOTENCY_META_KEY)
    return idempotency_key(exchange.headers) or idempotency_key({"idempotency-key": _text(key) or ""})


def _modern_client(meta: Mapping[str, Any], ctx: Ctx) -> ClientInfo:
    info = meta.get(CLIENT_INFO_META_KEY)
    capabilities = meta.get(CLIENT_CAPABILITIES_META_KEY)
    return _client(
        info if isinstance(info, Mapping) else {},
        dict(capabilities) if isinstance(capabilities, Mapping) else {},
        ctx.protocol_version,
    )


def _legacy_client(ctx: Ctx) -> ClientInfo:
    params = ctx.session.client_params
    if params is None:
        return ClientInfo(protocol=ctx.protocol_version)
    return _client(
        {"name": params.client_info.name, "version": params.client_info.version},
        params.capabilities.model_dump(by_alias=True, mode="json", exclude_none=True),
        ctx.protocol_version,
    )


def _client(info: Mapping[str, Any], capabilities: dict[str, Any], protocol: str) -> ClientInfo:
    return ClientInfo(
        name=str(info.get("name") or "")[:_NAME_CHARS_MAX],
        version=str(info.get("version") or "")[:_NAME_CHARS_MAX],
        protocol=protocol,
        capabilities=capabilities,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
