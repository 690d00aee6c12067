"""The monitoring worker on the bus, before the estate's Prometheus, Alertmanager and Grafana; and the real ones.

Metrics and alerts are read-only to the tests and take a while to begin: one estate per test process, on a thread of its
own. Grafana is new for every test.
"""

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus.testing.caller import Caller, Reply
from opsbus.testing.plugin import RunWorker
from opsbus.testing.ports import free_port
from opsbus_monitoring.app import build
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.build import build_estate
from opsbus_sandbox.grafana.api import GrafanaApi
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.metrics.app import build_app

Ask = Callable[..., Awaitable[Reply]]
StartPrometheus = Callable[..., Awaitable[str]]


@dataclass(frozen=True)
class Estate:
    """Where the three systems answer."""

    prometheus: str
    alertmanager: str
    grafana: str

    @property
    def settings(self) -> dict[str, Any]:
        """For a worker; it watches no alerts, whose events would mix with a test's own."""
        return {
            "alert_watch": False,
            "prometheus_url": self.prometheus,
            "alertmanager_url": self.alertmanager,
            "grafana_url": self.grafana,
        }


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    """An application on a free port, and its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture(scope="session")
def metrics_url() -> Iterator[str]:
    """The estate's Prometheus; Alertmanager is below /alertmanager."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="estate-metrics")
    thread.start()
    store = ObjectStore(Clock())
    build_estate(store)
    runner, url = asyncio.run_coroutine_threadsafe(serve(build_app(store, step_s=5.0)), loop).result(60)
    yield url
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture
async def estate(metrics_url: str) -> AsyncIterator[Estate]:
    """All three systems."""
    app = web.Application()
    app.add_routes(GrafanaApi(time.time).routes())
    runner, grafana = await serve(app)
    yield Estate(metrics_url, f"{metrics_url}/alertmanager", grafana)
    await runner.cleanup()


@pytest.fixture
async def ask(estate: Estate, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Ask]:
    """Calls a tool of a worker that looks at the estate."""

    async def call(tool: str, options: dict[str, Any] | None = None, **arguments: Any) -> Reply:
        return await caller.call("monitoring", tool, arguments, **(options or {}))

    async with run_worker(build(), **estate.settings):
        yield call


async def all_pages(ask: Ask, tool: str, key: str, limit: int) -> tuple[list[str], dict[str, Any]]:
    """A field of every row, read page by page, and the answer in one page.

    The estate's alerts come and go every few seconds: it is read again until none did meanwhile.
    """
    async with asyncio.timeout(60):
        while True:
            whole = (await ask(tool)).structured
            seen, cursor = [], None
            while True:
                page = (await ask(tool, limit=limit, cursor=cursor)).structured
                seen += [row[key] for row in page["items"]]
                cursor = page["page"]["next_cursor"]
                if cursor is None:
                    break
            if [row[key] for row in (await ask(tool)).structured["items"]] == [row[key] for row in whole["items"]]:
                return seen, whole


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client, to arrange things behind the worker's back."""
    async with aiohttp.ClientSession() as session:
        yield session


async def started(argv: list[str], url: str) -> asyncio.subprocess.Process:
    """A server that says that it is ready."""
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
            assert process.returncode is None, f"{argv[0]} ended with {process.returncode}"
            await asyncio.sleep(0.1)


@pytest.fixture
async def start_prometheus(tmp_path: Path) -> AsyncIterator[StartPrometheus]:
    """Starts a real Prometheus that scrapes itself; ``jobs`` and ``rules`` are more of its YAML."""
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus on this machine (Debian package prometheus)")
    processes = []

    async def start(jobs: str = "", rules: str = "") -> str:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        (tmp_path / "rules.yml").write_text(rules or "groups: []\n")
        (tmp_path / "prometheus.yml").write_text(
            "global: {evaluation_interval: 200ms}\n"
            f"rule_files: ['{tmp_path}/rules.yml']\n"
            "scrape_configs:\n"
            f"- {{job_name: self, scrape_interval: 200ms, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n{jobs}"
        )
        argv = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        processes.append(await started(argv, url))
        return url

    yield start
    for process in processes:
        process.terminate()
        await process.wait()


@pytest.fixture
async def prometheus_url(start_prometheus: StartPrometheus) -> str:
    """A real Prometheus that scrapes itself."""
    return await start_prometheus()


@pytest.fixture
async def alertmanager_url(tmp_path: Path) -> AsyncIterator[str]:
    """A real Alertmanager that tells nobody."""
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
