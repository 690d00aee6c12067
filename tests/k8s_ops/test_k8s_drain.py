"""k8s_drain_node over the practice estate: the plan, a drain to its end, budgets, what is lost, being cancelled."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from opsbus_contracts import ErrorCode, Status
from opsbus_sandbox.app import Estate, serve
from opsbus_sandbox.kube.registry import Registry, WriteOptions
from opsbus_sandbox.kube.resources import BY_PLURAL

from .test_k8s_reads import schema_of

NODE = "lab-worker-2"
DRAIN = {"node": NODE, "reason": "kernel update"}
PATIENT = {"deadline_s": 120.0, "timeout_s": 130.0}


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    """An estate to write to, alive: pods stop and start quickly."""
    running = await serve(state_dir=tmp_path / "estate", speed=20)
    yield running
    await running.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and asks more often than a real cluster would like."""
    monkeypatch.setattr("opsbus_k8s_ops.draining.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("opsbus_k8s_ops.draining.ASK_AGAIN_S", 0.3)


def pods(estate: Any, node: str = NODE) -> dict[str, Any]:
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod
        for pod in estate.store.list("pods")
        if pod["spec"].get("nodeName") == node
    }


def unschedulable(estate: Any) -> bool:
    return bool(estate.store.get("nodes", "", NODE)["spec"].get("unschedulable"))


def hold(estate: Any, name: str = "frontend", namespace: str = "shop", **spec: Any) -> None:
    """The disruption budget lets nothing go."""
    budget = estate.store.get("poddisruptionbudgets", namespace, name)
    spec = spec or {"minAvailable": "100%"}
    changed = {**budget, "spec": {**{k: v for k, v in budget["spec"].items() if k == "selector"}, **spec}}
    estate.store.update("poddisruptionbudgets", changed)


def bare_pod(estate: Any, name: str, **spec: Any) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "busybox:1.36"}], **spec},
    }
    Registry(estate.store).create(BY_PLURAL["pods"], "shop-staging", body, WriteOptions())


