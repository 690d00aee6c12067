"""What operators see: health, metrics, traces; and the edge as a process that drains."""

import asyncio
import json
import os
import signal
import sys
import time

import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opsbus import Context, ErrorCode, ToolError, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_edge.tracing import Tracing


def demo(holding: asyncio.Event | None = None) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context, seconds: float = 0.0, fail: bool = False) -> dict[str, int]:
        await asyncio.sleep(seconds)
        if fail:
            raise ToolError(ErrorCode.NOT_FOUND, "no")
        return {"n": 1}

    if holding is not None:

        @worker.tool(permission="demo:read", read_only=True)
        async def hold(ctx: Context) -> dict[str, int]:
            await holding.wait()
            return {"n": 1}

    @worker.resource("demo://things", name="things", permission="demo:read")
    async def things(ctx: Context) -> dict[str, int]:
        return {"n": 1}

    return worker


async def test_metrics_have_the_names_that_users_of_gateways_know(running, run_worker: RunWorker) -> None:
    async with run_worker(demo()):
        await running.knows("demo_look")
        await running.call("demo_look")
        await running.call("demo_look", {"fail": True})
        await running.call("demo_never_heard_of")
        await running.mcp("tools/list")
        await running.rest("GET", "/api/v1/resources/read", params={"uri": "demo://things"})
        await running.rest("GET", "/api/v1/tools", role=None)
    text = (await running.http.get("/metrics")).text
    for line in (
        'mcp_requests_total{method="tools/call",status="ok"} 1.0',
        'mcp_requests_total{method="tools/list",status="ok"} 1.0',
        'mcp_tool_calls_total{status="ok",tool="demo_look"} 1.0',
        'mcp_tool_calls_total{status="not_found",tool="demo_look"} 1.0',
        'mcp_tool_calls_total{status="unknown_tool",tool="unknown"} 1.0',
        'mcp_request_duration_seconds_count{method="tools/call"} 3.0',
        'mcp_tool_call_duration_seconds_count{tool="demo_look"} 2.0',
        'mcp_errors_total{code="not_found"} 1.0',
        'mcp_resource_access_total{service="demo",status="ok"} 1.0',
        "mcp_active_connections 1.0",
        'opsbus_edge_authentications_total{outcome="missing"} 1.0',
        'opsbus_edge_attempts_total{outcome="ok"} 2.0',
    ):
        assert line in text, line
    assert "# TYPE mcp_rate_limit_hits_total counter" in text
    assert "never_heard_of" not in text


async def test_health_names_each_dependency(running, run_worker: RunWorker) -> None:
    alone = (await running.http.get("/health")).json()
    assert alone["status"] == "degraded"
    assert alone["dependencies"]["workers"]["detail"] == "no worker is there"
    async with run_worker(demo()):
        await running.knows("demo_look")
        health = await running.http.get("/health")
        assert health.status_code == 200
        body = health.json()
        assert body["status"] == "healthy", body
        assert set(body["dependencies"]) == {"nats", "catalog", "api_keys", "quarantine", "policy", "audit", "workers"}
        assert body["dependencies"]["workers"]["detail"] == "1 services"
        assert "demo" not in health.text
        assert "127.0.0.1" not in health.text
        assert (await running.ready()).json() == {"ready": True, "reasons": []}


async def test_a_trace_goes_from_the_client_through_the_edge_to_the_worker(running, run_worker: RunWorker) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    running.edge.pipeline._tracing = Tracing(provider)
    trace, parent = "a" * 32, "b" * 16
    async with run_worker(demo(), tracer_provider=provider):
        await running.knows("demo_look")
        await running.call("demo_look", {"fail": True}, meta={"traceparent": f"00-{trace}-{parent}-01"})
    spans = {span.name: span for span in exporter.get_finished_spans()}
    edge = spans["tools/call demo_look"]
    assert format(edge.context.trace_id, "032x") == trace
    assert format(edge.parent.span_id, "016x") == parent
    assert edge.kind.name == "SERVER"
    assert edge.attributes["mcp.method.name"] == "tools/call"
    assert edge.attributes["gen_ai.tool.name"] == "demo_look"
    assert edge.attributes["gen_ai.operation.name"] == "execute_tool"
    assert edge.attributes["error.type"] == "not_found"
    worker = spans["execute_tool look"]
    assert worker.context.trace_id == edge.context.trace_id
    by_id = {span.context.span_id: span for span in exporter.get_finished_spans()}
    node = worker
    while node.parent is not None and node.parent.span_id in by_id:
        node = by_id[node.parent.span_id]
    assert node is edge, "the worker's span hangs below the edge's"


