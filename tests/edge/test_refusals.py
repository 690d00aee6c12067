"""Who was turned away is in the record: what was tried, from where, how often; and no more events than that."""

import asyncio
from typing import Any

from opsbus_edge.gates import refusals
from opsbus_edge.gates.proof import refuse
from opsbus_edge.model import Peer


async def failed(audit_events: Any, wanted: int) -> list[dict[str, Any]]:
    events = await audit_events(wanted)
    return [event for event in events if event["subject"] == "audit.edge.sign_in_failed"]


async def test_a_refused_request_is_recorded_with_its_reason_and_without_what_was_sent(running, audit_events) -> None:
    for headers in ({}, {"authorization": "Bearer guess-4711"}, {"x-api-key": "guess-4711"}):
        assert (await running.http.get("/api/v1/tools", headers=headers)).status_code == 401
    events = await failed(audit_events, 3)
    assert {event["reason"] for event in events} == {
        "the request does not say who it is",
        "the token is no JWT",
        "the API key does not hold",
    }
    assert {event["address"] for event in events} == {"127.0.0.1"}
    assert all(event["details"] == {"times": 1} for event in events)
    assert all(b"guess" not in event["raw"] for event in events)


async def test_a_thousand_guesses_are_two_events(running, audit_events, monkeypatch) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 3_600)

    async def guess(times: int) -> None:
        for _ in range(times):
            await running.http.get("/api/v1/tools", headers={"authorization": "Bearer x.y.z"})

    await guess(1)
    await failed(audit_events, 1)
    await guess(200)
    await running.edge.refusals.stop()  # writes what has been counted since
    events = await failed(audit_events, 2)
    assert [event["details"]["times"] for event in events] == [1, 200]


async def test_addresses_without_number_are_counted_together(bus, audit_events, monkeypatch) -> None:
    monkeypatch.setattr(refusals, "KINDS_MAX", 2)
    counted = refusals.Refusals(await bus.connect("edge"), names=True)
    for number in range(10):
        counted.tell(refuse("the token is no JWT"), Peer(f"10.0.0.{number}"))
    await counted.stop()
    events = await failed(audit_events, 3)
    assert sorted(event["details"]["times"] for event in events) == [1, 1, 8]


async def test_what_the_record_did_not_take_is_written_later(bus, audit_events, monkeypatch) -> None:
    monkeypatch.setattr(refusals, "TICK_S", 0.05)
    counted = refusals.Refusals(await bus.connect("edge"), names=False)
    js = await bus.jetstream()
    config = (await js.stream_info("AUDIT")).config
    await js.delete_stream("AUDIT")
    counted.tell(refuse("the token is no JWT"), Peer("10.0.0.1"))
    counted.start()
    await asyncio.sleep(0.3)
    await js.add_stream(config)
    (event,) = await failed(audit_events, 1)
    await counted.stop()
    assert (event["details"], event["address"]) == ({"times": 1}, ""), "encrypted personal data: no address"
