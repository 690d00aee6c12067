"""Live health: what events tell of it, whose it is and where that is not guessed, what follows, how it grows old; and
the overlay of the tools over the real bus, with alerts told as the monitoring worker tells them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.waiting import until
from opsbus_cmdb import health_facts, seed
from opsbus_cmdb.app import build
from opsbus_cmdb.health import FRESH, KEPT, Fact, reckon, whose
from opsbus_cmdb.health_facts import fact_of
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Status
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.workloads import Workload, workload_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHECKOUT, CART, REDIS = "service:shop/checkout", "service:shop/cart", "cache:shop/redis"
ASSETS_URI = "enterprise://cmdb/assets"


def event(source: str, kind: str, at: datetime = NOW, /, **data: Any) -> tuple[str, bytes]:
    body = {
        "specversion": "1.0", "id": f"{kind}-{at.timestamp()}", "source": f"/opsbus/{source}/x-1",
        "type": f"opsbus.event.v1.{kind}", "time": at.isoformat(), "data": data,
    }  # fmt: skip
    return f"event.{source}.{kind}", json.dumps(body).encode()


def alert(kind: str = "alert_firing", at: datetime = NOW, /, **data: Any) -> tuple[str, bytes]:
    known = {
        "fingerprint": "f1", "alertname": "HighErrorRate", "severity": "warning", "service": "checkout",
        "namespace": "shop", "labels": {}, "summary": "12 % errors", "starts_at": at.isoformat(), "owner": None,
    }  # fmt: skip
    return event("monitoring", kind, at, **(known | data))


def told(subject_and_body: tuple[str, bytes]) -> Fact:
    found = fact_of(*subject_and_body)
    assert found is not None
    return found


def asset(ref: str = CHECKOUT, **fields: Any) -> Asset:
    kind, _, path = ref.partition(":")
    namespace, _, name = path.partition("/")
    known = {
        "id": ref, "ref": ref, "kind": kind, "namespace": namespace, "name": name, "version": 1,
        "lifecycle": Lifecycle.ACTIVE, "status": Status.OPERATIONAL, "criticality": Criticality.HIGH,
        "environment": "production", "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Asset.model_validate(known | fields)


def test_what_events_tell() -> None:
    firing = told(alert())
    assert (firing.source, firing.key, firing.state, firing.name, firing.label) == (
        "alert", "f1", "degraded", "checkout", "service"
    )  # fmt: skip
    assert firing.reason == "alert HighErrorRate (warning): 12 % errors"
    assert told(alert("alert_resolved")).state == "ok"
    assert told(alert(alertname="CheckoutDown", severity="critical")).state == "down"
    assert told(alert(alertname="SlowCheckout", severity="critical")).state == "degraded"
    # Who measured it is not what it is about.
    about = told(alert(service="kube-state-metrics", labels={"deployment": "cart", "service": "kube-state-metrics"}))
    assert (about.name, about.label) == ("cart", "workload")
    node = told(alert(service=None, namespace="", labels={"node": "lab-worker-1"}))
    assert (node.name, node.label) == ("lab-worker-1", "node")
    pod = {"cluster": "lab", "namespace": "shop", "name": "cart-7f-x", "workload": "deployment/cart", "reason": "OOM"}
    assert (told(event("k8s", "pod_unhealthy", **pod)).name, told(event("k8s", "pod_unhealthy", **pod)).state) == (
        "cart", "degraded"
    )  # fmt: skip
    assert workload_of(*event("k8s", "pod_unhealthy", **pod)) is None
    assert told(event("k8s", "node_not_ready", cluster="lab", name="lab-worker-1", reason="KubeletStopped")).state == (
        "down"
    )


@pytest.mark.parametrize(
    "given",
    [
        alert(severity="info"),
        alert(fingerprint=""),
        alert(fingerprint=None),
        alert(fingerprint={"a": 1}),
        alert(labels=["a"]),
        alert(starts_at="yesterday"),
        alert("alert_sighted"),
        event("k8s", "pod_unhealthy", cluster="lab", namespace="shop", name="bare-pod", workload=None),
        event("k8s", "pod_restarted", cluster="lab", namespace="shop", name="a", workload="a"),
        event("k8s", "node_not_ready", cluster="lab", name=["a"]),
        event("cmdb", "alert_firing", fingerprint="f"),
        ("event.monitoring.alert_firing", b"[]"),
        ("event.monitoring.alert_firing", b"no json"),
    ],
)
def test_what_is_no_fact_is_left(given: tuple[str, bytes]) -> None:
    assert fact_of(*given) is None


SHOP = [
    asset(), asset("service:shop-staging/checkout", environment="staging"), asset(CART), asset("cache:shop/cart"),
    asset("service:shop/web", external_ids={"kubernetes": "lab/front/web-v2"}),
    asset("service:eu/web", external_ids={"kubernetes": "eu/front/web-v2"}),
    asset("host:lab/node-1"), asset("host:lab/node-2", external_ids={"kubernetes": "lab/ip-10-0-0-2"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "ref"),
    [
        ({}, CHECKOUT),
        ({"namespace": ""}, None),  # two are called checkout
        ({"namespace": "", "labels": {"env": "staging"}}, "service:shop-staging/checkout"),
        ({"namespace": "payments"}, None),
        ({"service": "nobody"}, None),
        ({"service": "cart"}, CART),  # the label says that it is a service
        ({"service": None, "labels": {"deployment": "cart"}}, None),  # a service or a cache of that place
        ({"service": "web-v2", "namespace": "front"}, None),
        ({"service": "web-v2", "namespace": "front", "labels": {"cluster": "eu"}}, "service:eu/web"),
        ({"service": None, "labels": {"node": "node-1"}}, "host:lab/node-1"),
        ({"service": None, "labels": {"node": "ip-10-0-0-2"}}, "host:lab/node-2"),
        ({"service": None, "labels": {}}, None),
        ({"service": "x", "labels": {"cmdb_id": CART}}, CART),
        ({"labels": {"cmdb_id": "ast-nobody"}}, CHECKOUT),
    ],
)
def test_whose_an_alert_is(about: dict[str, Any], ref: str | None) -> None:
    found = whose(told(alert(**about)), SHOP)
    assert (found.ref if found else None) == ref


def runs(ready: int | None = 3, replicas: int | None = 3, hours: float = 0, **fields: Any) -> Workload:
    known = {"cluster": "lab", "namespace": "shop", "name": "checkout", "seen_at": NOW - timedelta(hours=hours)}
    return Workload.model_validate(known | {"ready": ready, "replicas": replicas} | fields)


def pod(hours: float = 0) -> Fact:
    at = NOW - timedelta(hours=hours)
    data = {"cluster": "lab", "namespace": "shop", "name": "checkout-1", "workload": "checkout", "reason": "CrashLoop"}
    return told(event("k8s", "pod_unhealthy", at, **data))


@pytest.mark.parametrize(
    ("workloads", "facts", "health", "reason"),
    [
        ([], [], "unknown", None),
        ([runs()], [], "ok", "3 of 3"),
        ([runs(ready=1)], [], "degraded", "1 of 3"),
        ([runs(ready=0)], [], "down", "0 of 3"),
        ([runs(ready=0, replicas=0)], [], "down", "scaled to 0"),
        ([runs(gone=True)], [], "down", "deleted"),
        ([runs(ready=None)], [], "unknown", None),
        ([runs(hours=25)], [], "unknown", "last heard: ok"),
        ([runs(), runs(cluster="eu")], [], "unknown", None),  # which of the two is not known
        ([], [alert()], "degraded", "HighErrorRate"),
        ([], [alert("alert_resolved")], "unknown", None),  # that it is over does not say that all is well
        ([runs()], [alert()], "degraded", "HighErrorRate"),
        ([runs(ready=0)], [alert()], "down", "(and 1 more)"),
        ([], [alert(alertname="Slow"), alert("alert_firing", NOW - FRESH / 2, severity="page")], "degraded", "HighErr"),
        ([runs()], [alert("alert_firing", NOW - FRESH - timedelta(hours=1))], "unknown", "last heard: degraded, alert"),
        ([runs(hours=1)], [pod()], "degraded", "CrashLoop"),
        ([runs()], [pod(hours=1)], "degraded", "CrashLoop"),  # a rollout that is stuck leaves the workload whole
        ([runs()], [pod(hours=25)], "ok", "3 of 3"),  # it went while nobody watched
        ([runs(hours=25)], [pod(hours=26)], "unknown", "last heard"),
        ([runs(ready=2)], [pod(hours=1)], "degraded", "(and 1 more)"),
    ],
)
def test_what_follows(workloads: list[Workload], facts: list[Any], health: str, reason: str | None) -> None:
    known = [fact if isinstance(fact, Fact) else told(fact) for fact in facts]
    live = reckon(asset(), workloads, known, NOW)
    assert live.health == health
    assert reason in (live.reason or "") if reason else live.reason is None
    assert (live.age_s is None) == (live.reason is None)


async def health(store: EmbeddedInventory, ref: str, at: datetime | None = None) -> str:
    found = await store.get_asset(ref)
    return (await store.live([found], at or datetime.now(UTC)))[found.id].health


async def updated(store: EmbeddedInventory) -> set[str]:
    while await store.judge():
        pass
    waiting = await store.waiting()
    await store.told([item.id for item in waiting])
    return {item.subject for item in waiting}


async def test_facts_are_kept_found_and_forgotten(store: EmbeddedInventory, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    uri = f"{ASSETS_URI}/{seed.asset_id(CHECKOUT)}"

    def firing(at: datetime = now, /, **data: Any) -> Fact:
        return told(alert("alert_firing", at, **data))

    await store.learn([], [firing(), firing(fingerprint="f2", service="redis", namespace="")])
    assert await updated(store) == {ASSETS_URI, uri}
    assert await health(store, CHECKOUT) == "degraded"
    assert await health(store, REDIS) == "unknown"  # in staging there is another redis
    await store.learn([], [firing()])
    assert await updated(store) == set()  # nothing new
    # Over, without the labels that say whose it is; what comes late changes nothing.
    over = told(alert("alert_resolved", now + timedelta(minutes=2), service="", namespace=""))
    await store.learn([], [over, firing(now + timedelta(minutes=1))])
    assert await updated(store) == {ASSETS_URI, uri}
    assert await health(store, CHECKOUT) == "unknown"
    await store.learn([runs(seen_at=now)], [firing(now - FRESH - timedelta(minutes=1), fingerprint="f3")])
    await updated(store)
    assert await health(store, CHECKOUT) == "unknown"  # it may fire still
    assert await health(store, CHECKOUT, now - timedelta(minutes=5)) == "degraded"
    await store.sweep()
    assert await updated(store) >= {uri}  # that it has grown old is news, once
    await store.sweep()
    assert uri not in await updated(store)
    await store.learn([], [firing(now - KEPT - timedelta(minutes=1), fingerprint="f3x")])
    monkeypatch.setattr(health_facts, "FACTS_MAX", 2)
    await store.sweep()
    async with store._engine.connect() as connection:
        keys = {row.key for row in await connection.execute(health_facts._table.select())}
    assert keys == {"f1", "f2"}
    assert await health(store, CHECKOUT) == "ok"
    assert await store.unwell(now) == {}


async def test_pods_and_nodes(store: EmbeddedInventory) -> None:
    now = datetime.now(UTC)
    sick = {"cluster": "lab", "namespace": "shop", "name": "cart-1", "workload": "cart", "reason": "OOMKilled"}
    await store.learn(
        [],
        [
            told(event("k8s", "pod_unhealthy", now, **sick)),
            told(event("k8s", "node_not_ready", now, cluster="lab", name="lab-worker-2", reason="KubeletStopped")),
        ],
    )
    assert await health(store, CART) == "degraded"
    assert await health(store, "host:lab/lab-worker-2") == "down"
    assert set(await store.unwell(now)) == {CART, "host:lab/lab-worker-2"}
    await store.learn([runs(name="cart", gone=True, seen_at=now + timedelta(seconds=1))])
    assert await health(store, CART) == "down"
    await store.learn(
        [], [told(event("k8s", "node_ready", now + timedelta(seconds=1), cluster="lab", name="lab-worker-2"))]
    )
    assert await health(store, "host:lab/lab-worker-2") == "unknown"


async def test_the_overlay_of_the_tools(bus: Bus, run_worker: Any, database_url: str, caller: Caller) -> None:
    async with run_worker(build(), database_url=database_url, seed="shop"):
        now = datetime.now(UTC)
        monitoring = (await bus.connect("monitoring")).jetstream()
        k8s = (await bus.connect("k8s")).jetstream()
        where = {"cluster": "lab", "namespace": "shop", "images": ["shop/x:1"]}
        await k8s.publish(*event("k8s", "workload_seen", now, **where, name="checkout", replicas=3, ready=3))
        await k8s.publish(*event("k8s", "workload_seen", now, **where, name="catalog", replicas=2, ready=0))
        heard: list[str] = []

        async def hear(message: Any) -> None:
            heard.append(json.loads(message.data)["data"]["uri"])

        operator = await bus.connect("operator")
        await operator.subscribe("event.cmdb.resource_updated", cb=hear)
        await operator.flush()
        await monitoring.publish(*alert("alert_firing", now, fingerprint="nul", summary="a\0b"))
        await monitoring.publish(*alert("alert_firing", now, service="cart", severity="critical"))

        async def walked(**more: Any) -> Any:
            asked = {"service": "service:shop/frontend", "direction": "dependencies", "depth": 1} | more
            return await caller.call("cmdb", "get_service_topology", asked)

        async def all_known() -> Any:
            reply = await walked()
            live = reply.structured["live"]
            return reply if live.get("degraded") and live.get("down") and live.get("ok") else None

        reply = await until(all_known, 40, 0.1)
        live = {item["ref"]: item["live"] for item in reply.structured["items"]}
        assert live[CART]["health"] == "degraded"
        assert "HighErrorRate (critical)" in live[CART]["reason"]
        assert 0 <= live[CART]["age_s"] < 120
        assert live["service:shop/catalog"]["health"] == "down"
        assert live[CHECKOUT]["health"] == "ok"
        assert live["service:shop/recommendations"] == {"health": "unknown"}
        assert reply.structured["live"]["down"] == 1
        assert "now degraded (alert HighErrorRate" in reply.text
        await until(lambda: f"{ASSETS_URI}/{seed.asset_id(CART)}" in heard, 30)
        record = json.loads((await caller.read("cmdb", CART_URI)).result["contents"][0]["text"])
        assert record["live"]["health"] == "degraded"

        then = (await walked(as_of="now-1m")).structured
        assert all("live" not in item for item in then["items"])
        assert then["live"] == {}
        assert any("live health is of now" in warning for warning in then["warnings"])

        hit = (await caller.call("cmdb", "get_impact", {"asset": CART})).structured
        assert hit["fails_live"][CART]["health"] == "degraded"
        rows = {row["ref"]: row["live"]["health"] for row in hit["items"]}
        assert rows[CHECKOUT] == "ok"
        assert rows["service:shop/frontend"] == "unknown"

        await monitoring.publish(*alert("alert_resolved", datetime.now(UTC), service="cart", severity="critical"))

        async def over() -> bool:
            return "degraded" not in (await walked()).structured["live"]

        await until(over, 40, 0.1)


CART_URI = f"{ASSETS_URI}/{seed.asset_id(CART)}"


async def test_a_cmdb_elsewhere_says_that_it_knows_nothing(run_worker: Any, http_url: str, caller: Caller) -> None:
    async with run_worker(build(), url=http_url, api_key="test-key"):
        answer = (await caller.call("cmdb", "get_service_topology", {"service": CHECKOUT})).structured
        assert {item["live"]["health"] for item in answer["items"]} == {"unknown"}
        assert any("keeps no live health" in warning for warning in answer["warnings"])