async def confirmed(ask: Any, **arguments: Any) -> Any:
    first = (await ask("drain_node", role="admin", **arguments)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED, first
    arguments = {"options": PATIENT, **arguments}
    return await ask("drain_node", role="admin", **arguments, confirm=first.details["confirm"])


async def test_a_drain_is_planned_confirmed_done_proved_and_undone(ask: Any, estate: Any, bus: Any) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client: Client = await bus.connect("operator")

    async def keep(msg: Any) -> None:
        heard.put_nowait(json.loads(msg.data))

    await client.subscribe("event.k8s.node_drained", cb=keep)
    await client.flush()
    # Two of its pods are on this node and the cluster is too full to start them elsewhere first.
    estate.store.delete("poddisruptionbudgets", "shop", "checkout")
    before = pods(estate)
    reply = await ask("drain_node", role="admin", **DRAIN, dry_run=True)
    schema_of("drain_node").validate(reply.structured)
    planned = reply.structured
    assert planned["outcome"] == "planned"
    changes = {change["path"]: change for change in planned["plan"]["changes"]}
    assert changes["spec.unschedulable"]["after"] is True
    named = {
        f"{path.removeprefix('pods in ')}/{entry.split(' ')[0]}"
        for path, change in changes.items()
        if path.startswith("pods in ")
        for entry in change["before"]
    }
    daemons = {key for key in before if "node-exporter" in key}
    assert named == set(before) - daemons
    assert "node-exporter" in planned["plan"]["blast_radius"]
    rows = {f"{row['namespace']}/{row['name']}": row for row in planned["pods"]}
    assert set(rows) == set(before)
    assert {rows[key]["fate"] for key in daemons} == {"stays"}
    assert next(row for key, row in rows.items() if "nightly" in key)["part"] == "finished"
    warnings = " | ".join(planned["plan"]["warnings"])
    assert "shop/frontend (2 of 3 stay available)" in warnings
    assert "go at once: shop/Deployment/checkout (2)" in warnings
    assert not unschedulable(estate)
    assert set(pods(estate)) == set(before)

    options = PATIENT | {"progress": True}
    reply = await confirmed(ask, **DRAIN, wait_s=90, options=options)
    schema_of("drain_node").validate(reply.structured)
    done = reply.structured
    assert (done["outcome"], done["complete"], done["verified"]) == ("done", True, True), done
    total = len(before) - len(daemons)
    assert (done["counts"]["total"], done["counts"]["gone"]) == (total, total)
    assert unschedulable(estate)
    assert set(pods(estate)) == daemons
    told = [message.data for message in reply.of(Status.PROGRESS)]
    assert [entry["progress"] for entry in told] == sorted({entry["progress"] for entry in told})
    assert f"of {total} pods are gone" in told[0]["message"]
    async with asyncio.timeout(30):
        event = await heard.get()
    assert event["data"]["counts"]["gone"] == total

    again = (await ask("drain_node", role="admin", **DRAIN)).structured
    assert (again["outcome"], again["complete"]) == ("unchanged", True)
    assert done["undo"]["tool"] == "k8s_cordon_node"
    token = (await ask("cordon_node", role="admin", **done["undo"]["arguments"])).error.details["confirm"]
    await ask("cordon_node", role="admin", **done["undo"]["arguments"], confirm=token)
    assert not unschedulable(estate)


async def test_a_budget_is_honoured_until_the_time_is_over(ask: Any, estate: Any) -> None:
    hold(estate)
    held = next(key for key in pods(estate) if "frontend" in key)

    async def is_seen() -> dict[str, Any]:
        while True:
            found = (await ask("drain_node", role="admin", **DRAIN, dry_run=True)).structured
            if found["pods"][0]["fate"] == "blocked":
                return found
            await asyncio.sleep(0.1)

    async with asyncio.timeout(30):
        planned = await is_seen()
    assert any("shop/frontend wants all of its 3 pods" in warning for warning in planned["plan"]["warnings"])
    assert "needs 3 healthy pods" in planned["pods"][0]["reason"]
    reply = await confirmed(ask, **DRAIN, wait_s=10)
    done = reply.structured
    assert (done["outcome"], done["complete"], done["verified"]) == ("done", False, False)
    row = next(row for row in done["pods"] if f"{row['namespace']}/{row['name']}" == held)
    assert (row["fate"], done["counts"]["blocked"] >= 1) == ("blocked", True)
    assert "disruption budget" in row["reason"]
    assert held in pods(estate)
    assert unschedulable(estate)
    assert done["next_call"]["arguments"] == {**DRAIN, "wait_s": 10}
    assert "not drained yet" in reply.text
    estate.store.delete("poddisruptionbudgets", "shop", "frontend")
    estate.store.delete("poddisruptionbudgets", "shop", "checkout")
    goes_on = (await confirmed(ask, **done["next_call"]["arguments"] | {"wait_s": 90})).structured
    assert goes_on["complete"] is True
    assert "undo" not in goes_on, "the node was cordoned when this call came"


async def test_a_drain_that_is_cancelled_says_how_far_it_came(
    ask: Any, estate: Any, caller: Any, bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that is slow: no eviction is under way when it is stopped, and there is time to tell.
    monkeypatch.setattr("opsbus_k8s_ops.draining.ASK_AGAIN_S", 60.0)
    monkeypatch.setattr("opsbus_k8s_ops.tool_drain.TELL_S", 10.0)
    monkeypatch.setattr("opsbus.call.GRACE_S", 20.0)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client: Client = await bus.connect("operator")

    async def keep(msg: Any) -> None:
        heard.put_nowait(json.loads(msg.data))

    await client.subscribe("event.k8s.node_drain_stopped", cb=keep)
    await client.flush()
    hold(estate)
    held = next(key for key in pods(estate) if "frontend" in key)
    call_id, moving = secrets.token_hex(16), asyncio.Event()

    def watch(message: Any) -> None:
        if message.status is Status.PROGRESS and "0 of" not in message.data["message"]:
            moving.set()

    first = (await ask("drain_node", role="admin", **DRAIN, wait_s=90)).error
    options = PATIENT | {"progress": True, "on_message": watch, "call_id": call_id}
    call = asyncio.create_task(
        ask("drain_node", role="admin", options=options, **DRAIN, wait_s=90, confirm=first.details["confirm"])
    )
    async with asyncio.timeout(60):
        await moving.wait()
    await caller.cancel("k8s", call_id, "the window is over")
    reply = await call
    error = reply.error
    assert error.code is ErrorCode.CANCELLED
    assert "the window is over" in error.message
    assert "it is cordoned" in error.message
    counts = error.details["counts"]
    assert counts["gone"] >= 1
    assert sum(value for name, value in counts.items() if name != "total") == counts["total"]
    assert f"{held}: blocked" in error.details["left"]
    assert error.details["undo"]["tool"] == "k8s_cordon_node"
    assert reply.executed == "yes"
    assert unschedulable(estate)
    async with asyncio.timeout(30):
        assert (await heard.get())["data"]["complete"] is False
    # Nobody goes on with it: what was held stays, although nothing holds it now.
    estate.store.delete("poddisruptionbudgets", "shop", "frontend")
    await asyncio.sleep(1.0)
    assert not pods(estate)[held]["metadata"].get("deletionTimestamp")


async def test_what_would_be_lost_is_asked_for(ask: Any, estate: Any) -> None:
    bare_pod(estate, "debug")
    bare_pod(estate, "scratch", volumes=[{"name": "work", "emptyDir": {}}])
    error = (await ask("drain_node", role="admin", **DRAIN)).error
    assert error.code is ErrorCode.PRECONDITION_FAILED
    assert error.details["force"] == ["shop-staging/debug", "shop-staging/scratch"]
    assert error.details["delete_local_data"] == ["shop-staging/scratch (work)"]
    assert "force=true" in error.hint
    half = (await ask("drain_node", role="admin", **DRAIN, force=True)).error
    assert list(half.details) == ["delete_local_data"]
    shown = (await ask("drain_node", role="admin", **DRAIN, dry_run=True)).structured
    assert any(warning.startswith("refused as it stands") for warning in shown["plan"]["warnings"])
    rows = {row["name"]: row for row in shown["pods"]}
    assert (rows["debug"]["part"], rows["scratch"]["local_storage"]) == ("unmanaged", ["work"])
    both = (await ask("drain_node", role="admin", **DRAIN, force=True, delete_local_data=True)).error
    assert both.code is ErrorCode.CONFIRMATION_REQUIRED
    warnings = " | ".join(both.details["plan"]["warnings"])
    assert "gone for good" in warnings
    assert "lose the data" in warnings
    assert not unschedulable(estate)


async def test_another_pod_on_the_node_makes_the_confirmation_void(ask: Any, estate: Any) -> None:
    arguments = DRAIN | {"force": True}
    token = (await ask("drain_node", role="admin", **arguments)).error.details["confirm"]
    bare_pod(estate, "late")
    late = (await ask("drain_node", role="admin", **arguments, confirm=token)).error
    assert late.code is ErrorCode.PRECONDITION_FAILED
    assert not unschedulable(estate)
