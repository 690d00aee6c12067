"""The adapters against a real Prometheus and a real Alertmanager, where the machine has them."""

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.prometheus import Prometheus


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def started(argv: list[str], url: str) -> asyncio.subprocess.Process:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=quiet, stderr=quiet)
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return process
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@pytest.fixture
async def prometheus_url(tmp_path: Path) -> AsyncIterator[str]:
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus on this machine (Debian package prometheus)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    job = f"{{job_name: self, scrape_interval: 200ms, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}"
    scrape = f"scrape_configs: [{job}]\n"
    (tmp_path / "prometheus.yml").write_text(scrape)
    argv = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    process = await started(argv, url)
    yield url
    process.terminate()
    await process.wait()


@pytest.fixture
async def alertmanager_url(tmp_path: Path) -> AsyncIterator[str]:
    if not shutil.which("prometheus-alertmanager"):
        pytest.skip("no Alertmanager on this machine (Debian package prometheus-alertmanager)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    argv = ["prometheus-alertmanager", f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/am",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
    process = await started(argv, url)
    yield url
    process.terminate()
    await process.wait()


async def test_prometheus(prometheus_url: str) -> None:
    prometheus = Prometheus(prometheus_url)
    async with asyncio.timeout(60):
        while not (await prometheus.query("up == 1")).series:
            await asyncio.sleep(0.1)
    now = time.time()
    ranged = await prometheus.query_range("up", now - 5, now, 1)
    assert ranged.kind == "matrix"
    assert ranged.series[0].labels["job"] == "self"
    assert "up" in await prometheus.label_values("__name__")
    assert await prometheus.series(["up"], now - 60, now)
    assert (await prometheus.targets())[0]["health"] == "up"
    assert await prometheus.version()
    assert await prometheus.rules() == []
    with pytest.raises(BackendError, match="parse error") as caught:
        await prometheus.query("foo(")
    assert caught.value.code == "bad_request"
    await prometheus.close()


async def test_alertmanager(alertmanager_url: str) -> None:
    alert = [{"labels": {"alertname": "DiskFull", "severity": "critical"}, "annotations": {"summary": "full"}}]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{alertmanager_url}/api/v2/alerts", json=alert) as answer,
    ):
        assert answer.status == 200
    alertmanager = Alertmanager(alertmanager_url)
    async with asyncio.timeout(60):
        while not (found := await alertmanager.alerts(['severity="critical"'])):
            await asyncio.sleep(0.1)
    assert found[0]["labels"]["alertname"] == "DiskFull"
    assert await alertmanager.alerts(['severity="none"']) == []
    assert await alertmanager.silences() == []
    assert "versionInfo" in await alertmanager.status()
    with pytest.raises(BackendError):
        await alertmanager.alerts(["what?"])
    await alertmanager.close()
