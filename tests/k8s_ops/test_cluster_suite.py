"""The tests for real clusters (tests/cluster) before the practice cluster: as it is, and bare. Nothing may be left."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opsbus_sandbox.cluster import Cluster, start_cluster
from opsbus_sandbox.settings import Account, SandboxSettings

from ..cluster.admin import KUBECONFIG, admin_of, at, named_kubeconfig
from ..cluster.lab import LABEL, OLD_S, folder_of, make, remove, sweep

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("namespaces", "nodes", "clusterroles", "clusterrolebindings", "rolebindings", "deployments", "pods", "secrets")
LONG_S = 280
"""On a machine that does much else besides."""


@asynccontextmanager
async def practice(folder: Path, *, bare: bool) -> AsyncIterator[Cluster]:
    """One whose kubeconfig is an administrator's."""
    accounts = {"admin": Account(user="lab-admin", groups=("system:masters",))}
    running = await start_cluster(SandboxSettings(state_dir=folder, accounts=accounts, bare=bare, speed=20))
    try:
        yield running
    finally:
        await running.close()


def made_by_tests(cluster: Cluster) -> list[str]:
    return [
        f"{kind}/{obj['metadata']['name']}"
        for kind in KINDS
        for obj in cluster.store.list(kind)
        if "opsbus-test-" in f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}"
        or LABEL in (obj["metadata"].get("labels") or {})
    ]


async def run(cluster: Cluster, *, controllers_s: float) -> str:
    """What ``make test-cluster`` runs; its report."""
    command = [sys.executable, "-m", "pytest", "tests/cluster", "-m", "cluster", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {KUBECONFIG: str(cluster.kubeconfig), "OPSBUS_TEST_CONTEXT": "", "PYTEST_ADDOPTS": ""}
    environment["OPSBUS_TEST_CONTROLLERS_S"] = str(controllers_s)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(
    ("bare", "controllers_s", "seen"), [(False, 60.0, "acted on,"), (True, 1.0, "acted on by nobody,")]
)
async def test_all_of_them_pass_and_leave_nothing(tmp_path: Path, bare: bool, controllers_s: float, seen: str) -> None:
    # Where there are controllers none is taken for missing because the machine is busy.
    async with practice(tmp_path, bare=bare) as cluster:
        report = await run(cluster, controllers_s=controllers_s)
        assert re.search(r"\d+ passed, 1 deselected", report), report  # nothing is skipped here
        assert seen in report
        assert "RBAC is on, the worker comes as its own account" in report
        assert made_by_tests(cluster) == []


@pytest.mark.parametrize("bare", [False, True])
async def test_what_a_killed_run_left_goes_with_a_later_one(
    tmp_path: Path, bare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.lab.CONTROLLERS_S", 0.5 if bare else 30.0)
    async with practice(tmp_path, bare=bare) as cluster:
        path = str(cluster.kubeconfig)
        before = {kind: len(cluster.store.list(kind)) for kind in KINDS}
        killed = await make(path, "lab")
        assert killed.controllers is not bare
        async with admin_of(path, "lab") as admin:
            stranger = {"metadata": {"name": "opsbus-test-of-somebody"}}
            await admin.create(at("v1", "namespaces"), stranger)
            assert await sweep(admin, OLD_S) == []  # it may be going on
            assert cluster.store.get("namespaces", "", killed.namespace)
            other = await make(path, "lab")
            await remove(admin, killed.suffix, controllers=killed.controllers)
            assert cluster.store.get("namespaces", "", killed.namespace) is None
            assert cluster.store.get("namespaces", "", other.namespace)
            assert await sweep(admin, 0) == [other.suffix]
            assert not any(folder_of(lab.suffix).exists() for lab in (killed, other))
            await admin.delete(f"{at('v1', 'namespaces')}/opsbus-test-of-somebody")  # no label: nobody else does
        after = {kind: len(cluster.store.list(kind)) for kind in KINDS if kind != "pods"}
        assert after["namespaces"] - before["namespaces"] in (0, 1)
        assert {kind: count for kind, count in after.items() if kind != "namespaces"} == {
            kind: count for kind, count in before.items() if kind not in ("namespaces", "pods")
        }


async def test_a_run_that_fails_to_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.cluster.lab.CONTROLLERS_S", 0.2)
    monkeypatch.setattr("tests.cluster.lab._acted_on", stopped)
    async with practice(tmp_path, bare=True) as cluster:
        try:
            await make(str(cluster.kubeconfig), "lab")
        except KeyboardInterrupt:
            assert made_by_tests(cluster) == []
        else:
            raise AssertionError("it began")


def test_without_a_cluster_they_are_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KUBECONFIG, raising=False)
    with pytest.raises(pytest.skip.Exception, match="OPSBUS_TEST_KUBECONFIG names no cluster"):
        named_kubeconfig()
