"""From a change in a cluster to a finding of the CMDB, without a call to the Kubernetes worker: its watch tells."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import opsbus_cmdb.app
import opsbus_k8s_ops.app
from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_sandbox.app import Estate, serve

CHECKOUT = "service:shop/checkout"


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    made = await serve(state_dir=tmp_path / "estate", speed=0.1)
    yield made
    await made.close()


async def releases(caller: Caller) -> list[dict[str, Any]]:
    reply = await caller.call("cmdb", "detect_drift", {"service": CHECKOUT, "depth": 1})
    assert reply.status == "ok", reply.body
    return [item for item in reply.structured["items"] if (item["kind"], item["ref"]) == ("release", CHECKOUT)]


async def test_a_change_in_a_cluster_becomes_drift(
    estate: Estate, run_worker: RunWorker, caller: Caller, tmp_path: Path
) -> None:
    kubernetes = {"kubeconfig": str(estate.kubeconfig), "contexts": ["lab"]}
    database = {"database_url": f"sqlite:///{tmp_path}/cmdb.sqlite3", "seed": "shop"}
    async with (
        run_worker(opsbus_cmdb.app.build(), **database),
        run_worker(opsbus_k8s_ops.app.build(), **kubernetes),
    ):
        there = estate.store.get("deployments", "shop", "checkout")
        assert there is not None
        changed = copy.deepcopy(there)
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "shop/checkout:v99.0.0"
        estate.store.update("deployments", changed)
        async with asyncio.timeout(60):
            while not any("v99.0.0" in item["seen"] for item in await releases(caller)):
                await asyncio.sleep(0.2)
