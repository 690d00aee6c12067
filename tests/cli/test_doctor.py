"""``opsbus doctor`` on a real bus: what is well, what is not, and that each says what to do."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig

from opsbus import Worker
from opsbus.commands.where import EdgeAccess
from opsbus.doctor import bus as bus_checks
from opsbus.doctor import workers as worker_checks
from opsbus.doctor.examine import examine
from opsbus.doctor.finding import Finding, Level
from opsbus.micro import Discovery
from opsbus.nkeys_ import new_user
from opsbus.settings import Settings
from opsbus.testing.ports import free_port

NO_EDGE = EdgeAccess("", "")


def worker_of(name: str) -> Worker:
    made = Worker(name, version="1.2.3")

    @made.tool(permission=f"{name}:read", read_only=True)
    async def look(ctx: Any) -> str:
        """Looks."""
        return "seen"

    return made


def find(findings: list[Finding], subject: str) -> Finding:
    [found] = [finding for finding in findings if finding.subject == subject]
    return found


def failed(findings: list[Finding]) -> list[str]:
    return [f"{finding.subject}: {finding.detail}" for finding in findings if finding.level is Level.FAIL]


@contextmanager
def edge(answers: dict[str, tuple[int, Any]]) -> Iterator[str]:
    """An HTTP server with fixed answers; /health and the like."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {}))
            if "refusals" in self.path and self.headers["Authorization"] != "Bearer good":
                status, body = 401, {}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_well_platform(bus, run_worker) -> None:
    async with run_worker(worker_of("demo")):
        findings = await examine(bus.settings("operator"), NO_EDGE)
    assert failed(findings) == []
    assert {finding.subject for finding in findings} >= {
        "bus",
        "clock",
        "stream AUDIT",
        "bucket CATALOG",
        "object store BLOBS",
        "consumer audit-store",
    }
    demo = find(findings, "service demo")
    assert demo.level is Level.OK
    assert demo.detail == "1 instance, 1 tools, version 1.2.3"
    assert find(findings, "edge").level is Level.WARN


async def test_every_bad_finding_says_what_to_do(bus) -> None:
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    findings = await examine(bus.settings("operator"), EdgeAccess(f"http://127.0.0.1:{free_port()}", ""))
    bad = [finding for finding in findings if finding.level is not Level.OK]
    assert len(bad) >= 3
    assert all(finding.hint for finding in bad)


async def test_a_missing_stream(bus) -> None:
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    found = find(await examine(bus.settings("operator"), NO_EDGE), "stream EVENTS")
    assert (found.level, found.detail) == (Level.FAIL, "is missing")
    assert "opsbus provision" in found.hint


async def test_drift(bus) -> None:
    js = await bus.jetstream()
    config: StreamConfig = (await js.stream_info("EVENTS")).config
    config.max_age = 3600.0
    await js.update_stream(config)
    found = find(await examine(bus.settings("operator"), NO_EDGE), "stream EVENTS")
    assert found.level is Level.WARN
    assert "max_age: 3600.0 -> 604800.0" in found.detail


async def test_no_bus() -> None:
    [found, _] = await examine(Settings(nats_url=f"nats://127.0.0.1:{free_port()}"), NO_EDGE)
    assert found.level is Level.FAIL
    assert "no NATS server answers" in found.detail


async def test_a_bus_that_does_not_know_us(bus, tmp_path: Path) -> None:
    seed = tmp_path / "stranger.nk"
    seed.write_text(new_user().seed)
    [found, _] = await examine(Settings(nats_url=bus.url, nats_seed_file=seed), NO_EDGE)
    assert found.level is Level.FAIL
    assert "refuses" in found.detail


async def test_an_identity_that_may_not_ask(bus) -> None:
    findings = await examine(bus.settings("demo"), NO_EDGE)
    assert failed(findings), "a worker's identity may not look at the streams, and that must not look well"


async def test_garbage_in_the_catalogue_hurts_nobody_else(bus, run_worker) -> None:
    client = await bus.connect("demo")
    js = client.jetstream()
    async with run_worker(worker_of("demo")):
        await js.publish("$KV.CATALOG.demo.demo-garbage", b"{")
        findings = await examine(bus.settings("operator"), NO_EDGE)
    assert "demo.demo-garbage" in find(findings, "catalogue").detail
    assert find(findings, "service demo").level is Level.OK


async def test_announced_and_silent(bus, run_worker) -> None:
    js = (await bus.connect("demo")).jetstream()
    async with run_worker(worker_of("demo")) as running:
        bucket = await (await bus.jetstream()).key_value("CATALOG")
        value = (await bucket.get(f"demo.{running.instance}")).value
        ghost = json.loads(value) | {"instance": "demo-ghost"}
        await js.publish("$KV.CATALOG.demo.demo-ghost", json.dumps(ghost).encode())
        findings = await examine(bus.settings("operator"), NO_EDGE)
    found = find(findings, "service demo")
    assert found.level is Level.FAIL
    assert "silent: demo-ghost" in found.detail


