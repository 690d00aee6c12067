"""Alerts told on the bus, of a real Alertmanager and of one that fails: each change once, whoever sees it, whoever
starts again; and nothing concluded from silence."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus.event_teller import Teller
from opsbus.logs import get as get_log
from opsbus.owners import Owned, Owners, part_of
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus.testing.waiting import until
from opsbus_contracts import Event
from opsbus_monitoring import alert_watch
from opsbus_monitoring.alert_facts import NoAlertError, facts_of, fingerprint_of, masked
from opsbus_monitoring.alert_owner import AlertOwners
from opsbus_monitoring.alert_watch import AlertWatch, WatchMetrics
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.app import build

from .conftest import serve

WITHIN_S = 30.0
SOON = {"prometheus_url": "", "grafana_url": "", "alert_watch_s": 0.1, "alert_settle_s": 0}
CART = Owned(ref="service:shop/cart", kind="service", namespace="shop", name="cart", owner_team="checkout")
NOBODY = AlertOwners(Owners(), "service", ["team"])


class Heard:
    """What was told, in the stream's order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    async def keep(self, message: Any) -> None:
        self.events.append((message.subject, Event.model_validate_json(message.data)))

    def said(self) -> list[tuple[str, str]]:
        """Kind and name of the alert, or the resource."""
        return [(s.removeprefix("event.monitoring."), e.data.get("alertname") or e.data["uri"]) for s, e in self.events]

    def alerts(self) -> list[tuple[str, str]]:
        """Without resources."""
        return [said for said in self.said() if said[0].startswith("alert_")]


@pytest.fixture
async def heard(bus: Bus) -> AsyncIterator[Heard]:
    found = Heard()
    js = await bus.jetstream("operator")
    subscription = await js.subscribe("event.monitoring.>", stream="EVENTS", ordered_consumer=True, cb=found.keep)
    yield found
    await subscription.unsubscribe()


async def post(url: str, *names: str, ends: bool = False, **labels: str) -> None:
    """Alerts begin, or end."""
    when = {"endsAt": datetime.now(UTC).isoformat()} if ends else {}
    body = [
        {"labels": {"alertname": name, "severity": "critical", "namespace": "shop", "service": "cart"} | labels,
         "annotations": {"summary": f"{name} at https://ann:hunter2@x"}} | when
        for name in names
    ]  # fmt: skip
    async with aiohttp.ClientSession() as session, session.post(f"{url}/api/v2/alerts", json=body) as answer:
        assert answer.status == 200


