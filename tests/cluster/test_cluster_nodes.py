"""Cordon and drain, of a node that the test itself registers: no node of the cluster is touched.

It has no machine. On a pod that is told to stop only its kubelet could say that it has stopped, so the pods have a
grace of zero seconds, or stay as pods that are stopping.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from opsbus_contracts import ErrorCode

from .admin import Admin, at
from .conftest import Ask, confirmed
from .lab import Lab, labels
from .objects import node, pod_on

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]

ADDRESSED_S = 3.0
RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest_asyncio.fixture(loop_scope="session")
async def own_node(admin: Admin, lab: Lab) -> AsyncIterator[str]:
    """A node with the run's name; it and its pods are gone after the test."""
    path = f"{at('v1', 'nodes')}/{lab.node}"
    code, said = await admin.send("POST", at("v1", "nodes"), node(lab.node, **labels(lab.suffix)))
    if code != 201:
        pytest.skip(f"the cluster registers no node for a test: {said.get('message')}")

    async def addressed() -> bool:
        """What controllers give to a new node changes it, and a plan is for the node as it was."""
        return bool(((await admin.get(path) or {}).get("spec") or {}).get("podCIDR"))

    if lab.controllers:
        await admin.until(addressed, ADDRESSED_S)
    yield lab.node
    await admin.delete(at("v1", "pods", lab.namespace), ("fieldSelector", f"spec.nodeName={lab.node}"), grace_s=0)
    await admin.delete(path)


@asynccontextmanager
async def while_it_is_there(admin: Admin, name: str) -> AsyncIterator[None]:
    """The controller of a cloud may take away a node that the cloud knows nothing of."""
    try:
        yield
    except AssertionError:
        if await admin.get(f"{at('v1', 'nodes')}/{name}") is None:
            pytest.skip("the cluster took the node away that the test had registered")
        raise


async def unschedulable(admin: Admin, name: str) -> bool:
    return bool((await admin.read(f"{at('v1', 'nodes')}/{name}"))["spec"].get("unschedulable"))


async def others(admin: Admin, own: str) -> dict[str, bool]:
    """Which of the cluster's own nodes are cordoned, by uid."""
    found = (await admin.read(at("v1", "nodes")))["items"]
    ours = [obj for obj in found if obj["metadata"]["name"] != own]
    return {obj["metadata"]["uid"]: bool(obj["spec"].get("unschedulable")) for obj in ours}


async def check_untouched(admin: Admin, own: str, before: dict[str, bool]) -> None:
    """The nodes that are still there are as open or closed as they were."""
    after = await others(admin, own)
    assert {uid: state for uid, state in after.items() if uid in before} == {
        uid: state for uid, state in before.items() if uid in after
    }


async def test_a_cordon_and_its_undo(ask: Ask, admin: Admin, lab: Lab, own_node: str) -> None:
    async with while_it_is_there(admin, own_node):
        await cordon(ask, admin, lab, own_node)


async def cordon(ask: Ask, admin: Admin, lab: Lab, own_node: str) -> None:
    before = await others(admin, own_node)
    arguments = {"node": own_node, "reason": "disk errors"}
    if lab.rbac:
        for role in ("viewer", "operator"):
            assert (await ask("cordon_node", role, **arguments)).error.code is ErrorCode.FORBIDDEN
    planned = (await ask("cordon_node", "admin", **arguments, dry_run=True)).structured
    assert planned["plan"]["changes"] == [{"path": "spec.unschedulable", "before": False, "after": True}]
    assert not await unschedulable(admin, own_node)
    done = await confirmed(ask, "cordon_node", "admin", **arguments)
    assert (done["outcome"], done["verified"], done["unschedulable"]) == ("done", True, True)
    assert await unschedulable(admin, own_node)
    again = (await ask("cordon_node", "admin", **arguments)).structured
    assert again["outcome"] == "unchanged"
    undone = await confirmed(ask, "cordon_node", "admin", **done["undo"]["arguments"])
    assert (undone["verified"], undone["unschedulable"]) == (True, False)
    assert not await unschedulable(admin, own_node)
    missed = (await ask("cordon_node", "admin", node=f"{own_node}x", reason="disk errors")).error
    assert (missed.code, missed.did_you_mean[0]) == (ErrorCode.NOT_FOUND, own_node)
    await check_untouched(admin, own_node, before)


