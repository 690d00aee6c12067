"""OpenTelemetry traces of calls. Without an endpoint nothing is made and a call costs nothing more."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opsbus_contracts import Header

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from opsbus.call import Call

EXPORT_TIMEOUT_S = 2.0
"""A collector that is not there holds up a worker's end no longer. Seconds."""

_TRACEPARENT = Header.TRACEPARENT.value
_EVEN = frozenset("02468ace")
"""Last digits of flags that do not have the lowest bit, which says ``sampled``; others are set beside it."""
_PROPAGATOR = TraceContextTextMapPropagator()
_NOTHING: AbstractContextManager[None] = nullcontext()


def provider(service: str, instance: str, version: str, endpoint: str) -> "TracerProvider":
    """Spans that go to an OTLP/HTTP endpoint, ``http://collector:4318``."""
    # The exporter and its protocol are eight megabytes, for those who have a collector.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {"service.name": f"opsbus-{service}", "service.instance.id": instance, "service.version": version}
    )
    made = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


class Tracing:
    """Spans of one instance: FastStream's around the message, ``execute_tool <name>`` inside."""

    def __init__(self, tracer_provider: "TracerProvider | None") -> None:
        self._provider = tracer_provider
        self._tracer = trace.get_tracer("opsbus", tracer_provider=tracer_provider) if tracer_provider else None

    @property
    def middlewares(self) -> Sequence[Any]:
        """For the broker."""
        if self._provider is None:
            return []
        from faststream.nats.opentelemetry import NatsTelemetryMiddleware

        return [NatsTelemetryMiddleware(tracer_provider=self._provider)]

    def span(self, call: "Call") -> AbstractContextManager[None]:
        """The span of a call; its parent is the message's, which is the caller's ``traceparent``."""
        if self._tracer is None:
            return _NOTHING
        return _span(self._tracer, call) if sampled(call.headers) else _not_recorded(call)


def sampled(headers: Mapping[str, str]) -> bool:
    """Whether a call's trace may be recorded: its caller's is, or it has none yet."""
    flags = headers.get(_TRACEPARENT, "")[-1:]
    return flags not in _EVEN


@contextmanager
def _not_recorded(call: "Call") -> Iterator[None]:
    """The trace goes on in what the call calls, which records it as little."""
    token = context.attach(_PROPAGATOR.extract(call.headers))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def _span(tracer: trace.Tracer, call: "Call") -> Iterator[None]:
    kind, service, name = call.msg.subject.split(".", 2)
    attributes = {"rpc.system": "nats", "opsbus.call": call.id, "opsbus.service": service}
    title = name
    if kind == "tool":
        title = f"execute_tool {name}"
        attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    with tracer.start_as_current_span(title, kind=SpanKind.INTERNAL, attributes=attributes) as span:
        if not call.trace_id:
            call.trace_id = format(span.get_span_context().trace_id, "032x")
        yield
        if call.error:
            span.set_attribute("error.type", call.error)
            span.set_status(trace.StatusCode.ERROR)
