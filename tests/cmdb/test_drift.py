"""Drift: what events of Kubernetes tell, what is kept of it, what differs from the record, and what is said not to be
known; end to end over the real bus."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_cmdb.app import build
from opsbus_cmdb.drift import compare, matching, place_of
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Status
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.workloads import Workload, workload_of

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CHECKOUT = "service:shop/checkout"


def event(kind: str, at: datetime = NOW, /, **data: Any) -> tuple[str, bytes]:
    body = {
        "specversion": "1.0", "id": f"{kind}-{at.timestamp()}-{data.get('name')}", "source": "/opsbus/k8s/k8s-1",
        "type": f"opsbus.k8s.v1.{kind}", "time": at.isoformat(), "data": data,
    }  # fmt: skip
    return f"event.k8s.{kind}", json.dumps(body).encode()


def told(kind: str, /, **data: Any) -> Workload | None:
    return workload_of(*event(kind, **({"cluster": "lab", "namespace": "shop", "name": "checkout"} | data)))


def test_what_events_tell() -> None:
    scaled = told("deployment_scaled", before=3, after=5)
    assert scaled is not None
    assert (scaled.replicas, scaled.kind, scaled.images, scaled.gone) == (5, "deployment", None, False)
    back = told("deployment_rolled_back", images_after={"app": "shop/checkout:v2.4.0"}, to_revision=4)
    assert back is not None
    assert (back.images, back.replicas) == (["shop/checkout:v2.4.0"], None)
    seen = told("workload_seen", kind="statefulset", images=["b:2", "a:1"], replicas=2, ready=1)
    assert seen is not None
    assert (seen.kind, seen.images, seen.replicas, seen.ready) == ("statefulset", ["a:1", "b:2"], 2, 1)
    gone = told("workload_deleted")
    assert gone is not None
    assert gone.gone


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("event.cmdb.asset_updated", event("x", namespace="shop", name="a")[1]),
        ("event.k8s.workload_seen", b"no json"),
        ("event.k8s.workload_seen", b"[]"),
        event("resource_updated", uri="enterprise://k8s"),
        event("workload_seen", namespace="shop", name=""),
        event("workload_seen", namespace="shop", name=["a"]),
        event("workload_seen", namespace="shop", name="a", replicas=-1),
        event("workload_seen", namespace="shop", name="a", images=7),
        event("workload_seen", namespace="shop", name="x" * 300),
        event("deployment_scaled", namespace="shop", name="a", after="many"),
    ],
)
def test_what_is_no_fact_is_left(subject: str, body: bytes) -> None:
    assert workload_of(subject, body) is None


async def test_the_newest_of_each_fact_is_kept(store: EmbeddedInventory) -> None:
    def fact(minutes: int, **fields: Any) -> Workload:
        known = {"cluster": "lab", "namespace": "shop", "name": "cart", "seen_at": NOW + timedelta(minutes=minutes)}
        return Workload.model_validate(known | fields)

    await store.learn([fact(0, images=["cart:1"], replicas=3), fact(5, replicas=0)])
    await store.learn([fact(2, images=["cart:0"], replicas=9), fact(5, replicas=0)])
    assert await store.workloads(["shop", "other"]) == [fact(5, images=["cart:1"], replicas=0)]
    await store.learn([fact(6, gone=True)])
    await store.learn([fact(7, replicas=1)])
    (back,) = await store.workloads(["shop"]) or []
    assert (back.gone, back.replicas) == (False, 1)
    assert await store.workloads(["payments"]) == []


def asset(**fields: Any) -> Asset:
    known = {
        "id": "a", "ref": CHECKOUT, "kind": "service", "namespace": "shop", "name": "checkout", "version": 1,
        "lifecycle": Lifecycle.ACTIVE, "status": Status.OPERATIONAL, "criticality": Criticality.HIGH,
        "attributes": {"release": "v2.4.1"}, "external_ids": {"kubernetes": "lab/shop/checkout"}, "last_seen": NOW,
        "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Asset.model_validate(known | fields)


def runs(**fields: Any) -> Workload:
    known = {"cluster": "lab", "namespace": "shop", "name": "checkout", "images": ["shop/checkout:v2.4.1"]}
    return Workload.model_validate(known | {"replicas": 3, "seen_at": NOW} | fields)


@pytest.mark.parametrize(
    ("recorded", "seen", "kinds", "open_"),
    [
        ({}, {}, [], []),
        ({}, {"images": ["r.example:5000/shop/checkout:2.4.1-alpine@sha256:abc"]}, [], []),
        ({}, {"images": ["shop/checkout:v2.4.10"]}, ["release"], []),
        ({}, {"images": ["r.example:5000/shop/checkout"]}, [], ["release"]),
        ({}, {"images": None}, [], ["release"]),
        ({"attributes": {}}, {}, [], ["release"]),
        ({"attributes": {"release": "v2.4.1", "replicas": 2}}, {}, ["replicas"], []),
        ({"attributes": {"release": "v2.4.1", "replicas": 3}}, {}, [], []),
        ({}, {"replicas": None}, [], ["replicas"]),
        ({}, {"replicas": 0}, ["status"], []),
        ({"status": "down"}, {"replicas": 0}, [], []),
        ({}, {"gone": True}, ["gone"], []),
        ({"lifecycle": "retired"}, {"gone": True}, [], []),
        ({"lifecycle": "retired"}, {}, ["lifecycle"], []),
        ({"lifecycle": "planned"}, {}, ["lifecycle"], []),
        ({"last_seen": NOW - timedelta(days=8)}, {}, ["stale"], []),
        ({"last_seen": None}, {}, [], []),
        ({}, {"seen_at": NOW - timedelta(days=8)}, [], ["what runs now"]),
    ],
)
def test_rules(recorded: dict[str, Any], seen: dict[str, Any], kinds: list[str], open_: list[str]) -> None:
    findings, unknown = compare(asset(**recorded), runs(**seen), NOW)
    assert [finding.kind for finding in findings] == kinds
    assert [item.what for item in unknown] == open_
    assert all(finding.hint for finding in findings)


def test_without_a_fact_nothing_is_claimed() -> None:
    findings, unknown = compare(asset(), None, NOW)
    assert findings == []
    assert [item.what for item in unknown] == ["what runs"]


def test_which_workload_is_the_assets() -> None:
    here, there = runs(), runs(cluster="other")
    assert matching(asset(), [there, here]) is here
    assert matching(asset(), [there]) is there
    assert matching(asset(), [there, runs(cluster="third")]) is None
    assert matching(asset(), [runs(name="cart")]) is None
    assert place_of(asset(external_ids={"kubernetes": "lab-worker-1"})) == ("", "shop", "checkout")


@pytest.fixture
async def cmdb(run_worker: Any, database_url: str) -> Any:
    async with run_worker(build(), database_url=database_url, seed="shop") as running:
        yield running


async def test_from_event_to_finding(bus: Bus, cmdb: Any, caller: Caller) -> None:
    nothing = (await caller.call("cmdb", "detect_drift", {"service": CHECKOUT})).structured
    assert (nothing["items"], nothing["facts_until"]) == ([], None)
    assert nothing["unknown"][0]["what"] == "what runs"
    js = (await bus.connect("k8s")).jetstream()
    now = datetime.now(UTC)
    facts = [
        event("workload_seen", now, cluster="lab", namespace="shop", name="checkout", images=["shop/checkout:v2.4.0"]),
        event("deployment_scaled", now, cluster="lab", namespace="shop", name="cart", before=3, after=0),
        ("event.k8s.workload_seen", b"not an event at all"),
        event("workload_seen", now, cluster="lab", namespace="shop", name="stowaway", images=["who/knows:1"]),
        event("workload_deleted", now, cluster="lab", namespace="shop", name="recommendations"),
    ]
    for subject, body in facts:
        await js.publish(subject, body)
    deadline = time.monotonic() + 40
    while True:
        reply = await caller.call("cmdb", "detect_drift", {"service": "service:shop/frontend", "depth": 1})
        found = {(item["kind"], item["ref"]) for item in reply.structured["items"]}
        if ("gone", "service:shop/recommendations") in found:
            break
        assert time.monotonic() < deadline, reply.text
        await asyncio.sleep(0.1)
    assert found == {
        ("gone", "service:shop/recommendations"), ("status", "service:shop/cart"), ("release", CHECKOUT),
        ("not_recorded", "lab/shop/stowaway"),
    }  # fmt: skip
    assert [item["severity"] for item in reply.structured["items"]] == ["high", "high", "medium", "medium"]
    assert any(item["what"] == "what runs" for item in reply.structured["unknown"])
    assert "not compared" in reply.text
    assert reply.structured["facts_until"] is not None


async def test_a_cmdb_elsewhere_keeps_no_facts_and_says_so(run_worker: Any, http_url: str, caller: Caller) -> None:
    async with run_worker(build(), url=http_url, api_key="test-key"):
        answer = (await caller.call("cmdb", "detect_drift", {"service": CHECKOUT})).structured
        assert any("keeps no facts" in warning for warning in answer["warnings"])
        assert answer["unknown"]


async def test_learning_can_be_left_out(run_worker: Any, bus: Bus, tmp_path: Path, caller: Caller) -> None:
    settings = {"database_url": f"sqlite:///{tmp_path}/cmdb.sqlite3", "seed": "shop", "learn": False}
    async with run_worker(build(), **settings):
        js = (await bus.connect("k8s")).jetstream()
        await js.publish(*event("workload_seen", cluster="lab", namespace="shop", name="checkout", images=["x:1"]))
        assert (await caller.call("cmdb", "detect_drift", {"service": CHECKOUT})).structured["facts_until"] is None
