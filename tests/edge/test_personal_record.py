"""``audit_personal: encrypted``: who called stands in the record only under a key that can be destroyed."""

from typing import Any

from opsbus import Context, ErrorCode, ToolError, Worker
from opsbus.personal import Persons, sealing_context
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker


def demo(executions: list[str]) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write")
    async def change(ctx: Context) -> dict[str, int]:
        executions.append(ctx.call_id)
        return {"n": 1}

    return worker


async def test_no_name_and_no_address_stands_in_the_clear(
    bus: Bus, run_edge: Any, run_worker: RunWorker, audit_events: Any
) -> None:
    done: list[str] = []
    async with run_edge(audit_personal="encrypted") as running, run_worker(demo(done)):
        await running.knows("demo_change")
        await running.call("demo_change")
        await running.call("demo_change", role="viewer")
    events = await audit_events(3)
    persons = Persons((await bus.connect("auditor")).jetstream())
    assert {event["stage"] for event in events} == {"requested", "completed", "denied"}
    for event in events:
        assert event["actor"].startswith("person-")
        assert not {"client", "address", "session"} & event.keys()
        person = await persons.named(event["actor"])
        assert person is not None
        told = person.open(event["personal"], sealing_context(event["call"], event["stage"]))
        who = "viewer@shop.example" if event["stage"] == "denied" else "admin@shop.example"
        assert (told["actor"], told["client"]) == (who, "test 1")
        assert await persons.find(who) == person
        assert b"@shop.example" not in event["raw"]
    assert done


async def test_what_a_worker_denies_is_under_the_pseudonym_too(
    bus: Bus, run_edge: Any, run_worker: RunWorker, audit_events: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("opsbus.execute.permit", refuse)
    async with run_edge(audit_personal="encrypted") as running, run_worker(demo([])):
        await running.knows("demo_change")
        assert (await running.call("demo_change")).error["data"]["code"] == "forbidden"
    events = await audit_events(3)
    (denied,) = [event for event in events if event["subject"] == "audit.demo.denied"]
    assert denied["actor"].startswith("person-")
    assert denied["actor"] in denied["message"]
    assert not [event for event in events if b"@shop.example" in event["raw"]]


def refuse(call: Any, *_: Any) -> None:
    raise ToolError(ErrorCode.FORBIDDEN, f"{call.caller.sub} may not do this")


async def test_without_its_key_no_call_is_made_and_no_name_is_recorded(
    bus: Bus, run_edge: Any, run_worker: RunWorker, audit_events: Any
) -> None:
    done: list[str] = []
    async with run_edge(audit_personal="encrypted") as running, run_worker(demo(done)):
        await running.knows("demo_change")
        js = await bus.jetstream()
        await js.delete_stream("KV_SUBJECTKEYS")
        error = (await running.call("demo_change")).tool_error
        assert error["code"] == "audit_unavailable"
        assert "keys of personal data" in error["message"]
    (event,) = await audit_events(1)
    assert (event["actor"], event["error"], done) == ("person-unknown", "audit_unavailable", [])
    assert "personal" not in event
