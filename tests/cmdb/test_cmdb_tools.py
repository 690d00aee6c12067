"""The CMDB's tools over the real bus, as an edge calls them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.waiting import until
from opsbus_cmdb.app import build
from opsbus_contracts import ErrorCode, Status

CHECKOUT = "service:shop/checkout"
ELICITS = {"name": "test", "capabilities": {"elicitation": {}}}


@pytest.fixture
async def cmdb(run_worker: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """The worker with the shop in a database of its own."""
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/cmdb.sqlite3", seed="shop") as running:
        yield running


async def structured(caller: Caller, tool: str, arguments: dict[str, Any], **options: Any) -> Any:
    return (await caller.call("cmdb", tool, arguments, **options)).structured


async def _updated(js: Any) -> Any:
    """What was told last of a resource: the store's keeper tells it, soon after the call's answer."""
    try:
        return json.loads((await js.get_last_msg("EVENTS", "event.cmdb.resource_updated")).data)
    except NotFoundError:
        return None


async def confirm_token(caller: Caller, arguments: dict[str, Any], **options: Any) -> tuple[dict[str, Any], str]:
    refused = (await caller.call("cmdb", "update_asset_status", arguments, **options)).error
    assert refused.code is ErrorCode.CONFIRMATION_REQUIRED
    return refused.details["plan"], refused.details["confirm"]


async def test_one_match_is_a_detail(cmdb: Any, caller: Caller) -> None:
    reply = await caller.call("cmdb", "query_assets", {"filters": {"ref": CHECKOUT}})
    answer = reply.structured
    assert answer["match"] == "one"
    assert answer["items"][0]["attributes"]["on_call"] == "checkout-on-call"
    assert {
        "relation": "required_by",
        "ref": "service:shop/frontend",
        "status": "operational",
        "impact": "hard",
    } in answer["neighbours"]
    assert [change["number"] for change in answer["open_changes"]] == ["CHG0004127"]
    assert CHECKOUT in reply.text
    assert "CHG0004127" in reply.text


async def test_few_are_a_list_and_many_a_page_with_counts(cmdb: Any, caller: Caller) -> None:
    few = await structured(caller, "query_assets", {"filters": {"namespace": "payments"}})
    assert (few["match"], len(few["items"]), few["counts"]) == ("few", 3, [])
    assert few["items"][0]["labels"]
    many = await structured(caller, "query_assets", {"limit": 5})
    assert many["match"] == "many"
    assert many["page"]["returned"] == 5
    assert many["page"]["truncated"]
    assert {counts["by"] for counts in many["counts"]} == {"environment", "kind", "status"}
    assert "description" not in many["items"][0]
    rest = await structured(caller, "query_assets", {"limit": 200, "cursor": many["page"]["next_cursor"]})
    assert rest["page"]["total"] == many["page"]["total"] == 5 + len(rest["items"])


async def test_fields_and_group_by(cmdb: Any, caller: Caller) -> None:
    answer = await structured(
        caller, "query_assets", {"filters": {"kind": "service"}, "fields": ["owner_team"], "group_by": "owner_team"}
    )
    assert set(answer["items"][0]) == {"id", "ref", "owner_team"}
    assert answer["counts"][0]["by"] == "owner_team"
    assert sum(group["count"] for group in answer["counts"][0]["groups"]) == answer["page"]["total"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"filters": {"enviroment": "production"}}, ["environment", "label.<key>"]),
        ({"filters": {"status": "broken"}}, ["degraded", "maintenance"]),
        ({"filters": {"kind": []}}, ["list of 1 to"]),
        ({"filters": {"label.": "x"}}, ["label.<key>"]),
        ({"fields": ["owner"]}, ["owner_team"]),
        ({"group_by": "colour"}, ["owner_team"]),
        ({"limit": 0}, ["limit"]),
        ({"filter": {}}, ["filters"]),
        ({"cursor": "AAAA"}, ["cursor"]),
    ],
)
async def test_wrong_questions_are_refused_with_the_right_ones(
    cmdb: Any, caller: Caller, arguments: dict[str, Any], words: list[str]
) -> None:
    error = (await caller.call("cmdb", "query_assets", arguments)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    told = f"{error.message} {error.hint} {error.did_you_mean} {error.details}"
    assert all(word in told for word in words), told


async def test_no_match_says_what_was_meant(cmdb: Any, caller: Caller) -> None:
    answer = await structured(caller, "query_assets", {"text": "chekout"})
    assert answer["match"] == "none"
    assert CHECKOUT in answer["warnings"][0]
    filtered = await structured(caller, "query_assets", {"text": "checkout", "filters": {"kind": "host"}})
    assert "without them" in filtered["warnings"][0]


async def test_topology_reads_in_both_directions(cmdb: Any, caller: Caller) -> None:
    reply = await caller.call(
        "cmdb", "get_service_topology", {"service": CHECKOUT, "depth": 1, "relation_types": ["depends_on"]}
    )
    answer = reply.structured
    assert {item["ref"]: item["depth"] for item in answer["items"]} == {
        CHECKOUT: 0, "service:shop/cart": 1, "service:payments/payments-api": 1, "service:shop/frontend": 1,
    }  # fmt: skip
    frontend = next(edge for edge in answer["edges"] if edge["from_ref"] == "service:shop/frontend")
    assert (frontend["to_ref"], frontend["type"], frontend["inverse"]) == (CHECKOUT, "depends_on", "required_by")
    assert not answer["page"]["truncated"]
    small = await structured(caller, "get_service_topology", {"service": CHECKOUT, "node_limit": 2})
    assert small["page"]["truncated"]
    assert "node_limit" in small["warnings"][0]


async def test_what_changed_around_checkout(cmdb: Any, caller: Caller) -> None:
    around = await structured(caller, "get_change_records", {"service": CHECKOUT, "since": "now-2d", "until": "now"})
    assert [(row["number"], row["direct"]) for row in around["items"]] == [("CHG0004127", True), ("CHG0004119", False)]
    only = await structured(caller, "get_change_records", {"asset": CHECKOUT, "since": "now-1h", "until": "now+4d"})
    assert [row["number"] for row in only["items"]] == ["CHG0004127"]
    assert [(window["kind"], window["active"]) for window in only["windows"]] == [("freeze", False)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"asset": CHECKOUT, "service": CHECKOUT},
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "now", "until": "now-1h"},
        {"since": "now-999999w"},
        {"states": ["done"]},
    ],
)
async def test_wrong_windows_are_refused(cmdb: Any, caller: Caller, arguments: dict[str, Any]) -> None:
    error = (await caller.call("cmdb", "get_change_records", arguments)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS


async def test_a_dry_run_shows_the_plan_and_changes_nothing(cmdb: Any, caller: Caller) -> None:
    arguments = {"id": CHECKOUT, "status": "degraded", "reason": "errors at 12 percent", "dry_run": True}
    answer = await structured(caller, "update_asset_status", arguments)
    assert not answer["applied"]
    assert answer["plan"]["summary"] == f"Set status of {CHECKOUT} from operational to degraded"
    assert "service:shop/frontend" in answer["plan"]["blast_radius"]
    assert answer["asset"]["version"] == 1
    assert answer["undo"] is None


async def test_a_confirmed_write_is_done_once_announced_and_can_be_undone(bus: Bus, cmdb: Any, caller: Caller) -> None:
    js = await bus.jetstream()
    arguments = {"id": CHECKOUT, "status": "degraded", "reason": "errors at 12 percent", "change_id": "CHG0004127"}
    plan, token = await confirm_token(caller, arguments, identity="ada")
    assert plan["changes"][0] == {"path": "status", "before": "operational", "after": "degraded"}
    done = await structured(
        caller, "update_asset_status", {**arguments, "confirm": token}, identity="ada", call_id="c" * 32
    )
    assert done["applied"]
    assert (done["asset"]["status"], done["asset"]["version"]) == ("degraded", 2)
    event = json.loads((await js.get_last_msg("EVENTS", "event.cmdb.asset_updated")).data)
    assert event["subject"] == CHECKOUT
    assert (
        event["data"] | {"field": "status", "before": "operational", "after": "degraded", "actor": "ada"}
        == event["data"]
    )
    assert event["data"]["call"] == "c" * 32
    updated = await until(lambda: _updated(js), 30)
    assert updated["data"]["uri"].startswith("enterprise://cmdb/assets")
    undo = done["undo"]
    assert undo["tool"] == "cmdb_update_asset_status"
    _, again = await confirm_token(caller, undo["arguments"])
    back = await structured(caller, "update_asset_status", {**undo["arguments"], "confirm": again})
    assert (back["asset"]["status"], back["asset"]["version"]) == ("operational", 3)
    used = (await caller.call("cmdb", "update_asset_status", {**arguments, "confirm": token})).error
    assert used.code is ErrorCode.PRECONDITION_FAILED
    assert (await structured(caller, "query_assets", {"filters": {"ref": CHECKOUT}}))["items"][0]["version"] == 3


async def test_an_eliciting_client_is_asked_and_may_decline(cmdb: Any, caller: Caller) -> None:
    arguments = {"id": "ledger", "status": "maintenance", "reason": "index rebuild"}
    asked = await caller.call("cmdb", "update_asset_status", arguments, client=ELICITS)
    assert asked.status is Status.INPUT_REQUIRED
    (key,) = asked.result["inputRequests"]
    rounds = {"client": ELICITS, "request_state": asked.result["requestState"]}
    no = await caller.call(
        "cmdb", "update_asset_status", arguments, input_responses={key: {"action": "decline"}}, **rounds
    )
    assert no.error.code is ErrorCode.DECLINED
    schema = asked.result["inputRequests"][key]["params"]["requestedSchema"]
    (field,) = schema["properties"]
    yes = {key: {"action": "accept", "content": {field: True}}}
    done = await structured(caller, "update_asset_status", arguments, input_responses=yes, **rounds)
    assert done["asset"]["status"] == "maintenance"


async def test_the_state_machine_names_the_ways(cmdb: Any, caller: Caller) -> None:
    refused = (
        await caller.call("cmdb", "update_asset_status", {"id": CHECKOUT, "status": "retired", "reason": "old stuff"})
    ).error
    assert refused.code is ErrorCode.PRECONDITION_FAILED
    assert "retiring" in refused.hint
    assert refused.details["allowed"] == ["retiring"]
    planned = (
        await caller.call("cmdb", "update_asset_status", {"id": "gift-cards", "status": "down", "reason": "no reason"})
    ).error
    assert "lifecycle" in planned.hint
    same = (
        await caller.call(
            "cmdb", "update_asset_status", {"id": CHECKOUT, "status": "operational", "reason": "no reason"}
        )
    ).error
    assert same.code is ErrorCode.CONFLICT


async def test_warnings_of_a_plan(cmdb: Any, caller: Caller) -> None:
    plan = await structured(
        caller, "update_asset_status",
        {"id": "ledger", "status": "retiring", "reason": "moved away", "change_id": "CHG0004135", "dry_run": True},
    )  # fmt: skip
    told = " ".join(plan["warnings"])
    assert "does not list service:payments/ledger" in told
    assert "authorize" in told
    assert "active assets still need it" in told


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"id": "nobody", "status": "down", "reason": "gone"}, ErrorCode.NOT_FOUND),
        ({"id": "checkout", "status": "down", "reason": "gone"}, ErrorCode.CONFLICT),
        ({"id": CHECKOUT, "status": "down"}, ErrorCode.INVALID_ARGUMENTS),
        ({"id": CHECKOUT, "status": "unknown", "reason": "gone"}, ErrorCode.INVALID_ARGUMENTS),
        ({"id": CHECKOUT, "status": "down", "reason": "gone", "expected_version": 7}, ErrorCode.PRECONDITION_FAILED),
        ({"id": CHECKOUT, "status": "down", "reason": "gone", "change_id": "CHG9"}, ErrorCode.NOT_FOUND),
        (
            {"id": CHECKOUT, "status": "down", "reason": "gone", "change_id": "CHG0004119"},
            ErrorCode.PRECONDITION_FAILED,
        ),
        ({"id": CHECKOUT, "status": "down", "reason": "gone", "confirm": "made-up"}, None),
    ],
)
async def test_refused_writes_change_nothing(
    cmdb: Any, caller: Caller, arguments: dict[str, Any], code: ErrorCode | None
) -> None:
    reply = await caller.call("cmdb", "update_asset_status", arguments)
    assert code is None or reply.error.code is code
    assert reply.executed == "no"
    assert reply.error.hint
    assert (await structured(caller, "query_assets", {"filters": {"ref": CHECKOUT}}))["items"][0]["version"] == 1


async def test_one_key_is_one_write_also_at_once(cmdb: Any, caller: Caller) -> None:
    arguments = {"id": CHECKOUT, "status": "degraded", "reason": "errors", "idempotency_key": "key-1"}
    _, token = await confirm_token(caller, {key: value for key, value in arguments.items() if key != "idempotency_key"})
    calls = [caller.call("cmdb", "update_asset_status", {**arguments, "confirm": token}) for _ in range(4)]
    replies = await asyncio.gather(*calls)
    assert any(reply.status is Status.OK for reply in replies)
    assert (await structured(caller, "query_assets", {"filters": {"ref": CHECKOUT}}))["items"][0]["version"] == 2


async def test_a_reader_cannot_write(cmdb: Any, caller: Caller) -> None:
    reply = await caller.call(
        "cmdb", "update_asset_status", {"id": CHECKOUT, "status": "down", "reason": "gone"}, permissions=["cmdb:read"]
    )
    assert reply.error.code is ErrorCode.FORBIDDEN


async def test_resources_and_prompt(cmdb: Any, caller: Caller) -> None:
    listed = (await caller.read("cmdb", "enterprise://cmdb/assets")).result["contents"][0]
    overview = json.loads(listed["text"])
    assert overview["total"] == sum(overview["counts"]["kind"].values())
    assert any(item["ref"] == "host:lab/batch-01" for item in overview["not_operational"])
    assert datetime.fromisoformat(overview["as_of"]) <= datetime.now(UTC)
    asset_id = overview["not_operational"][0]["id"]
    record = (await caller.read("cmdb", f"enterprise://cmdb/assets/{asset_id}")).result["contents"][0]
    assert json.loads(record["text"])["id"] == asset_id
    missing = await caller.read("cmdb", "enterprise://cmdb/assets/ast-none")
    assert missing.error.code in {ErrorCode.NOT_FOUND, ErrorCode.UNKNOWN_RESOURCE}
    brief = (await caller.prompt("cmdb", "impact_brief", {"service": CHECKOUT, "change": "CHG0004127"})).result
    text = brief["messages"][0]["content"]["text"]
    assert "service:shop/frontend" in text
    assert "Roll back to v2.4.0" in text
    assert "hard: service:payments/payments-api" in text


async def test_completions(cmdb: Any, caller: Caller) -> None:
    ref = {"type": "ref/prompt", "name": "impact_brief"}
    services = (await caller.complete("cmdb", ref, "service", "check")).result["completion"]["values"]
    assert services[:2] == ["service:shop-staging/checkout", CHECKOUT]
    changes = await caller.complete("cmdb", ref, "change", "chg", {"service": "redis-of-nobody"})
    assert len(changes.result["completion"]["values"]) == 5
    near = await caller.complete("cmdb", ref, "change", "CHG", {"service": "service:shop/cart"})
    assert near.result["completion"]["values"][0] == "CHG0004119"
