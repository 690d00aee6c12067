"""Whoever shows a plan says so when the tool is made: a second person then sees it, and not the bare arguments."""

import importlib
import inspect
from importlib.metadata import entry_points

import pytest

WORKERS = ("opsbus_k8s_ops.app", "opsbus_monitoring.app", "opsbus_cmdb.app", "opsbus_approvals.app", "opsbus_audit.app")


def test_every_worker_is_looked_at() -> None:
    services = {entry.value.split(":")[0] for entry in entry_points(group="opsbus.services")}
    assert services - {"opsbus_edge.app", "opsbus_sandbox.app"} == set(WORKERS)


@pytest.mark.parametrize("module", WORKERS)
def test_tools_that_confirm_announce_their_plan(module: str) -> None:
    worker = importlib.import_module(module).build()
    for name, tool in worker.registry.tools.items():
        source = inspect.getsource(inspect.getmodule(tool.callee.function))
        writes = not tool.spec.annotations.read_only
        assert tool.plans is (writes and "ctx.confirm(" in source), f"{module}: {name}"
        assert tool.plans or not writes, f"{module}: {name} writes and shows no plan"
