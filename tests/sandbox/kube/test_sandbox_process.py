"""The process: addresses announced, a clean stop, and wrong settings told in one line."""

import asyncio
import json
import os
import signal
import ssl
import sys

import aiohttp
import pytest


def environment(tmp_path, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPSBUS_")}
    return {**kept, "OPSBUS_SANDBOX_STATE_DIR": str(tmp_path / "state"), **more}


async def start(tmp_path, **more):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus_sandbox",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(tmp_path, **more),
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_faces_answer_until_it_is_told_to_stop(tmp_path, number):
    ready_file = tmp_path / "ready.json"
    child = await start(tmp_path, OPSBUS_READY_FILE=str(ready_file))
    try:
        async with asyncio.timeout(60):
            told = dict([(await child.stdout.readline()).decode().split() for _ in range(6)])
        facts = json.loads(ready_file.read_text())
        assert {k: facts[k] for k in told} == told
        assert facts["pid"] == child.pid
        connector = aiohttp.TCPConnector(ssl=unchecked())
        async with aiohttp.ClientSession(connector=connector) as session:
            for url in (f"{told['kubernetes_url']}/readyz", f"{told['prometheus_url']}/api/v1/alerts"):
                async with session.get(url) as answer:
                    assert answer.status == 200, url
        child.send_signal(number)
        async with asyncio.timeout(30):
            _, err = await child.communicate()
        assert child.returncode == 0
        assert b"Traceback" not in err
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def unchecked():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("SPEED", "fast", 2), ("KUBE_PORT", "99999", 2), ("SPEED", "0", 2), ("ACCOUNTS", '{"x": {"name": "y"}}', 2)],
)
async def test_wrong_settings_are_one_line(tmp_path, name, value, code):
    child = await start(tmp_path, **{f"OPSBUS_SANDBOX_{name}": value})
    async with asyncio.timeout(60):
        out, err = await child.communicate()
    assert child.returncode == code
    assert out == b""
    (line,) = err.decode().splitlines()
    assert f"OPSBUS_SANDBOX_{name}" in line


async def test_a_taken_port_is_one_line(tmp_path):
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        for name in ("KUBE_PORT", "METRICS_PORT"):
            child = await start(tmp_path, **{f"OPSBUS_SANDBOX_{name}": str(port)})
            async with asyncio.timeout(60):
                _, err = await child.communicate()
            assert child.returncode == 1
            assert b"Traceback" not in err
            assert b"address already in use" in err
    finally:
        server.close()
        await server.wait_closed()
