"""Reading events in order, each instance for itself: nothing is missed or told twice, whatever happens to the consumer;
and the two tables that are read so: owners, and the alerts that fire."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opsbus import event_reader
from opsbus.alerts_told import AlertsReader, AlertsTold, ToldAlert
from opsbus.event_reader import EventReader, Seen
from opsbus.event_teller import NotToldError, Teller, fact_id
from opsbus.nats_client import close, connect
from opsbus.owners import Owned, Owners, OwnersReader, part_of
from opsbus.testing.bus import Bus
from opsbus.testing.waiting import until
from opsbus_contracts import Event
from opsbus_contracts.streams import OWNERS_LISTED, READERS_AT_ONCE, reader

SPEC = reader("monitoring", OWNERS_LISTED)
WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "BACKOFF_S", (0.05, 0.1))
    monkeypatch.setattr(event_reader, "BACKOFF_DENIED_S", 0.2)


class Reading:
    """A reader and what it was told."""

    def __init__(self, client: Any, **more: Any) -> None:
        self.numbers: list[int] = []
        self.forgotten = 0
        self.client = client
        self.reader = EventReader(client, SPEC, self._apply, forget=self._forget, **more)

    def _apply(self, seen: Seen) -> None:
        self.numbers.append(seen.event.data["n"])

    def _forget(self) -> None:
        self.forgotten += 1
        self.numbers.clear()


@pytest.fixture
async def begin(bus: Bus) -> AsyncIterator[Any]:
    """Starts readers, each on a connection of its own."""
    running: list[Reading] = []

    async def start(**more: Any) -> Reading:
        client = await connect(bus.settings("monitoring"), "monitoring", on_error=bus.errors.append)
        running.append(Reading(client, **more))
        await running[-1].reader.start()
        return running[-1]

    yield start
    for one in running:
        await one.reader.stop()
        await close(one.client)


@pytest.fixture
async def teller(bus: Bus) -> Teller:
    return Teller(await bus.connect("cmdb"), "cmdb")


async def say(teller: Teller, *numbers: int) -> None:
    for number in numbers:
        await teller.tell("owners_listed", {"n": number})


async def names(bus: Bus) -> list[str]:
    found = await (await bus.jetstream()).consumers_info("EVENTS")
    return sorted(str(info.name) for info in found if "reads" in str(info.name))


async def test_all_that_was_and_comes_in_order_for_each(bus: Bus, begin: Any, teller: Teller) -> None:
    await say(teller, *range(450))
    one, two = await begin(), await begin()
    assert await one.reader.ready(WITHIN_S)
    assert await two.reader.ready(WITHIN_S)
    await (await bus.jetstream()).publish("event.cmdb.asset_updated", b"{}")
    await say(teller, 450)
    for each in (one, two):
        await until(lambda each=each: len(each.numbers) == 451, WITHIN_S)
        assert each.numbers == list(range(451))
        assert each.reader.current
    assert len(await names(bus)) == 2
    await one.reader.stop()
    await one.client.flush()
    await until(lambda: _count(bus, 1), WITHIN_S)
    assert bus.errors == []


async def _count(bus: Bus, wanted: int) -> bool:
    return len(await names(bus)) == wanted


async def test_a_consumer_that_is_gone_is_made_anew_from_where_it_was(bus: Bus, begin: Any, teller: Teller) -> None:
    await say(teller, 1, 2)
    one = await begin()
    assert await one.reader.ready(WITHIN_S)
    js = await bus.jetstream()
    for expected in (3, 4):
        (name,) = await names(bus)
        await js.delete_consumer("EVENTS", name)
        await say(teller, expected)
        await until(lambda expected=expected: one.numbers[-1:] == [expected], WITHIN_S)
        await until(lambda: one.reader.current, WITHIN_S)
    assert one.numbers == [1, 2, 3, 4]


async def test_a_server_that_starts_again(bus: Bus, begin: Any, teller: Teller) -> None:
    await say(teller, 1)
    one = await begin()
    assert await one.reader.ready(WITHIN_S)
    await asyncio.to_thread(bus.restart)
    await until(lambda: one.client.is_connected, WITHIN_S)

    async def said() -> bool:
        try:
            await teller.tell("owners_listed", {"n": 2}, fact=("two",))
        except NotToldError:
            return False
        return True

    await until(said, WITHIN_S)
    await until(lambda: one.numbers == [1, 2], WITHIN_S)


async def test_a_stream_that_is_missing_and_one_that_is_new(
    bus: Bus, begin: Any, teller: Teller, capsys: pytest.CaptureFixture[str]
) -> None:
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    one = await begin()
    await asyncio.sleep(0.5)
    assert not one.reader.current
    with pytest.raises(NotToldError, match="opsbus provision"):
        await say(teller, 0)
    await bus.reset()
    assert await one.reader.ready(WITHIN_S)
    await say(await _teller(bus), *range(5))
    await until(lambda: one.numbers == list(range(5)), WITHIN_S)
    assert one.forgotten == 0
    await bus.reset()
    await say(await _teller(bus), 7)
    await until(lambda: one.numbers == [7], WITHIN_S)
    assert one.forgotten == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("there is no stream EVENTS") <= 2  # once per time that it is missing


async def _teller(bus: Bus) -> Teller:
    return Teller(await bus.connect("cmdb"), "cmdb")


async def test_what_is_no_event_is_counted_and_left(bus: Bus, begin: Any, teller: Teller) -> None:
    js = await bus.jetstream()
    await js.publish(OWNERS_LISTED, b"no event")
    await js.publish(OWNERS_LISTED, b"{}")
    await say(teller, 1)
    one = await begin()
    assert await one.reader.ready(WITHIN_S)
    assert (one.numbers, one.reader.unreadable) == ([1], 2)


async def test_only_what_is_recent_unless_that_is_not_enough(begin: Any, teller: Teller) -> None:
    await say(teller, 1, 2)
    await asyncio.sleep(0.3)
    few = await begin(recent_s=0.05)
    assert await few.reader.ready(WITHIN_S)
    enough = False
    many = await begin(recent_s=0.05, enough=lambda: enough)
    assert await many.reader.ready(WITHIN_S)
    await say(teller, 3)
    await until(lambda: few.numbers == [3], WITHIN_S)
    await until(lambda: many.numbers == [1, 2, 3], WITHIN_S)


async def test_one_more_than_there_are_places_waits_for_one(begin: Any, teller: Teller) -> None:
    readers = [await begin() for _ in range(READERS_AT_ONCE)]
    for one in readers:
        assert await one.reader.ready(WITHIN_S)
    late = await begin()
    assert not await late.reader.ready(0.5)
    await readers[3].reader.stop()
    assert await late.reader.ready(WITHIN_S)
    await say(teller, 1)
    await until(lambda: late.numbers == [1], WITHIN_S)


async def test_who_may_not_read_goes_on_trying(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "ANSWER_WITHIN_S", 0.5)
    client = await bus.connect("billing")
    one = Reading(client)
    await one.reader.start()
    assert not await one.reader.ready(2.0)
    assert not one.reader.current
    await one.reader.stop()


async def test_the_same_fact_is_told_once(bus: Bus, teller: Teller) -> None:
    first = await teller.tell("owners_listed", {"n": 1}, fact=("a", 1))
    again = await (await _teller(bus)).tell("owners_listed", {"n": 1}, fact=("a", 1))
    other = await teller.tell("owners_listed", {"n": 1}, fact=("a", 2))
    assert (first.already, again.already, again.sequence, other.already) == (False, True, first.sequence, False)
    assert fact_id("a", "b") != fact_id("b", "a")


def owned(name: str, team: str, kind: str = "service", namespace: str = "shop", **more: Any) -> Owned:
    ref = f"{kind}:{namespace}/{name}"
    return Owned(ref=ref, kind=kind, namespace=namespace, name=name, owner_team=team, **more)


def seen(sequence: int, data: dict[str, Any]) -> Seen:
    event = Event(id=f"e{sequence}", source="/t", type="t", time=datetime.now(UTC), data=data)
    return Seen(sequence, event)


def test_a_listing_counts_when_it_is_whole() -> None:
    known = Owners()
    known.apply(seen(1, part_of("a", 2, 2, [owned("cart", "checkout")])))
    assert known.listing is None
    assert known.of_workload("shop", "cart") is None
    known.apply(seen(2, part_of("a", 1, 2, [owned("catalog", "catalog")])))
    assert (len(known), known.listing and known.listing.sequence) == (2, 2)
    known.apply(seen(3, part_of("b", 1, 2, [owned("cart", "others")])))
    known.apply(seen(4, {"listing": "b", "part": 0}))
    assert known.of_workload("shop", "cart").owner_team == "checkout"  # type: ignore[union-attr]
    for number in range(10):  # listings that were never finished are let go
        known.apply(seen(10 + number, part_of(f"x{number}", 1, 2, [])))
    known.apply(seen(30, part_of("b", 2, 2, [])))
    assert known.of_workload("shop", "cart").owner_team == "checkout"  # type: ignore[union-attr]
    known.apply(seen(31, part_of("none", 1, 1, [])))
    assert len(known) == 0


def test_owners_are_found_by_what_is_known_and_not_guessed() -> None:
    known = Owners()
    listed = [
        owned("redis", "platform", "cache"), owned("redis", "checkout", "service"),
        owned("redis", "payments", "cache", "payments"), owned("ledger", "payments", namespace="payments"),
        owned("web-2", "storefront", "deployment", service="web"), owned("lab-1", "platform", "host", "lab"),
        owned("only", "discovery"),
    ]  # fmt: skip
    known.apply(seen(1, part_of("a", 1, 1, listed)))

    def team(found: Owned | None) -> str | None:
        return found.owner_team if found else None

    assert team(known.of_workload("shop", "nothing", "redis")) == "checkout"  # a service before a cache
    assert team(known.of_workload("shop", "web")) == "storefront"
    assert team(known.of_workload("other", "redis")) is None
    assert team(known.of_name("redis")) is None  # three teams have one
    assert team(known.of_name("unknown", "only")) == "discovery"
    assert team(known.of_host("lab-1.example.com:9100")) == "platform"
    assert team(known.of_host("only")) is None
    assert team(known.of_namespace("payments")) == "payments"
    assert team(known.of_namespace("shop")) is None
    assert team(known.of_namespace("lab")) is None  # machines stand there, nothing runs in it


async def test_owners_are_read(bus: Bus, teller: Teller) -> None:
    await teller.tell("owners_listed", part_of("a", 1, 1, [owned("cart", "checkout")]))
    read = OwnersReader(await bus.connect("k8s"), "k8s")
    await read.reader.start()
    assert await read.reader.ready(WITHIN_S)
    assert read.known.of_workload("shop", "cart") is not None
    await read.reader.stop()
    assert bus.errors == []


def test_the_later_word_about_an_alert_counts() -> None:
    told = AlertsTold()
    data = {"fingerprint": "f", "starts_at": "t"}
    told.apply(False, seen(5, data))
    told.apply(True, seen(4, data))
    assert told.firing() == {}
    told.apply(True, seen(6, data | {"n": 1}))
    assert told.firing()["f"].data["n"] == 1
    told.apply(True, seen(7, {"fingerprint": 3}))
    told.keep("over", ToldAlert(8, False, 0.0, "t", {}))
    told.let_go(1_000.0)
    assert (told.get("over"), len(told)) == (None, 1)
    told.forget(False)
    assert len(told) == 1
    told.forget(True)
    assert len(told) == 0


async def test_alerts_are_read(bus: Bus) -> None:
    teller = Teller(await bus.connect("monitoring"), "monitoring")
    for kind, name in (("alert_firing", "a"), ("alert_firing", "b"), ("alert_resolved", "a"), ("alert_firing", "c")):
        await teller.tell(kind, {"fingerprint": name, "starts_at": "t"})
    read = AlertsReader(await bus.connect("k8s"), "k8s")
    await read.start()
    assert await read.ready(WITHIN_S)
    assert set(read.firing()) == {"b", "c"}
    assert read.current
    await read.stop()
    assert bus.errors == []
