"""What is seen from outside: traces, metrics, logs, domain events."""

import io
import json
import logging

import httpx
import pytest
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opsbus import Context, ErrorCode, ToolError, Worker, logs
from opsbus.logs import JsonFormatter, Log, TextFormatter, masked
from opsbus.testing.waiting import until
from opsbus_contracts import Event, Status

worker = Worker("test", version="1.0.0")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@worker.tool(permission="test:read", read_only=True)
async def one(ctx: Context[None], fail: bool = False) -> str:
    """One."""
    if fail:
        raise ToolError(ErrorCode.NOT_FOUND, "nothing")
    return "one"


@worker.tool(permission="test:write")
async def act(ctx: Context[None]) -> str:
    """Emits."""
    await ctx.emit("acted", {"what": "it"}, subject="shop/checkout")
    await ctx.resource_updated("test://a")
    return "done"


async def test_spans_hang_together(run_worker, caller):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with run_worker(worker, tracer_provider=provider):
        assert (await caller.call("test", "one", headers=PARENT)).status is Status.OK
        await caller.call("test", "one", {"fail": True})
    spans = {span.name: span for span in exporter.get_finished_spans() if span.context.trace_id == int(TRACE, 16)}
    message, tool = spans["tool.test.one process"], spans["execute_tool one"]
    assert message.parent.span_id == int("b7ad6b7169203331", 16)
    assert tool.parent.span_id == message.context.span_id
    assert tool.attributes["gen_ai.tool.name"] == "one"
    others = [span for span in exporter.get_finished_spans() if span.context.trace_id != int(TRACE, 16)]
    failed = next(span for span in others if span.name == "execute_tool one")
    assert failed.attributes["error.type"] == "not_found"
    assert not failed.status.is_ok


@pytest.mark.parametrize("flags", ["00", "02"])
async def test_what_its_caller_does_not_record_is_not_recorded_here_but_goes_on(run_worker, caller, flags):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    went_on: list[dict[str, str]] = []
    asks = Worker("test", version="1.0.0")

    @asks.tool(permission="test:read", read_only=True)
    async def ask(ctx: Context[None]) -> str:
        """As it asks a backend."""
        inject(backend := {})
        went_on.append(backend)
        return "asked"

    unrecorded = f"00-{TRACE}-b7ad6b7169203331-{flags}"  # 02: at random, says the SDK
    async with run_worker(asks, tracer_provider=provider):
        assert (await caller.call("test", "ask", headers={"traceparent": unrecorded})).status is Status.OK
        assert (await caller.call("test", "ask", headers=PARENT)).status is Status.OK
    assert went_on[0] == {"traceparent": unrecorded}
    assert went_on[1]["traceparent"].startswith(f"00-{TRACE}-")
    assert went_on[1]["traceparent"].endswith("-01")
    names = [span.name for span in exporter.get_finished_spans()]
    assert names.count("execute_tool ask") == names.count("tool.test.ask process") == 1


async def test_without_an_endpoint_there_is_no_tracing(run_worker):
    async with run_worker(worker) as running:
        assert list(running.tracing.middlewares) == []
        assert running.tracing.span(None) is running.tracing.span(None)


async def test_an_endpoint_that_is_not_there_does_not_hurt(run_worker, caller):
    async with run_worker(worker, otel_exporter_otlp_endpoint="http://127.0.0.1:9") as running:
        assert (await caller.call("test", "one", headers=PARENT)).status is Status.OK
        assert running.tracing.middlewares


async def test_metrics_count_by_tool_and_outcome(run_worker, caller):
    async with run_worker(worker) as running:
        await caller.call("test", "one")
        await caller.call("test", "one", {"fail": True})
        await caller.call("test", "one", identity=None)
        for number in range(3):
            await caller.call("test", f"made_up_{number}")
        async with httpx.AsyncClient(base_url=running.http_url, trust_env=False) as http:
            text = (await http.get("/metrics")).text
    assert 'opsbus_worker_calls_total{outcome="ok",tool="one"} 1.0' in text
    assert 'opsbus_worker_calls_total{outcome="not_found",tool="one"} 1.0' in text
    assert 'opsbus_worker_calls_total{outcome="unauthenticated",tool="?"} 1.0' in text
    assert 'opsbus_worker_calls_total{outcome="unknown_tool",tool="?"} 3.0' in text
    assert "made_up" not in text  # a caller cannot make labels
    assert 'opsbus_worker_call_duration_seconds_count{tool="one"} 2.0' in text
    assert "opsbus_worker_in_flight 0.0" in text
    assert "opsbus_worker_ready 1.0" in text


