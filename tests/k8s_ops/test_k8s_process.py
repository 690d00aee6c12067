"""The worker as a process: it says in one line why it cannot start, and announces what it has when it can."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import kubeconfig


async def started(bus: Any, **environment: str) -> asyncio.subprocess.Process:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OPSBUS_", "KUBE"))}
    settings = {"OPSBUS_NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("k8s"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "run", "k8s-ops",
        env=plain | settings | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"KUBECONFIG": "/nowhere/config"}, "/nowhere/config"),
        ({"OPSBUS_K8S_REPLICAS_MAX": "0"}, "OPSBUS_K8S_REPLICAS_MAX"),
        ({"OPSBUS_K8S_NAMESPACES": "shop"}, "OPSBUS_K8S_NAMESPACES"),
    ],
)
async def test_a_wrong_setting_ends_it_with_one_line(bus: Any, environment: dict[str, str], word: str) -> None:
    process = await started(bus, **environment)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 2
    last = err.decode().strip().splitlines()
    assert word in last[-1]
    assert "Traceback" not in (out + err).decode()


async def test_it_starts_before_its_clusters_do(bus: Any, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"lab": "http://127.0.0.1:1"})
    ready = tmp_path / "ready.json"
    process = await started(bus, KUBECONFIG=str(path), OPSBUS_READY_FILE=str(ready))
    try:
        async with asyncio.timeout(60):
            while not ready.exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        assert json.loads(ready.read_text())["service"] == "k8s"
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            await process.communicate()
    assert process.returncode == 0