async def test_a_drain_by_evictions(ask: Ask, admin: Admin, lab: Lab, own_node: str) -> None:
    async with while_it_is_there(admin, own_node):
        await drain(ask, admin, lab, own_node)


async def drain(ask: Ask, admin: Admin, lab: Lab, own_node: str) -> None:
    """One pod goes, one goes with its data, one is held by a budget, one is told to stop and never says it did."""
    before = await others(admin, own_node)
    pods, budgets = at("v1", "pods", lab.namespace), at("policy/v1", "poddisruptionbudgets", lab.namespace)
    await admin.create(pods, pod_on(own_node, "leaves"))
    await admin.create(pods, pod_on(own_node, "guarded"))
    await admin.create(pods, pod_on(own_node, "stores", volumes=[{"name": "scratch", "emptyDir": {}}]))
    await admin.create(pods, pod_on(own_node, "lingers", terminationGracePeriodSeconds=600))
    await admin.patch(f"{pods}/guarded/status", {"status": RUNNING})
    selector = {"matchLabels": {"app": "guarded"}}
    await admin.create(budgets, {"metadata": {"name": "guarded"}, "spec": {"minAvailable": 1, "selector": selector}})
    arguments = {"node": own_node, "reason": "kernel update", "wait_s": 10}
    if lab.rbac:
        assert (await ask("drain_node", "operator", **arguments, dry_run=True)).error.code is ErrorCode.FORBIDDEN
    refused = (await ask("drain_node", "admin", **arguments)).error
    assert refused.code is ErrorCode.PRECONDITION_FAILED
    assert set(refused.details) == {"force", "delete_local_data"}
    arguments |= {"force": True, "delete_local_data": True}

    async def rehearsed() -> dict[str, str]:
        planned = (await ask("drain_node", "admin", **arguments, dry_run=True)).structured
        return {row["name"]: row["fate"] for row in planned["pods"] if row["fate"] != "stays"}

    async def held() -> bool:
        return (await rehearsed())["guarded"] == "blocked"

    # Nobody may count for the budget here: then the server itself says that it does not know yet, which holds too.
    assert await admin.until(held)
    assert await rehearsed() == {"guarded": "blocked", "leaves": "goes", "lingers": "goes", "stores": "goes"}
    assert not await unschedulable(admin, own_node)
    there = (await admin.get(pods, ("fieldSelector", f"spec.nodeName={own_node}")) or {})["items"]
    assert len(there) == 4
    assert not any(obj["metadata"].get("deletionTimestamp") for obj in there)

    done = await confirmed(ask, "drain_node", "admin", **arguments)
    assert (done["outcome"], done["complete"], done["verified"]) == ("done", False, False)
    assert await unschedulable(admin, own_node)
    left = {row["name"]: row for row in done["pods"]}
    assert left["guarded"]["fate"] == "blocked"
    assert "disruption budget guarded" in left["guarded"]["reason"]
    counts = done["counts"]
    if "lingers" in left:  # nobody ends pods here without their node
        assert left["lingers"]["fate"] == "stopping"
        assert (counts["total"], counts["gone"], counts["blocked"], counts["stopping"]) == (4, 2, 1, 1)
        chosen = {"namespaces": [lab.namespace], "field_selector": "metadata.name=lingers"}
        assert (await ask("get_pods", **chosen)).structured["items"][0]["state"] == "Terminating"

    await admin.delete(f"{budgets}/guarded")
    await admin.delete(f"{pods}/lingers", grace_s=0)
    finished = await confirmed(ask, "drain_node", "admin", **done["next_call"]["arguments"])
    assert (finished["complete"], finished["verified"]) == (True, True)
    await check_untouched(admin, own_node, before)