async def test_who_answers_late_is_not_silent(bus, run_worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_checks, "ANSWERS_WITHIN_S", 0.0)
    monkeypatch.setattr(worker_checks, "SILENT_AFTER_S", 30.0)

    def late(self: Discovery, reply: Any) -> Any:
        async def respond(message: Any) -> None:
            await asyncio.sleep(0.5)
            await self._client.publish(message.reply, json.dumps(reply()).encode())

        return respond

    monkeypatch.setattr(Discovery, "_responder", late)
    async with run_worker(worker_of("demo")):
        findings = await examine(bus.settings("operator"), NO_EDGE)
    assert find(findings, "service demo").level is Level.OK


async def test_two_offers_of_one_service(bus, run_worker) -> None:
    other = worker_of("demo")

    @other.tool(permission="demo:read", read_only=True)
    async def more(ctx: Any) -> str:
        """More."""
        return ""

    async with run_worker(worker_of("demo")), run_worker(other):
        found = find(await examine(bus.settings("operator"), NO_EDGE), "service demo")
    assert found.level is Level.WARN
    assert "2 instances, 2 tools" in found.detail


REFUSAL = {"service": "rogue", "instance": "rogue-1", "item": "get_pods", "reason": "k8s announces that name too"}


async def test_what_the_edge_refused() -> None:
    answers = {"/health": (200, {"status": "healthy"}), "/api/v1/catalog/refusals": (200, {"refusals": [REFUSAL]})}
    with edge(answers) as url:
        findings = await examine(None, EdgeAccess(url, "good"), "no bus here")
        assert find(findings, "bus").detail == "no bus here"
        assert find(findings, "edge").level is Level.OK
        rogue = find(findings, "service rogue")
        assert rogue.level is Level.FAIL
        assert "get_pods of rogue-1 is refused: k8s announces that name too" in rogue.detail

        without = find(await examine(None, EdgeAccess(url, "")), "catalogue at the edge")
        assert (without.level, "--token" in without.hint) == (Level.WARN, True)
        with_bad = find(await examine(None, EdgeAccess(url, "bad")), "catalogue at the edge")
        assert (with_bad.level, "not good here" in with_bad.hint) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("status", "body", "level"),
    [
        (200, {"status": "degraded"}, Level.WARN),
        (503, {"status": "unhealthy"}, Level.FAIL),
        (500, ["no", "object"], Level.FAIL),
    ],
)
async def test_an_edge_that_is_not_well(status: int, body: Any, level: Level) -> None:
    with edge({"/health": (status, body), "/api/v1/catalog/refusals": (200, {"refusals": []})}) as url:
        found = find(await examine(None, EdgeAccess(url, "good")), "edge")
    assert found.level is level
    assert found.hint


@pytest.mark.parametrize(
    ("skew_s", "level"), [(0.0, Level.OK), (3.0, Level.WARN), (-3.0, Level.WARN), (60.0, Level.FAIL)]
)
async def test_the_clock(bus, monkeypatch: pytest.MonkeyPatch, skew_s: float, level: Level) -> None:
    monkeypatch.setattr(bus_checks, "time", types.SimpleNamespace(time=lambda: time.time() + skew_s))
    found = await bus_checks.check_clock(await bus.connect("operator"))
    assert found.level is level


def opsbus(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsbus", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_finds_the_running_platform_and_ends_with_its_verdict(bus, tmp_path: Path) -> None:
    nowhere = opsbus(tmp_path, "doctor")
    assert nowhere.returncode == 1
    assert "no platform runs in .opsbus" in nowhere.stdout

    (tmp_path / ".opsbus").mkdir()
    facts = {"nats_url": bus.url, "seeds": {"operator": str(bus.credentials("operator"))}}
    (tmp_path / ".opsbus" / "run.json").write_text(json.dumps(facts))
    well = opsbus(tmp_path, "doctor")
    assert well.returncode == 0, well.stdout
    assert "stream AUDIT" in well.stdout
    assert "2 to look at" in well.stdout

    lines = [json.loads(line) for line in opsbus(tmp_path, "doctor", "--json").stdout.splitlines()]
    assert {"level": "ok", "subject": "stream AUDIT"}.items() <= lines[2].items()

    named = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("operator"))}
    assert opsbus(tmp_path, "doctor", "--data", "elsewhere", **named).returncode == 0


def test_a_file_that_outlived_its_platform_counts_for_nothing(tmp_path: Path) -> None:
    from opsbus.commands.where import run_facts

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "run.json").write_text(json.dumps({"pid": ended.pid, "edge_url": "http://127.0.0.1:1"}))
    assert run_facts(tmp_path) == {}
    (tmp_path / "run.json").write_text(json.dumps({"pid": os.getpid(), "edge_url": "http://127.0.0.1:1"}))
    assert run_facts(tmp_path)["edge_url"] == "http://127.0.0.1:1"


def test_a_token_of_this_machine_goes_to_no_other_edge(tmp_path: Path) -> None:
    from opsbus.commands.where import edge_access

    (tmp_path / "run.json").write_text(json.dumps({"edge_url": "http://127.0.0.1:1", "tokens": {"viewer": "mine"}}))
    assert edge_access("", "", tmp_path) == EdgeAccess("http://127.0.0.1:1", "mine")
    assert edge_access("http://127.0.0.1:1/", "", tmp_path) == EdgeAccess("http://127.0.0.1:1", "mine")
    assert edge_access("http://elsewhere.example", "", tmp_path) == EdgeAccess("http://elsewhere.example", "")
