"""OpenTelemetry spans of requests, by the conventions for MCP. Without an endpoint none is made."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opsbus_contracts.calls import TOOL_ERROR, Status
from opsbus_edge.model import Request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_FINE = frozenset({Status.OK.value, Status.INPUT_REQUIRED.value})
_NO_PARENT = Context()
_propagator = TraceContextTextMapPropagator()


class NoSpan:
    """A span where none is made."""

    def __enter__(self) -> "NoSpan":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def ended(self, status: str) -> None:
        """How the request ended."""


class _Span(NoSpan):
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._current = trace.use_span(span, end_on_exit=True)

    def __enter__(self) -> "_Span":
        self._current.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._current.__exit__(*raised)

    def ended(self, status: str) -> None:
        if status not in _FINE:
            self._span.set_attribute("error.type", TOOL_ERROR if status == TOOL_ERROR else status)
            self._span.set_status(StatusCode.ERROR)


_NO_SPAN = NoSpan()


def _parent(request: Request) -> Context:
    if not request.traceparent:
        return _NO_PARENT
    return _propagator.extract({"traceparent": request.traceparent, "tracestate": request.tracestate or ""}, _NO_PARENT)


class Tracing:
    """A SERVER span per request; its context replaces the request's, so that the worker's span is its child."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._provider = provider
        self._tracer = trace.get_tracer("opsbus.edge", tracer_provider=provider) if provider else None

    def span(self, request: Request) -> AbstractContextManager[NoSpan]:
        """The span of a request, parent: its ``traceparent`` if there is one."""
        return _NO_SPAN if self._tracer is None else self._span(self._tracer, request)

    def _span(self, tracer: trace.Tracer, request: Request) -> NoSpan:
        attributes = {
            "mcp.method.name": request.method,
            "mcp.protocol.version": request.protocol,
            "network.transport": "pipe" if request.transport == "stdio" else "tcp",
            "opsbus.call": request.call,
        }
        if request.method == "tools/call":
            attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": request.target}
        elif request.method == "prompts/get":
            attributes["gen_ai.prompt.name"] = request.target
        elif request.method == "resources/read":
            attributes["mcp.resource.uri"] = request.target
        # A URI would make a name per resource.
        name = request.method if request.method == "resources/read" else f"{request.method} {request.target}"
        span = tracer.start_span(name, context=_parent(request), kind=SpanKind.SERVER, attributes=attributes)
        own = span.get_span_context()
        request.traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
        request.tracestate = own.trace_state.to_header() or request.tracestate
        return _Span(span) if span.is_recording() else _NO_SPAN

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()
