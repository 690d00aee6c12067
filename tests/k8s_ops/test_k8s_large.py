"""A cluster of 5,000 pods: every default answer is within 24 KB (the structured one), and looking for some of the pods
takes bounded memory."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_k8s_ops.app import build

ESTATE = Path(__file__).with_name("large_estate.py")
BUDGET_BYTES = 24_576
MORE_MAX_MIB = 120
"""Of memory, for a call that looks at all pods: a few pages of the cluster's answers, not all of them."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "get_pods": {},
    "get_deployments": {},
    "get_events": {},
    "get_resource": {"kind": "namespace", "name": "team-00"},
    "list_clusters": {},
    "can_i": {"verb": "list", "kind": "pods"},
    "get_pod_logs": {"namespace": "shop", "workload": "checkout"},
    "diagnose_workload": {"namespace": "shop", "workload": "deployment/checkout"},
    "rollout_status": {"namespace": "shop", "workload": "deployment/checkout"},
    "rollout_history": {"namespace": "shop", "workload": "deployment/checkout"},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "one workload by its label": {"label_selector": "app=service-0007"},
    "half of all by a label": {"label_selector": "tier=front"},
    "what is wrong": {"problem_only": True},
    "counts by namespace": {"group_by": "namespace"},
    "three namespaces": {"namespaces": ["team-01", "team-02", "team-03"]},
}


@dataclass
class Large:
    """The worker before the large cluster, as a process of its own."""

    caller: Caller
    pid: int

    async def call(self, tool: str, arguments: dict[str, Any]) -> tuple[int, int]:
        """Bytes of the structured answer, and of the whole result."""
        reply = await self.caller.call("k8s", tool, arguments, deadline_s=110, timeout_s=120)
        assert reply.status == "ok", f"{tool}: {reply.body[:400]!r}"
        answer = json.dumps(json.loads(reply.body)["structuredContent"], separators=(",", ":"), ensure_ascii=False)
        return len(answer.encode()), len(reply.body)

    def memory_mib(self, line: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(text for text in status.splitlines() if text.startswith(line)).split()[1]) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def is_there(path: Path) -> bool:
    return path.exists()


async def started(ready: Path, *command: str, **environment: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    async with asyncio.timeout(90):
        while not is_there(ready):
            assert process.returncode is None, f"{command} ended while it started"
            await asyncio.sleep(0.05)
    return process


@pytest.fixture
async def large(bus: Bus, caller: Caller, tmp_path: Path) -> AsyncIterator[Large]:
    processes = []
    try:
        processes.append(await started(tmp_path / "ready.json", sys.executable, str(ESTATE), str(tmp_path)))
        facts = json.loads((tmp_path / "ready.json").read_text())
        ready = tmp_path / "worker.json"
        worker = await started(
            ready, sys.executable, "-c", "from opsbus_k8s_ops.app import worker; worker.run()",
            OPSBUS_NATS_URL=bus.url, OPSBUS_NATS_SEED_FILE=str(bus.credentials("k8s")), OPSBUS_READY_FILE=str(ready),
            OPSBUS_K8S_KUBECONFIG=facts["kubeconfig"], OPSBUS_K8S_IMPERSONATE="false",
            OPSBUS_K8S_REQUEST_TIMEOUT_S="60", OPSBUS_K8S_WATCH="true", OPSBUS_LOG_LEVEL="warning",
        )  # fmt: skip
        processes.append(worker)
        yield Large(caller, worker.pid)
    finally:
        for process in reversed(processes):
            if process.returncode is None:
                process.terminate()
            await process.wait()


@pytest.mark.timeout(400)  # a minute on a machine that does little else
async def test_default_answers_and_memory(large: Large, bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    reads = {name for name, tool in build().registry.tools.items() if tool.spec.annotations.read_only}
    assert reads == set(DEFAULTS), "every tool that reads is tried"
    rows = []
    for tool, arguments in DEFAULTS.items():
        answer, whole = await large.call(tool, arguments)
        rows.append(f"  {'k8s_' + tool:<26} {answer:>7,} bytes, {whole:>7,} with the text form")
        assert answer <= BUDGET_BYTES, tool
    if sys.platform == "linux":
        for name, arguments in SEARCHES.items():
            large.forget_peak()
            before = large.memory_mib("VmRSS")
            answer, _ = await large.call("get_pods", arguments)
            more = large.memory_mib("VmHWM") - before
            rows.append(f"  k8s_get_pods, {name:<26} {answer:>7,} bytes, {more:>5.1f} MiB more at its peak")
            assert answer <= BUDGET_BYTES
            assert more < MORE_MAX_MIB
        told = (await (await bus.jetstream()).stream_info("EVENTS")).state.messages
        rows.append(f"  its watches told {told} events of 5,000 pods, 102 of them in trouble, and what runs")
        assert told < 400
        rows.append(f"  the worker: {large.memory_mib('VmRSS'):.0f} MiB")
    with capsys.disabled():
        print("\n  5,000 pods in 40 namespaces:", *rows, sep="\n")