async def takes_requests(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            return (await http.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def test_the_process_drains_on_sigterm(bus: Bus, keys, run_worker: RunWorker, tmp_path, audit_events) -> None:
    ready = tmp_path / "ready.json"
    settings = keys.settings(bus)
    env = {**os.environ, "OPSBUS_NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(settings["nats_seed_file"])}
    for name in ("identity_key_file", "seal_key_file"):
        env[f"OPSBUS_EDGE_{name.upper()}"] = str(settings[name])
    env["OPSBUS_EDGE_JWT_PUBLIC_KEY_FILES"] = json.dumps([str(path) for path in settings["jwt_public_key_files"]])
    env |= {"OPSBUS_EDGE_HTTP_PORT": "0", "OPSBUS_READY_FILE": str(ready), "OPSBUS_LOG_FORMAT": "json"}
    command = (sys.executable, "-c", "from opsbus_edge.app import service; service.main()")
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
    holding = asyncio.Event()
    try:
        async with run_worker(demo(holding)):
            async with asyncio.timeout(60):
                while not ready.exists():
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
            facts = json.loads(ready.read_text())
            assert facts["pid"] == process.pid
            headers = {"authorization": f"Bearer {keys.token()}"}
            async with httpx.AsyncClient(base_url=facts["http_url"], headers=headers, timeout=60) as http:
                async with asyncio.timeout(60):
                    while "demo_hold" not in (await http.get("/api/v1/tools")).text:
                        await asyncio.sleep(0.02)
                calling = asyncio.create_task(http.post("/api/v1/tools/demo_hold/execute", json={}))
                async with asyncio.timeout(60):
                    while "opsbus_edge_calls_in_flight 1.0" not in (await http.get("/metrics")).text:
                        await asyncio.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(60):
                    while await takes_requests(facts["http_url"]):
                        await asyncio.sleep(0.02)
                holding.set()
                answer = await calling
                since = time.monotonic()
                assert answer.status_code == 200
                assert answer.json()["structuredContent"] == {"n": 1}
            assert await asyncio.wait_for(process.wait(), 60) == 0
            assert time.monotonic() - since < 15
        stages = [event["stage"] for event in await audit_events(2)]
        assert stages == ["requested", "completed"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.stderr is not None
    log = (await process.stderr.read()).decode()
    assert "Traceback" not in log
    assert keys.token().split(".")[0] not in log


async def test_a_wrong_setting_ends_the_process_with_one_line() -> None:
    env = {**os.environ, "OPSBUS_EDGE_ALLOW_ANONYMOUS": "yes"}
    command = (sys.executable, "-c", "from opsbus_edge.app import main; main()")
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    (line,) = stderr.decode().strip().splitlines()
    assert "allow_anonymous" in line
    assert "yes, without authentication" in line


async def test_a_taken_port_ends_the_process_with_one_line(bus: Bus, keys, running) -> None:
    settings = keys.settings(bus)
    env = {**os.environ, "OPSBUS_NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(settings["nats_seed_file"])}
    env["OPSBUS_EDGE_IDENTITY_KEY_FILE"] = str(settings["identity_key_file"])
    env["OPSBUS_EDGE_HTTP_PORT"] = running.url.rsplit(":", 1)[1]
    env["OPSBUS_LOG_LEVEL"] = "error"
    command = (sys.executable, "-c", "from opsbus_edge.app import main; main()")
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert "Address already in use" in stderr.decode().strip().splitlines()[-1]
