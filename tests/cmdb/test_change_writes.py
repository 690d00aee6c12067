"""Recording and cancelling changes: the port's promises on every backend, and the tools from plan to undo over the
real bus."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsbus import ErrorCode, ToolError
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_cmdb.app import build
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import ChangeState, ChangeType, Risk
from opsbus_cmdb.query import Cancellation, ChangeDraft

CART, CHECKOUT, LEDGER_DB = "service:shop/cart", "service:shop/checkout", "database:payments/ledger-postgres"


def draft(start: datetime, **fields: Any) -> ChangeDraft:
    known = {
        "title": "Raise the memory of cart", "type": ChangeType.NORMAL, "state": ChangeState.NEW, "risk": Risk.LOW,
        "asset_refs": [CART], "requested_by": "ada", "planned_start": start + timedelta(hours=8),
        "planned_end": start + timedelta(hours=9), "call_id": "call-a", "plans": {"backout": "lower it again"},
    }  # fmt: skip
    return ChangeDraft.model_validate(known | fields)


async def test_a_change_gets_the_next_number_and_its_call(inventory: Inventory, start: datetime) -> None:
    made = await inventory.create_change(draft(start, asset_refs=[CHECKOUT, CART]))
    assert made.number == "CHG0004136"
    assert made.tool_call_ids == ["call-a"]
    assert made.asset_refs == [CART, CHECKOUT]
    assert made.planned_start == start + timedelta(hours=8)
    assert made.plans == {"backout": "lower it again"}
    assert await inventory.get_change(made.number) == made


async def test_many_at_once_get_numbers_of_their_own(inventory: Inventory, start: datetime) -> None:
    made = await asyncio.gather(*(inventory.create_change(draft(start, call_id=f"c{n}")) for n in range(8)))
    assert sorted(change.number for change in made) == [f"CHG{4136 + n:07d}" for n in range(8)]


async def test_an_unknown_asset_stops_the_record(inventory: Inventory, start: datetime) -> None:
    with pytest.raises(ToolError) as refused:
        await inventory.create_change(draft(start, asset_refs=[CART, "service:shop/gone"]))
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert (await inventory.create_change(draft(start))).number == "CHG0004136"


async def test_what_was_touched_meanwhile_is_not_cancelled(inventory: Inventory, start: datetime) -> None:
    made = await inventory.create_change(draft(start))
    late = Cancellation(reason="no need", actor="ada", seen=made.updated_at - timedelta(seconds=1))
    with pytest.raises(ToolError) as refused:
        await inventory.cancel_change(made.number, late)
    assert refused.value.code is ErrorCode.PRECONDITION_FAILED
    gone = await inventory.cancel_change(
        made.number, late.model_copy(update={"seen": made.updated_at, "call_id": "call-b"})
    )
    assert gone.state is ChangeState.CANCELLED
    assert gone.tool_call_ids == ["call-a", "call-b"]
    assert "no need" in gone.description
    with pytest.raises(ToolError) as missing:
        await inventory.cancel_change("CHG9999999", late)
    assert missing.value.code is ErrorCode.NOT_FOUND


@pytest.fixture
async def cmdb(run_worker: Any, database_url: str) -> Any:
    async with run_worker(build(), database_url=database_url, seed="shop") as running:
        yield running


def arguments(now: datetime | None = None, hours: float = 8, **more: Any) -> dict[str, Any]:
    begin = (now or datetime.now(UTC)) + timedelta(hours=hours)
    known = {
        "title": "Raise the memory of cart", "assets": [CART], "reason": "OOM kills", "start": begin.isoformat(),
        "end": (begin + timedelta(hours=1)).isoformat(), "plans": {"backout": "lower it"},
    }  # fmt: skip
    return known | more


async def confirmed(caller: Caller, tool: str, given: dict[str, Any], **options: Any) -> Any:
    refused = (await caller.call("cmdb", tool, given)).error
    assert refused.code is ErrorCode.CONFIRMATION_REQUIRED
    reply = await caller.call("cmdb", tool, {**given, "confirm": refused.details["confirm"]}, **options)
    return reply.structured


async def test_from_plan_to_undo(bus: Bus, cmdb: Any, caller: Caller) -> None:
    js = await bus.jetstream()
    given = arguments()
    plan = (await caller.call("cmdb", "create_change", {**given, "dry_run": True})).structured
    assert (plan["applied"], plan["change"], plan["undo"]) == (False, None, None)
    assert {"path": "state", "before": None, "after": "new"} in plan["plan"]["changes"]
    assert "service:shop/frontend" in plan["plan"]["blast_radius"]
    done = await confirmed(caller, "create_change", given, call_id="d" * 32)
    made = done["change"]
    assert done["applied"]
    assert (made["number"], made["state"], made["owner_team"]) == ("CHG0004136", "new", "checkout")
    assert made["tool_call_ids"] == ["d" * 32]
    assert made["description"].startswith("OOM kills")
    event = json.loads((await js.get_last_msg("EVENTS", "event.cmdb.change_created")).data)
    assert (event["subject"], event["data"]["call"]) == ("CHG0004136", "d" * 32)
    listed = (await caller.call("cmdb", "get_change_records", {"asset": CART, "states": ["new"]})).structured
    assert [row["number"] for row in listed["items"]] == ["CHG0004136"]
    assert done["undo"]["tool"] == "cmdb_cancel_change"
    back = await confirmed(caller, "cancel_change", done["undo"]["arguments"])
    assert back["change"]["state"] == "cancelled"
    assert back["undo"] is None
    again = (await caller.call("cmdb", "cancel_change", done["undo"]["arguments"])).error
    assert again.code is ErrorCode.PRECONDITION_FAILED


async def test_the_plan_shows_freezes_and_overlapping_changes(cmdb: Any, caller: Caller) -> None:
    frozen = arguments(hours=50.5, assets=[LEDGER_DB, "payments-api"], type="standard", risk="low", dry_run=True)
    reply = await caller.call("cmdb", "create_change", frozen)
    answer = reply.structured
    assert {item["kind"] for item in answer["conflicts"] if item["blocking"]} == {"freeze", "same_asset"}
    assert "CHG0004135" in reply.text
    assert datetime.fromisoformat(answer["next_free"]) > datetime.now(UTC) + timedelta(days=5)
    assert {"path": "state", "before": None, "after": "assess"} in answer["plan"]["changes"]
    free = arguments(type="standard", risk="low", dry_run=True)
    plan = (await caller.call("cmdb", "create_change", free)).structured
    assert plan["conflicts"] == []
    assert {"path": "state", "before": None, "after": "scheduled"} in plan["plan"]["changes"]


async def test_a_confirmation_ends_when_another_change_takes_the_slot(cmdb: Any, caller: Caller) -> None:
    given = arguments()
    asked = (await caller.call("cmdb", "create_change", given)).error
    await confirmed(caller, "create_change", {**given, "title": "Somebody else's"})
    late = (await caller.call("cmdb", "create_change", {**given, "confirm": asked.details["confirm"]})).error
    assert late.code is ErrorCode.PRECONDITION_FAILED
    assert "version" in late.message


async def test_an_emergency_may_be_recorded_afterwards(cmdb: Any, caller: Caller) -> None:
    given = arguments(hours=-2, type="emergency", risk="high", dry_run=True)
    plan = (await caller.call("cmdb", "create_change", given)).structured
    assert {"path": "state", "before": None, "after": "authorize"} in plan["plan"]["changes"]
    assert all(item["kind"] != "in_the_past" for item in plan["conflicts"])


async def test_one_key_is_one_change(cmdb: Any, caller: Caller) -> None:
    given = arguments()
    token = (await caller.call("cmdb", "create_change", given)).error.details["confirm"]
    keyed = {**given, "idempotency_key": "key-1", "confirm": token}
    first = await caller.call("cmdb", "create_change", keyed)
    second = await caller.call("cmdb", "create_change", keyed)
    assert first.structured["change"]["number"] == second.structured["change"]["number"] == "CHG0004136"
    listed = (await caller.call("cmdb", "get_change_records", {"asset": CART, "states": ["new"]})).structured
    assert listed["page"]["total"] == 1


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        ({"start": "now+2h"}, ErrorCode.INVALID_ARGUMENTS, "clock"),
        ({"start": "2027-01-01"}, ErrorCode.INVALID_ARGUMENTS, "hour"),
        ({"start": "2027-01-01T10:00:00"}, ErrorCode.INVALID_ARGUMENTS, "time"),
        ({"start": "2020-01-01T10:00:00Z", "end": "2020-01-01T11:00:00Z"}, ErrorCode.INVALID_ARGUMENTS, "past"),
        ({"end": "2026-01-01T10:00:00Z"}, ErrorCode.INVALID_ARGUMENTS, "end"),
        ({"end": "2099-01-01T10:00:00Z"}, ErrorCode.INVALID_ARGUMENTS, "30 days"),
        ({"assets": []}, ErrorCode.INVALID_ARGUMENTS, "assets"),
        ({"assets": ["service:shop/crat"]}, ErrorCode.NOT_FOUND, "service:shop/cart"),
        ({"assets": ["checkout"]}, ErrorCode.CONFLICT, CHECKOUT),
        ({"type": "standard", "risk": "high"}, ErrorCode.INVALID_ARGUMENTS, "low risk"),
        ({"type": "big"}, ErrorCode.INVALID_ARGUMENTS, "emergency"),
        ({"plans": {"backout": ""}}, ErrorCode.INVALID_ARGUMENTS, "plans"),
        ({"target": CART}, ErrorCode.INVALID_ARGUMENTS, "assets"),
    ],
)
async def test_refused_changes(
    run_worker: Any, tmp_path: Any, caller: Caller, more: dict[str, Any], code: ErrorCode, word: str
) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/cmdb.sqlite3", seed="shop"):
        reply = await caller.call("cmdb", "create_change", arguments(**more))
        assert reply.error.code is code
        told = f"{reply.error.message} {reply.error.hint} {reply.error.did_you_mean} {reply.error.details}"
        assert word in told, told
        assert reply.executed == "no"


@pytest.mark.parametrize("number", ["CHG0004119", "CHG0004127"])
async def test_what_is_over_or_has_begun_is_not_cancelled(cmdb: Any, caller: Caller, number: str) -> None:
    error = (await caller.call("cmdb", "cancel_change", {"number": number, "reason": "never mind"})).error
    assert error.code is ErrorCode.PRECONDITION_FAILED
    assert "scheduled" in error.hint


async def test_a_reader_records_nothing(cmdb: Any, caller: Caller) -> None:
    for tool, given in (("create_change", arguments()), ("cancel_change", {"number": "CHG0004131", "reason": "no"})):
        reply = await caller.call("cmdb", tool, given, permissions=["cmdb:read"])
        assert reply.error.code is ErrorCode.FORBIDDEN