async def test_two_workers_of_a_process_count_apart(run_worker, caller):
    other = Worker("demo", version="2.0.0")
    async with run_worker(worker) as first, run_worker(other) as second:
        await caller.call("test", "one")
        assert b'tool="one"' in first.metrics.text()
        assert b'tool="one"' not in second.metrics.text()


async def test_a_denied_publish_is_counted(run_worker):
    async with run_worker(worker) as running:
        await running.client.publish("audit.edge.completed", b"{}")
        count = running.metrics.nats_errors.labels("permission")._value
        await until(lambda: count.get() == 1)


async def test_domain_events(run_worker, caller, bus):
    async with run_worker(worker) as running:
        assert (await caller.call("test", "act", headers=PARENT)).status is Status.OK
        js = await bus.jetstream()
        acted = Event.model_validate_json((await js.get_msg("EVENTS", seq=1)).data)
        updated = Event.model_validate_json((await js.get_msg("EVENTS", seq=2)).data)
        assert (acted.type, acted.subject, acted.data) == ("opsbus.event.v1.acted", "shop/checkout", {"what": "it"})
        assert acted.source == f"/opsbus/test/{running.instance}"
        assert acted.traceparent == PARENT["traceparent"]
        assert updated.data == {"uri": "test://a"}
        assert (await js.get_msg("EVENTS", seq=2)).subject == "event.test.resource_updated"


async def test_an_event_that_cannot_be_stored_does_not_undo_the_call(run_worker, caller, bus):
    await (await bus.jetstream()).delete_stream("EVENTS")
    async with run_worker(worker) as running:
        reply = await caller.call("test", "act")
        assert reply.structured == {"result": "done"}
        assert running.metrics.lost_events.labels("event")._value.get() == 2


def lines(formatter) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("opsbus.test", logging.DEBUG)
    logger.addHandler(handler)
    return Log(logger, {"service": "test", "instance": "test-1"}), stream


def test_json_lines():
    log, stream = lines(JsonFormatter())
    log.bind(call="c").warning("it happened", n=1, token="hunter2", nested={"password": "hunter2", "a": 1}, odd={1, 2})
    try:
        raise ValueError("why")
    except ValueError as error:
        log.exception("failed", error)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["event"] == "it happened"
    assert (first["level"], first["service"], first["instance"], first["call"], first["n"]) == (
        "warning",
        "test",
        "test-1",
        "c",
        1,
    )
    assert (first["token"], first["nested"]) == ("***", {"password": "***", "a": 1})
    assert "ValueError: why" in second["traceback"]


def test_text_lines():
    log, stream = lines(TextFormatter())
    log.info("it happened", n=1, api_key="hunter2")
    assert "test: it happened n=1 api_key=***" in stream.getvalue()
    assert "test-1" not in stream.getvalue()


def test_a_terminal_gets_text_and_a_pipe_json():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    own = logging.getLogger("opsbus").level

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    try:
        for stream, expected in ((Terminal(), TextFormatter), (io.StringIO(), JsonFormatter)):
            logs.configure("info", "auto", stream)
            assert isinstance(root.handlers[0].formatter, expected)
            logs.get("test").debug("not this")
            logs.get("test").info("this")
            logging.getLogger("library").info("nor this")
            assert stream.getvalue().count("\n") == 1
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.getLogger("opsbus").setLevel(own)


@pytest.mark.parametrize("key", ["token", "Authorization", "api_key", "apikey", "db_password", "client_secret", "seed"])
def test_secret_like_keys_are_masked(key):
    assert masked({key: "x", "other": "y"}) == {key: "***", "other": "y"}
