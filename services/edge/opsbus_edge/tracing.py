"""OpenTelemetry spans of requests, by the conventions for MCP. Without an endpoint none is made."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opsbus_contracts.calls import TOOL_ERROR, Status
from opsbus_edge.model import Request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_FINE = frozenset({Status.OK.value, Status.INPUT_REQUIRED.value})
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

    def ended(self, status: str) -> None:
        if status not in _FINE:
            self._span.set_attribute("error.type", TOOL_ERROR if status == TOOL_ERROR else status)
            self._span.set_status(StatusCode.ERROR)


_NO_SPAN = NoSpan()


class Tracing:
    """A SERVER span per request; its context replaces the request's, so that the worker's span is its child."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._provider = provider
        self._tracer = trace.get_tracer("opsbus.edge", tracer_provider=provider) if provider else None

    def span(self, request: Request) -> AbstractContextManager[NoSpan]:
        """The span of a request, parent: its ``traceparent`` if there is one."""
        return _NO_SPAN if self._tracer is None else self._span(self._tracer, request)

    @contextmanager
    def _span(self, tracer: trace.Tracer, request: Request) -> Iterator[NoSpan]:
        carrier = {"traceparent": request.traceparent or "", "tracestate": request.tracestate or ""}
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
        with tracer.start_as_current_span(
            name, context=_propagator.extract(carrier), kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            own: dict[str, str] = {}
            _propagator.inject(own)
            request.traceparent = own.get("traceparent", request.traceparent)
            request.tracestate = own.get("tracestate", request.tracestate)
            yield _Span(span)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()
