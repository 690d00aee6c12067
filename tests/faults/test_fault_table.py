"""Backends that are slow, gone, overloaded, failing, lying or cut off: each worker says which system it is and what to
do, within its time, its other tools go on, and it is well again when the backend is. The table is printed."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from fault_proxy import FaultProxy, expired_certificate

import opsbus_cmdb.app
import opsbus_k8s_ops.app
import opsbus_monitoring.app
from opsbus import Worker
from opsbus.runtime import Runtime
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller, Reply
from opsbus.testing.plugin import RunWorker
from opsbus_cmdb import seed
from opsbus_cmdb.http_server import application
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_sandbox.app import Estate, serve

FAULTS = ("slow", "gone", "reset", "429", "500", "502", "503", "html", "other JSON", "no JSON", "truncated")
CODES = {"backend_unavailable", "backend_error"}
TIMEOUT_S = 5.0
"""Longer than a slow machine needs for a request to a backend that is well."""
SHORT_S = 1.0
"""For the table, which waits for it again and again."""
KEY = "k" * 32


@dataclass(frozen=True)
class Case:
    """One worker before one backend."""

    service: str
    names: str
    """What an error has to say, so that its reader knows which system is meant."""
    read: tuple[str, dict[str, Any]]
    other: tuple[str, dict[str, Any]]
    """A tool that goes on while ``broken`` is."""
    broken: str
    """Part of the paths that ``read`` needs and ``other`` does not; empty: ``other`` needs another backend."""


CASES = {
    "Kubernetes": Case(
        "k8s", "lab", ("get_deployments", {"namespaces": ["shop"]}), ("list_clusters", {}), "/deployments"
    ),
    "Prometheus": Case("monitoring", "Prometheus", ("query_metrics", {"expr": "up"}), ("get_alerts", {}), ""),
    "CMDB": Case(
        "cmdb",
        "CMDB",
        ("get_service_topology", {"service": "service:shop/checkout"}),
        ("query_assets", {}),
        "/topology",
    ),
}


@dataclass
class Broken:
    """A worker that runs, and the proxy in front of its backend."""

    case: Case
    proxy: FaultProxy
    caller: Caller
    runtime: Runtime
    rows: list[str] = field(default_factory=list)

    async def call(self, what: tuple[str, dict[str, Any]]) -> Reply:
        return await self.caller.call(self.case.service, what[0], what[1])

    async def well_again(self) -> float:
        """Seconds until it answers."""
        self.proxy.fault = self.proxy.only = ""
        began = time.monotonic()
        async with asyncio.timeout(60):
            while True:
                reply = await self.call(self.case.read)
                if reply.status == "ok":
                    return time.monotonic() - began
                await asyncio.sleep(0.1)


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Estate]:
    estate = await serve(state_dir=tmp_path / "estate", speed=0.1, bookmark_every_s=0.5)
    yield estate
    await estate.close()


async def cmdb_server(folder: Path, stack: AsyncExitStack) -> str:
    """The CMDB's own face over a filled store."""
    store = EmbeddedInventory(f"sqlite:///{folder}/cmdb.sqlite3", 10.0)
    await store.create()
    stack.push_async_callback(store.close)
    await store.load(seed.estate("shop"))
    runner = web.AppRunner(application(store, KEY), shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def kubeconfig(folder: Path, estate: Estate, url: str, authority: Path | None = None) -> Path:
    """The estate's own, by way of the proxy."""
    document = yaml.safe_load(estate.kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": url} | (
        {"certificate-authority": str(authority)} if authority else {}
    )
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


Run = Callable[..., Awaitable[Broken]]


@pytest.fixture
async def run(upstream: Estate, run_worker: RunWorker, caller: Caller, tmp_path: Path) -> AsyncIterator[Run]:
    """Starts a case's worker behind a proxy."""
    async with AsyncExitStack() as stack:

        async def start(
            name: str,
            certificate: Any = None,
            authority: Path | None = None,
            timeout_s: float = TIMEOUT_S,
            **more: Any,
        ) -> Broken:
            case = CASES[name]
            urls = {"Kubernetes": upstream.kube_url, "Prometheus": upstream.prometheus_url}
            proxy = FaultProxy(urls.get(name) or await cmdb_server(tmp_path, stack), certificate)
            await proxy.start()
            stack.push_async_callback(proxy.stop)
            worker, settings = worker_of(name, upstream, proxy.url, tmp_path, authority, timeout_s)
            runtime = await stack.enter_async_context(run_worker(worker, **(settings | more)))
            return Broken(case, proxy, caller, runtime)

        yield start


def worker_of(
    name: str, estate: Estate, url: str, folder: Path, authority: Path | None, timeout_s: float
) -> tuple[Worker, dict[str, Any]]:
    match name:
        case "Kubernetes":
            path = kubeconfig(folder, estate, url, authority)
            options = {"kubeconfig": str(path), "contexts": ["lab"], "request_timeout_s": timeout_s}
            return opsbus_k8s_ops.app.build(), options | {"impersonate": False, "watch": False}
        case "Prometheus":
            options = {"prometheus_url": url, "alertmanager_url": estate.alertmanager_url, "query_timeout_s": timeout_s}
            return opsbus_monitoring.app.build(), options
        case _:
            return opsbus_cmdb.app.build(), {"url": url, "api_key": KEY, "timeout_s": timeout_s}


async def broken_call(running: Broken, fault: str) -> tuple[Reply, float]:
    began = time.monotonic()
    reply = await running.call(running.case.read)
    return reply, time.monotonic() - began


def examined(running: Broken, fault: str, reply: Reply) -> dict[str, Any]:
    assert reply.status == "error", f"{fault}: {reply.body[:300]!r}"
    error = reply.error
    assert error.code.value in CODES, f"{fault}: {error}"
    assert running.case.names in error.message, f"{fault}: {error.message}"
    assert error.hint, fault
    assert "Traceback" not in error.message
    assert "hunter2" not in error.message
    return error.model_dump()


@pytest.mark.parametrize("name", list(CASES))
async def test_every_kind_of_fault(name: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    running = await run(name, timeout_s=SHORT_S)
    await running.well_again()
    for fault in FAULTS:
        if fault == "gone":
            await running.proxy.stop()
        else:
            running.proxy.fault = fault
        reply, seconds = await broken_call(running, fault)
        error = examined(running, fault, reply)
        assert seconds < 30, "the call ends within its own time"
        for _ in range(6):  # until it is shut out
            examined(running, fault, await running.call(running.case.read))
        asked = running.proxy.asked
        shut_began = time.monotonic()
        examined(running, fault, await running.call(running.case.read))
        shut_s = time.monotonic() - shut_began
        spared = fault != "gone" and running.proxy.asked == asked
        if fault == "gone":
            await running.proxy.start()
        well_s = await running.well_again()
        running.rows.append(
            f"  {name:<11} {fault:<11} {error['code']:<20} {seconds:>5.1f} s  shut: {shut_s:>4.1f} s"
            f"{' (not asked)' if spared else '':<12}  well again after {well_s:>4.1f} s  {error['message'][:90]}"
        )
    with capsys.disabled():
        print("", *running.rows, sep="\n")


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("fault", ["503", "slow"])
async def test_other_tools_go_on(name: str, fault: str, run: Run) -> None:
    of_another_backend = not CASES[name].broken
    running = await run(name, timeout_s=SHORT_S if of_another_backend else TIMEOUT_S)
    running.proxy.fault, running.proxy.only = fault, running.case.broken
    examined(running, fault, await running.call(running.case.read))
    reply = await running.call(running.case.other)
    assert reply.status == "ok", reply.body[:300]


@pytest.mark.parametrize("name", list(CASES))
async def test_an_expired_certificate(name: str, run: Run, tmp_path: Path) -> None:
    context, public = expired_certificate(tmp_path)
    running = await run(name, context, public)
    error = examined(running, "expired", await running.call(running.case.read))
    assert "certificate" in error["message"].lower()


async def told_at(bus: Bus, image: str) -> float:
    """When the stream first told of a workload with this image; the time of the event."""
    js = await bus.jetstream()
    info = await js.stream_info("EVENTS")
    for sequence in range(info.state.first_seq or 1, info.state.last_seq + 1):
        data = json.loads((await js.get_msg("EVENTS", sequence)).data or b"{}")["data"]
        if image in data.get("images", []):
            return time.monotonic()
    return 0.0


def changed(estate: Estate, image: str) -> None:
    there = estate.store.get("deployments", "shop", "cart")
    assert there is not None
    other = copy.deepcopy(there)
    other["spec"]["template"]["spec"]["containers"][0]["image"] = image
    estate.store.update("deployments", other)


async def seconds_until_told(bus: Bus, image: str) -> float:
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not (told := await told_at(bus, image)):
            await asyncio.sleep(0.1)
    return told - began


async def test_a_stale_watch(upstream: Estate, bus: Bus, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The connection stands and lets nothing through: the worker gives it up, lists, and tells what it missed."""
    bound_s = 6.0
    running = await run("Kubernetes", watch=True, watch_stale_s=bound_s)
    changed(upstream, "shop/cart:before")
    healthy_s = await seconds_until_told(bus, "shop/cart:before")
    assert 'reason="stale"' not in running.runtime.metrics.text().decode()
    running.proxy.fault = "stale"
    changed(upstream, "shop/cart:missed")
    for tool in (running.case.read, running.case.other):
        assert (await running.call(tool)).status == "ok", "other tools are unharmed"
    stale_s = await seconds_until_told(bus, "shop/cart:missed")
    assert stale_s < bound_s + 30, "noticed within the bound"
    running.proxy.fault = ""
    changed(upstream, "shop/cart:after")
    well_s = await seconds_until_told(bus, "shop/cart:after")
    assert 'reason="stale"' in running.runtime.metrics.text().decode()
    with capsys.disabled():
        print(
            f"\n  Kubernetes  stale watch  bound {bound_s:g} s: a change told after {stale_s:.1f} s"
            f" (healthy: {healthy_s:.1f} s), well again after {well_s:.1f} s"
        )


async def test_watches_that_fail_shut_out_no_call(run: Run) -> None:
    running = await run("Kubernetes", watch=True)
    running.proxy.fault, running.proxy.only = "503", "/pods"
    await asyncio.sleep(3.0)  # in which they fail several times
    assert (await running.call(running.case.read)).status == "ok"
    assert (await running.call(running.case.other)).structured["reachable"] == 1
