"""Whose an alert is: by its labels, else as the CMDB told; in lists, groups and plans, and where nobody told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from opsbus.event_reader import Seen
from opsbus.event_teller import Teller
from opsbus.owners import Owned, Owners, part_of
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus.testing.waiting import until
from opsbus_contracts import Event
from opsbus_monitoring.alert_owner import AlertOwners
from opsbus_monitoring.app import build

WITHIN_S = 30.0


def owned(name: str, team: str, kind: str = "service", namespace: str = "shop", **more: Any) -> Owned:
    ref = f"{kind}:{namespace}/{name}"
    return Owned(ref=ref, kind=kind, namespace=namespace, name=name, owner_team=team, **more)


def seen(sequence: int, data: dict[str, Any]) -> Seen:
    event = Event(id=f"e{sequence}", source="/t", type="t", time=datetime.now(UTC), data=data)
    return Seen(sequence, event)


LISTED = [
    owned("cart", "checkout", service="cart"), owned("catalog", "catalog", service="catalog"),
    owned("ledger", "payments", namespace="payments", service="ledger"),
    owned("ledger-postgres", "payments", "database", "payments"), owned("redis", "platform", "cache"),
    owned("lab-1", "platform", "host", "lab"), owned("db", "one", "database"), owned("db", "two", "database", "other"),
]  # fmt: skip


def finder(owners: list[Owned]) -> AlertOwners:
    known = Owners()
    known.apply(seen(1, part_of("a", 1, 1, owners)))
    return AlertOwners(known, "service", ["owner", "team"])


@pytest.mark.parametrize(
    ("labels", "service", "owner", "from_cmdb"),
    [
        ({"service": "cart", "namespace": "shop", "team": "web"}, "cart", "web", []),
        ({"service": "cart", "namespace": "shop"}, "cart", "checkout", ["owner"]),
        ({"namespace": "shop", "deployment": "catalog"}, "catalog", "catalog", ["service", "owner"]),
        ({"namespace": "shop", "pod": "cart-7d9f8c5b4-x7k2p", "container": "proxy"}, "cart", "checkout",
         ["service", "owner"]),
        ({"namespace": "payments", "pod": "ledger-postgres-0"}, None, "payments", ["owner"]),
        ({"namespace": "payments"}, None, "payments", ["owner"]),  # all in it is theirs
        ({"namespace": "shop"}, None, None, []),
        ({"namespace": "shop", "service": "unknown"}, "unknown", None, []),
        ({"service": "ledger"}, "ledger", "payments", ["owner"]),
        ({"service": "db"}, "db", None, []),  # two have one
        ({"instance": "lab-1:9100", "job": "node"}, None, "platform", ["owner"]),
        ({"node": "lab-1.example.com", "severity": "critical"}, None, "platform", ["owner"]),
        ({"namespace": "shop", "service": "cart", "owner": ""}, "cart", "checkout", ["owner"]),
        ({"team": "web"}, None, "web", []),
        ({}, None, None, []),
    ],
)  # fmt: skip
def test_whose(labels: dict[str, str], service: str | None, owner: str | None, from_cmdb: list[str]) -> None:
    assert finder(LISTED).whose(labels) == (service, owner, from_cmdb)


def test_without_a_listing_labels_alone_say() -> None:
    nobody = AlertOwners(Owners(), "app", ["team"])
    assert nobody.whose({"app": "cart", "namespace": "shop"}) == ("cart", None, [])
    assert nobody.whose({"app": "cart", "team": "web"}) == ("cart", "web", [])


ALERTS = [
    {"labels": {"alertname": "Slow", "severity": "warning", "namespace": "shop", "service": "cart"}},
    {"labels": {"alertname": "Down", "severity": "critical", "namespace": "shop", "pod": "catalog-6c7d8e9f0-abcde"}},
    {"labels": {"alertname": "Full", "severity": "critical", "namespace": "payments", "team": "storage"}},
    {"labels": {"alertname": "Odd", "severity": "info"}},
]


@pytest.fixture
async def ask(alertmanager_url: str, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Any]:
    """Calls a tool of a worker that looks at a real Alertmanager."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{alertmanager_url}/api/v2/alerts", json=ALERTS) as answer,
    ):
        assert answer.status == 200

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    given = {"prometheus_url": "", "alertmanager_url": alertmanager_url, "grafana_url": "", "alert_watch": False}
    async with run_worker(build(), **given):
        async with asyncio.timeout(60):
            while len((await call("get_alerts")).structured["items"]) < len(ALERTS):
                await asyncio.sleep(0.1)
        yield call


