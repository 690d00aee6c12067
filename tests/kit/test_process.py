"""A worker as a process of its own: ready file, signals, exit codes, logs, HTTP."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import httpx
import pytest

from opsbus.nkeys_ import new_user
from opsbus.testing.waiting import until
from opsbus_contracts import Status

PROGRAM = """
import asyncio
from opsbus import Context, Settings, Worker

class MySettings(Settings):
    greeting: str = "hello"
    size: int = 1

worker = Worker("test", version="1.0.0", settings=MySettings)

@worker.lifespan
async def lifespan(settings):
    if settings.greeting == "fail":
        raise RuntimeError("no backend")
    print("OPENED", flush=True)
    yield {"greeting": settings.greeting}
    print("CLOSED", flush=True)

@worker.tool(permission="test:read", read_only=True)
async def greet(ctx: Context[dict], seconds: float = 0) -> str:
    '''Greets.'''
    ctx.log.info("greeting", api_key="hunter2")
    await ctx.progress(0)
    await asyncio.sleep(seconds)
    return ctx.state["greeting"]

worker.run()
"""


@pytest.fixture
def program(tmp_path, bus):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    @asynccontextmanager
    async def run(**environment):
        ready = tmp_path / "ready.json"
        ready.unlink(missing_ok=True)
        given = {
            "PATH": os.environ["PATH"],
            "OPSBUS_NATS_URL": bus.url,
            "OPSBUS_NATS_SEED_FILE": str(bus.credentials("test")),
            "OPSBUS_READY_FILE": str(ready),
            **environment,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(path),
            env={key: value for key, value in given.items() if value is not None},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        process.ready = ready
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return run


async def ready_facts(process) -> dict:
    await until(lambda: process.ready.exists() or process.returncode is not None, within_s=60)
    assert process.returncode is None, (await process.stderr.read()).decode()
    return json.loads(process.ready.read_text())


async def test_ready_serve_drain(program, caller):
    async with program(OPSBUS_TEST_GREETING="moin", OPSBUS_LOG_LEVEL="debug") as process:
        facts = await ready_facts(process)
        assert (facts["service"], facts["pid"]) == ("test", process.pid)
        assert (await caller.call("test", "greet")).structured == {"result": "moin"}
        if sys.platform == "linux":
            assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
        async with httpx.AsyncClient(base_url=facts["http_url"], trust_env=False) as http:
            assert (await http.get("/live")).json() == {"live": True}
            ready = await http.get("/ready")
            assert (ready.status_code, ready.json()["instance"]) == (200, facts["instance"])
            text = (await http.get("/metrics")).text
            assert 'opsbus_worker_calls_total{outcome="ok",tool="greet"} 1.0' in text
            assert 'opsbus_worker_info{service="test",version="1.0.0"} 1.0' in text
            assert (await http.get("/nothing")).status_code == 404
            assert (await http.post("/live")).status_code == 405
        trace = "0123456789abcdef0123456789abcdef"
        begun = asyncio.Event()
        call = asyncio.create_task(
            caller.call(
                "test",
                "greet",
                {"seconds": 1},
                headers={"traceparent": f"00-{trace}-0123456789abcdef-01"},
                progress=True,
                on_message=lambda _: begun.set(),
            )
        )
        await asyncio.wait_for(begun.wait(), 30)
        process.send_signal(signal.SIGTERM)
        assert (await call).status is Status.OK  # drained, not dropped
        out, err = await process.communicate()
    assert process.returncode == 0
    assert out.decode().split() == ["OPENED", "CLOSED"]
    lines = [json.loads(line) for line in err.decode().splitlines()]
    by_event = {line["event"]: line for line in lines}
    assert by_event["ready"]["http"] == facts["http_url"]
    assert by_event["ready"]["service"] == "test"
    assert by_event["greeting"]["api_key"] == "***"
    assert by_event["greeting"]["trace_id"] == trace
    assert len(by_event["greeting"]["call"]) == 32
    assert {"draining", "stopped"} <= set(by_event)
    assert all({"time", "level", "event"} <= set(line) for line in lines)
    assert "hunter2" not in err.decode()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OPSBUS_TEST_SIZE": "big"}, "OPSBUS_TEST_SIZE"),
        ({"OPSBUS_NATS_SEED_FILE": "/nonexistent"}, "nats_seed_file"),
        ({"OPSBUS_HTTP_HOST": "203.0.113.7"}, "HTTP"),
        ({"OPSBUS_NATS_TLS_CA": "/nonexistent"}, "nats_tls"),
        ({"OPSBUS_CONFIG": "/nonexistent"}, "OPSBUS_CONFIG"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_code_2(program, environment, said):
    async with program(**environment) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
    lines = err.decode().strip().splitlines()
    assert process.returncode == 2, lines
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert "Traceback" not in err.decode()


async def test_a_refused_identity_is_one_line_and_code_2(program, bus, tmp_path):
    stranger = tmp_path / "stranger.nk"
    stranger.write_text(new_user().seed)
    async with program(OPSBUS_NATS_SEED_FILE=str(stranger)) as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    last = err.decode().strip().splitlines()[-1]
    assert "refuses the identity 'test'" in last
    assert "Traceback" not in err.decode()


async def test_it_waits_for_a_server_that_is_not_there_and_can_be_stopped(program):
    async with program(OPSBUS_NATS_URL="nats://127.0.0.1:9") as process:
        line = json.loads(await asyncio.wait_for(process.stderr.readline(), 60))
        assert (line["event"], line["kind"]) == ("nats_error", "connection")
        assert not process.ready.exists()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == 0


async def test_a_backend_that_is_not_there_is_an_error_in_the_log_and_code_1(program):
    async with program(OPSBUS_TEST_GREETING="fail") as process:
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    line = json.loads(err.decode().strip().splitlines()[-1])
    assert (line["level"], line["event"]) == ("error", "failed")
    assert "no backend" in line["traceback"]