async def measured(url: str, line: str) -> str:
    """The worker's metrics, if they hold a line."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    return text if line in text else ""


async def test_alerts_are_told_once_each_way_by_however_many(
    alertmanager_url: str, run_worker: RunWorker, bus: Bus, heard: Heard
) -> None:
    listing = part_of("a", 1, 1, [CART])
    await Teller(await bus.connect("cmdb"), "cmdb").tell("owners_listed", listing)
    given = {**SOON, "alertmanager_url": alertmanager_url}
    await post(alertmanager_url, "Slow", "Down")
    async with run_worker(build(), **given) as first, run_worker(build(), **given):
        await until(lambda: len(heard.alerts()) >= 2, WITHIN_S)
        await until(lambda: ("resource_updated", "enterprise://monitoring/alerts") in heard.said(), WITHIN_S)
        event = next(event for _, event in heard.events if event.data.get("alertname") == "Slow")
        data = dict(event.data)
        assert len(data.pop("fingerprint")) == 16
        assert datetime.fromisoformat(data.pop("starts_at")).tzinfo is not None
        assert data == {
            "alertname": "Slow", "severity": "critical", "service": "cart", "namespace": "shop", "owner": "checkout",
            "labels": {"alertname": "Slow", "severity": "critical", "namespace": "shop", "service": "cart"},
            "summary": "Slow at https://ann:[masked]@x",
        }  # fmt: skip
        await post(alertmanager_url, "Slow", ends=True)
        await until(lambda: ("alert_resolved", "Slow") in heard.alerts(), WITHIN_S)
        await post(alertmanager_url, "Slow")
        await until(lambda: heard.alerts().count(("alert_firing", "Slow")) == 2, WITHIN_S)
        metrics = await until(lambda: measured(first.http_url, "opsbus_monitoring_alerts_firing 2.0"), WITHIN_S)
        assert 'opsbus_monitoring_alert_polls_total{outcome="answered"}' in metrics
        assert "opsbus_monitoring_owners 1.0" in metrics
    told = heard.alerts()
    assert sorted(told) == sorted([
        ("alert_firing", "Slow"), ("alert_firing", "Down"), ("alert_resolved", "Slow"), ("alert_firing", "Slow"),
    ]), "two workers tell each change once"  # fmt: skip
    # While no worker runs one ends; whoever starts tells that, and nothing the stream has.
    await post(alertmanager_url, "Down", ends=True)
    await post(alertmanager_url, "New")
    async with run_worker(build(), **given):
        await until(lambda: len(heard.alerts()) >= 6, WITHIN_S)
        await asyncio.sleep(0.5)
    assert sorted(heard.alerts()[4:]) == [("alert_firing", "New"), ("alert_resolved", "Down")]
    assert bus.errors == []


async def test_it_can_be_switched_off(
    alertmanager_url: str, run_worker: RunWorker, heard: Heard, caller: Any, bus: Bus
) -> None:
    await post(alertmanager_url, "Slow")
    given = {**SOON, "alertmanager_url": alertmanager_url, "alert_watch": False}
    async with run_worker(build(), **given):

        async def there() -> bool:
            read = await caller.read("monitoring", "enterprise://monitoring/alerts")
            return "Slow" in read.result["contents"][0]["text"]

        await until(there, WITHIN_S)
        await asyncio.sleep(0.5)
    assert heard.said() == []


class Rough:
    """An Alertmanager that answers what it is told to."""

    def __init__(self) -> None:
        self.alerts: Any = []
        self.status = 200
        self.uptime = "2020-01-01T00:00:00Z"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/status"):
            return web.json_response({"uptime": self.uptime, "versionInfo": {}})
        return web.json_response(self.alerts, status=self.status)


@pytest.fixture
async def rough() -> AsyncIterator[tuple[Rough, str]]:
    made = Rough()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner, url = await serve(app)
    yield made, url
    await runner.cleanup()


@pytest.fixture
async def watch(rough: tuple[Rough, str], bus: Bus) -> AsyncIterator[Any]:
    """Watches that are ready, and turn when they are told to."""
    made: list[tuple[AlertWatch, Alertmanager]] = []

    async def start(settle_s: float = 0.0) -> AlertWatch:
        alertmanager = Alertmanager(rough[1], timeout_s=WITHIN_S)
        client = await bus.connect("monitoring")
        one = AlertWatch(client, alertmanager, NOBODY, get_log("monitoring"), WatchMetrics(), settle_s)
        made.append((one, alertmanager))
        await one.read.start()
        assert await one.read.ready(WITHIN_S)
        return one

    yield start
    for one, alertmanager in made:
        await one.read.stop()
        await alertmanager.close()


def alert(name: str, starts_at: str = "2026-11-21T10:00:00Z", **labels: str) -> dict[str, Any]:
    return {
        "fingerprint": f"fp-{name}",
        "startsAt": starts_at,
        "labels": {"alertname": name, **labels},
        "annotations": {},
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
    }


async def test_nothing_is_over_because_nobody_answers(rough: tuple[Rough, str], watch: Any, heard: Heard) -> None:
    server = rough[0]
    server.alerts = [alert("a"), alert("b")]
    one = await watch()
    assert await one.turn() == 2
    for broken, status in (([], 503), ({"no": "list"}, 200), ([{"labels": {}}], 200), ([alert("a"), "x"], 200)):
        server.alerts, server.status = broken, status
        assert await one.turn() == 0
    server.alerts, server.status = [alert("b")], 200
    await asyncio.sleep(2.5)  # the circuit breaker lets one through again
    assert await one.turn() == 1
    await until(lambda: len(heard.alerts()) == 3, WITHIN_S)
    assert heard.alerts()[2] == ("alert_resolved", "a")


async def test_one_that_has_just_started_knows_of_no_end(rough: tuple[Rough, str], watch: Any, heard: Heard) -> None:
    server = rough[0]
    server.alerts = [alert("a")]
    one = await watch(60.0)
    assert await one.turn() == 1
    server.uptime, server.alerts = datetime.now(UTC).isoformat(), [alert("b")]
    assert await one.turn() == 1, "what it has is told"
    server.uptime = (datetime.now(UTC) - timedelta(seconds=61)).isoformat()
    assert await one.turn() == 1
    await until(lambda: len(heard.alerts()) == 3, WITHIN_S)
    assert heard.alerts() == [("alert_firing", "a"), ("alert_firing", "b"), ("alert_resolved", "a")]


async def test_two_that_see_the_same_at_once(rough: tuple[Rough, str], watch: Any, heard: Heard) -> None:
    server = rough[0]
    one, two = await watch(), await watch()
    for turn in range(3):
        server.alerts = [alert("a")] if turn != 1 else []
        await asyncio.gather(one.turn(), two.turn())
        for each in (one, two):
            await until(lambda each=each, turn=turn: bool(each.read.told.firing()) is (turn != 1), WITHIN_S)
    await until(lambda: len(heard.alerts()) >= 3, WITHIN_S)
    assert [kind for kind, _ in heard.alerts()] == ["alert_firing", "alert_resolved", "alert_firing"]


async def test_a_silenced_alert_fires_still(rough: tuple[Rough, str], watch: Any) -> None:
    server = rough[0]
    server.alerts = [alert("a")]
    one = await watch()
    assert await one.turn() == 1
    server.alerts[0]["status"] = {"state": "suppressed", "silencedBy": ["x"], "inhibitedBy": []}
    assert await one.turn() == 0


async def test_what_fires_for_longer_than_the_stream_keeps_is_told_again(
    rough: tuple[Rough, str], watch: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough[0].alerts = [alert("a")]
    one = await watch()
    assert [await one.turn() for _ in range(2)] == [1, 0]
    with monkeypatch.context() as later:
        later.setattr(alert_watch, "TELL_AGAIN_S", 0.0)
        assert await one.turn() == 1
    assert await one.turn() == 0
    rough[0].alerts = [alert("a", "2026-11-21T11:00:00Z")]  # it was over in between, and nobody looked
    assert await one.turn() == 1
    await until(lambda: heard.alerts() == [("alert_firing", "a")] * 3, WITHIN_S)


async def test_so_many_are_watched_and_no_more(
    rough: tuple[Rough, str], watch: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_watch, "WATCHED_MAX", 5)
    monkeypatch.setattr(alert_watch, "ROUND_MAX", 3)
    rough[0].alerts = [alert(f"a{number}") for number in range(8)]
    one = await watch()
    assert [await one.turn() for _ in range(3)] == [3, 2, 0]
    rough[0].alerts = rough[0].alerts[5:]
    assert [await one.turn() for _ in range(4)] == [3, 3, 2, 0]
    await until(lambda: len(heard.alerts()) == 13, WITHIN_S)


async def test_without_what_was_told_nothing_is_told(rough: tuple[Rough, str], bus: Bus) -> None:
    await (await bus.jetstream()).delete_stream("EVENTS")
    alertmanager = Alertmanager(rough[1])
    client = await bus.connect("monitoring")
    one = AlertWatch(client, alertmanager, NOBODY, get_log("monitoring"), WatchMetrics())
    await one.read.start()
    rough[0].alerts = [alert("a")]
    assert await one.turn() == 0
    await one.read.stop()
    await alertmanager.close()


def test_facts_are_bounded_and_hold_no_secret() -> None:
    many = {f"label{number:03}": "v" * 1_000 for number in range(100)} | {"api_key": "hunter2", "a": "token=hunter2"}
    made = alert("x", **many) | {"annotations": {"summary": "Bearer abcdefghijkl " + "s" * 5_000}}
    facts = facts_of(made, NOBODY)
    assert len(facts["labels"]) == 30
    assert "hunter2" not in str(facts)
    assert "abcdefghijkl" not in str(facts)
    assert len(str(facts)) < 9_000
    assert facts["owner"] is None
    assert masked("postgres://ann:pw@db") == "postgres://ann:[masked]@db"
    for broken in ({}, {"fingerprint": "", "startsAt": "x", "labels": {}}, {"fingerprint": "f", "labels": {}}):
        with pytest.raises(NoAlertError):
            fingerprint_of(broken)