async def told(bus: Bus, listing: str, owners: list[Owned]) -> None:
    await Teller(await bus.connect("cmdb"), "cmdb").tell("owners_listed", part_of(listing, 1, 1, owners))


async def test_alerts_carry_their_owner(ask: Any, bus: Bus) -> None:
    before = await ask("get_alerts", group_by=["owner"])
    assert {row["name"]: row.get("owner") for row in before.structured["items"]} == {
        "Slow": None, "Down": None, "Full": "storage", "Odd": None
    }  # fmt: skip
    assert any("the CMDB has told no owners" in warning for warning in before.structured["warnings"])
    assert not [w for w in (await ask("get_alerts")).structured["warnings"] if "CMDB" in w]
    await told(bus, "a", LISTED)

    async def known() -> Any:
        reply = await ask("get_alerts")
        return reply if any(row.get("owner") == "checkout" for row in reply.structured["items"]) else None

    reply = await until(known, WITHIN_S)
    schema = build().registry.tools["get_alerts"].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(reply.structured)
    rows = {row["name"]: row for row in reply.structured["items"]}
    assert (rows["Slow"]["service"], rows["Slow"]["owner"], rows["Slow"]["from_cmdb"]) == (
        "cart",
        "checkout",
        ["owner"],
    )
    assert (rows["Down"]["service"], rows["Down"]["owner"]) == ("catalog", "catalog")
    assert rows["Down"]["from_cmdb"] == ["service", "owner"]
    assert (rows["Full"]["owner"], "from_cmdb" in rows["Full"]) == ("storage", False)
    assert not {"service", "owner", "from_cmdb"} & rows["Odd"].keys()
    assert "(checkout)" in reply.text

    grouped = (await ask("get_alerts", group_by=["owner"])).structured
    assert {group["labels"]["owner"]: group["total"] for group in grouped["groups"]} == {
        "checkout": 1, "catalog": 1, "storage": 1, "": 1
    }  # fmt: skip
    assert not any("CMDB" in warning for warning in grouped["warnings"])
    by_severity = (await ask("get_alerts", group_by=["severity"])).structured["groups"]
    (critical,) = [group for group in by_severity if group["labels"]["severity"] == "critical"]
    assert critical["owners"] == {"catalog": 1, "storage": 1}

    given = {"matchers": ['severity="critical"'], "duration": "30m", "reason": "known", "dry_run": True}
    plan = (await ask("create_silence", **given)).structured["plan"]
    assert plan["blast_radius"].endswith("owners: catalog (1), storage (1)")
    assert bus.errors == []


async def test_a_newer_listing_replaces_the_older(ask: Any, bus: Bus) -> None:
    async def owner_of_slow() -> str | None:
        rows = (await ask("get_alerts")).structured["items"]
        found: str | None = next(row for row in rows if row["name"] == "Slow").get("owner")
        return found

    for listing, team in (("a", "one"), ("b", "two")):
        await told(bus, listing, [owned("cart", team)])
        await until(lambda team=team: _is(owner_of_slow, team), WITHIN_S)
    await told(bus, "c", [])
    await until(lambda: _is(owner_of_slow, None), WITHIN_S)


async def _is(read: Any, wanted: str | None) -> bool:
    return bool(await read() == wanted)


async def test_without_a_stream_alerts_are_listed_all_the_same(
    alertmanager_url: str, run_worker: RunWorker, caller: Caller, bus: Bus
) -> None:
    await (await bus.jetstream()).delete_stream("EVENTS")
    async with run_worker(build(), prometheus_url="", alertmanager_url=alertmanager_url, grafana_url=""):
        reply = await caller.call("monitoring", "get_alerts", {})
    assert reply.structured["items"] == []
