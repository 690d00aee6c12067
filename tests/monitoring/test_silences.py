"""The tools about silences, before the estate's Alertmanager: plan, confirmation, act, verification, the way back."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from opsbus_contracts import ErrorCode, Status
from opsbus_monitoring.app import build
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.silences import require_narrow

CHECKOUT = {
    "matchers": ['alertname="CheckoutHighErrorRate"', 'namespace=~"sh.p"'],
    "duration": "2h",
    "reason": "rolling back the release",
}


def valid(tool: str, structured: Any) -> Any:
    schema = build().registry.tools[tool].spec.output_schema
    assert schema is not None
    Draft202012Validator(schema).validate(structured)
    return structured


@pytest.fixture(autouse=True)
async def quiet(estate: Any, http: aiohttp.ClientSession) -> AsyncIterator[None]:
    """The estate's Alertmanager serves other tests too: no silence is left in it."""
    yield
    for silence in await stored(http, estate):
        if silence["status"]["state"] != "expired":
            await (await http.delete(f"{estate.alertmanager}/api/v2/silence/{silence['id']}")).release()


async def stored(http: aiohttp.ClientSession, estate: Any, *, active: bool = False) -> list[dict[str, Any]]:
    async with http.get(f"{estate.alertmanager}/api/v2/silences") as answer:
        found: list[dict[str, Any]] = await answer.json()
    return [silence for silence in found if not active or silence["status"]["state"] == "active"]


async def confirmed(ask: Any, tool: str, **arguments: Any) -> Any:
    error = (await ask(tool, **arguments)).error
    assert error.code is ErrorCode.CONFIRMATION_REQUIRED, error
    return valid(tool, (await ask(tool, **arguments, confirm=error.details["confirm"])).structured)


async def test_planned_confirmed_verified_and_taken_back(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    dry = await ask("create_silence", **CHECKOUT, dry_run=True)
    plan = valid("create_silence", dry.structured)["plan"]
    assert [(change["before"], change["after"]) for change in plan["changes"]] == [("firing", "silenced")]
    assert "[critical] CheckoutHighErrorRate" in plan["changes"][0]["path"]
    assert re.search(r"mutes 1 of the \d+ alerts", plan["blast_radius"])
    assert "critical alerts fall silent: CheckoutHighErrorRate" in plan["warnings"]
    assert "CheckoutHighErrorRate" in dry.text
    assert await stored(http, estate, active=True) == []

    made = await confirmed(ask, "create_silence", **CHECKOUT)
    assert (made["outcome"], made["verified"]) == ("created", True)
    silence = made["silence"]
    assert (silence["mutes"], silence["alerts"]) == (1, ["CheckoutHighErrorRate"])
    assert (silence["created_by"], silence["comment"]) == ("tester", CHECKOUT["reason"])
    assert 7_100 < silence["ends_in_s"] <= 7_200
    again = valid("create_silence", (await ask("create_silence", **CHECKOUT)).structured)
    assert (again["outcome"], again["silence"]["id"]) == ("unchanged", silence["id"])

    rows = (await ask("get_alerts", state=["silenced"])).structured["items"]
    assert [row["name"] for row in rows] == ["CheckoutHighErrorRate"]
    undo = made["undo"]
    assert undo["tool"] == "monitoring_expire_silence"
    ended = await confirmed(ask, "expire_silence", **undo["arguments"])
    assert (ended["outcome"], ended["verified"], ended["silence"]["state"]) == ("expired", True, "expired")
    assert await stored(http, estate, active=True) == []

    back = ended["undo"]
    assert back["tool"] == "monitoring_create_silence"
    renewed = await confirmed(ask, "create_silence", **back["arguments"])
    assert (renewed["outcome"], renewed["silence"]["ends_at"]) == ("created", silence["ends_at"])


async def test_the_plan_of_an_end_says_who_is_heard_again(ask: Any) -> None:
    first = await confirmed(ask, "create_silence", **CHECKOUT)
    ending = {"silence_id": first["silence"]["id"], "reason": "the work is done"}
    plan = valid("expire_silence", (await ask("expire_silence", **ending, dry_run=True)).structured)["plan"]
    assert [(change["before"], change["after"]) for change in plan["changes"]] == [("silenced", "heard again")]
    assert plan["blast_radius"] == "1 alert is heard again"
    other = await confirmed(ask, "create_silence", **(CHECKOUT | {"matchers": ['alertname="CheckoutHighErrorRate"']}))
    assert any("fall silent" in warning for warning in other["warnings"]) is False, "it was silent already"
    plan = (await ask("expire_silence", **ending, dry_run=True)).structured["plan"]
    assert plan["changes"][0]["after"] == f"silenced by {other['silence']['id']}"
    assert plan["blast_radius"] == "no alert is heard again now"
    done = await confirmed(ask, "expire_silence", **ending, expected_version=first["silence"]["version"])
    assert done["outcome"] == "expired"
    assert (await ask("expire_silence", **ending)).structured["outcome"] == "unchanged"


async def test_a_user_is_asked_and_may_decline(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    can = {"client": {"capabilities": {"elicitation": {}}}}
    asked = await ask("create_silence", options=can, **CHECKOUT)
    assert asked.status is Status.INPUT_REQUIRED
    key, question = next(iter(asked.result["inputRequests"].items()))
    assert "CheckoutHighErrorRate" in question["params"]["message"]
    for action, content in (("decline", None), ("accept", {"proceed": False})):
        answer = {"input_responses": {key: {"action": action} | ({"content": content} if content else {})}}
        said = await ask(
            "create_silence", options=can | answer | {"request_state": asked.result["requestState"]}, **CHECKOUT
        )
        assert said.error.code is ErrorCode.DECLINED
    assert await stored(http, estate, active=True) == []
    answer = {"input_responses": {key: {"action": "accept", "content": {"proceed": True}}}}
    done = await ask(
        "create_silence", options=can | answer | {"request_state": asked.result["requestState"]}, **CHECKOUT
    )
    assert done.structured["outcome"] == "created"
    assert len(await stored(http, estate, active=True)) == 1


async def test_the_same_idempotency_key_makes_one(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    token = (await ask("create_silence", **CHECKOUT)).error.details["confirm"]
    given = {**CHECKOUT, "confirm": token, "idempotency_key": "once"}
    first = (await ask("create_silence", options={"idempotency_key": "once"}, **given)).structured
    again = (await ask("create_silence", options={"idempotency_key": "once"}, **given)).structured
    assert again == first
    assert [silence["id"] for silence in await stored(http, estate, active=True)] == [first["silence"]["id"]]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"matchers": []}, "nearly every alert"),
    ({"matchers": ['alertname=~".+"']}, "nearly every alert"),
    ({"matchers": ['alertname=~".*"', 'severity!=""']}, "nearly every alert"),
    ({"matchers": ['severity!="critical"']}, "nearly every alert"),
    ({"matchers": ['alertname=~"[A-Z].*"']}, "nearly every alert"),
    ({"matchers": ['severity=""']}, "nearly every alert"),
    ({"matchers": ["alertname"]}, "no matcher"),
    ({"matchers": ['alertname=~"("']}, "regular expression"),
    ({"matchers": 'alertname="x"'}, "matchers"),
    ({"duration": "90d"}, "quiet for 90d"),
    ({"duration": "999999w"}, "quiet for"),
    ({"duration": "0m"}, "quiet"),
    ({"duration": "30s"}, "duration"),
    ({"duration": "soon"}, "duration"),
    ({"duration": None}, "exactly one"),
    ({"until": "now+1h"}, "exactly one"),
    ({"duration": None, "until": "now-1h"}, "before it begins"),
    ({"duration": None, "until": "2199-01-01T00:00:00Z"}, "quiet for"),
    ({"start": "now-1h"}, "is over"),
    ({"start": "now+90d"}, "days ahead"),
    ({"start": "someday"}, "someday"),
    ({"reason": ""}, "reason"),
    ({"reason": None}, "reason"),
    ({"comment": "x"}, "comment"),
]


async def test_what_is_not_silenced(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    replies = await asyncio.gather(*(ask("create_silence", **(CHECKOUT | arguments)) for arguments, _ in WRONG))
    for (arguments, word), reply in zip(WRONG, replies, strict=True):
        assert reply.error.code is ErrorCode.INVALID_ARGUMENTS, arguments
        assert word in reply.error.message, arguments
        assert reply.error.hint, arguments
        assert reply.executed == "no", arguments
    assert await stored(http, estate, active=True) == []


async def test_the_reason_must_be_there(ask: Any) -> None:
    error = (await ask("create_silence", matchers=CHECKOUT["matchers"], duration="1h")).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert "reason" in error.message


@pytest.mark.parametrize(
    "texts",
    [
        ['alertname="DiskFull"'],
        ['alertname=~"Disk(Full|Slow)"'],
        ['severity!="critical"', 'namespace="shop"'],
        ['alertname=~".+"', 'instance="db1"'],
        ['alertname=~"Kube.*"'],
    ],
)
def test_narrow_matchers_pass(texts: list[str]) -> None:
    require_narrow(parse_matchers(texts))


async def test_a_matcher_of_nothing_is_planned_with_a_warning(ask: Any) -> None:
    nothing = {**CHECKOUT, "matchers": ['alertname="ChekoutHighErrorRate"'], "dry_run": True}
    plan = (await ask("create_silence", **nothing)).structured["plan"]
    assert plan["changes"] == []
    assert any('did you mean alertname="CheckoutHighErrorRate"?' in warning for warning in plan["warnings"])
    far = {**nothing, "matchers": ['alertname="Zzz"']}
    warnings = (await ask("create_silence", **far)).structured["plan"]["warnings"]
    assert any("misspelt" in warning for warning in warnings)


async def test_planned_work_begins_later(ask: Any) -> None:
    later = {**CHECKOUT, "start": "now+1h", "duration": "30m"}
    made = await confirmed(ask, "create_silence", **later)
    assert (made["silence"]["state"], made["silence"]["mutes"], made["verified"]) == ("pending", 0, True)
    ended = await confirmed(ask, "expire_silence", silence_id=made["silence"]["id"], reason="work is called off")
    assert ended["undo"]["arguments"]["start"] == made["silence"]["starts_at"].replace("000Z", "Z")


async def test_with_a_fixed_end_it_may_have_begun_already(ask: Any) -> None:
    given = {
        "matchers": CHECKOUT["matchers"],
        "start": "now-1h",
        "until": "now+1h",
        "reason": "the undo of an early end",
    }
    made = await confirmed(ask, "create_silence", **given)
    assert (made["silence"]["state"], made["verified"]) == ("active", True)
    late = (await ask("create_silence", **(given | {"start": "now-2h", "until": "now-1h"}))).error
    assert late.code is ErrorCode.INVALID_ARGUMENTS


async def test_a_confirmation_holds_for_its_silence_alone(ask: Any, estate: Any, http: aiohttp.ClientSession) -> None:
    token = (await ask("create_silence", **CHECKOUT)).error.details["confirm"]
    for change in ({"duration": "3h"}, {"matchers": ['alertname="CheckoutHighErrorRate"']}, {"reason": "another one"}):
        late = await ask("create_silence", **(CHECKOUT | change), confirm=token)
        assert (late.error.code, late.executed) == (ErrorCode.PRECONDITION_FAILED, "no")
    assert await stored(http, estate, active=True) == []
    assert (await ask("create_silence", **CHECKOUT, confirm=token)).structured["outcome"] == "created"
    spent = await ask("expire_silence", silence_id="0000-0000", reason="none such", confirm=token)
    assert spent.error.code is ErrorCode.NOT_FOUND


async def test_an_id_is_exact_and_a_version_is_kept_to(ask: Any) -> None:
    made = await confirmed(ask, "create_silence", **CHECKOUT)
    key = made["silence"]["id"]
    cut = (await ask("expire_silence", silence_id=key[:8], reason="too lazy")).error
    assert (cut.code, cut.did_you_mean) == (ErrorCode.NOT_FOUND, [key])
    old = (await ask("expire_silence", silence_id=key, reason="an old view", expected_version="2020")).error
    assert (old.code, old.details["version"]) == (ErrorCode.PRECONDITION_FAILED, made["silence"]["version"])
    assert (await ask("expire_silence", silence_id="../x", reason="a trick")).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_silences_are_listed_in_pages(ask: Any) -> None:
    for hours in ("3h", "1h", "2h"):
        await confirmed(
            ask, "create_silence", **(CHECKOUT | {"duration": hours, "matchers": [f'alertname="A{hours}"']})
        )
    later = {"start": "now+1h", "matchers": ['alertname="CheckoutHighErrorRate"']}
    await confirmed(ask, "create_silence", **(CHECKOUT | later))
    reply = await ask("list_silences")
    found = valid("list_silences", reply.structured)
    assert [row["matchers"] for row in found["items"]] == [
        ['alertname="A1h"'],
        ['alertname="A2h"'],
        ['alertname="A3h"'],
        ['alertname="CheckoutHighErrorRate"'],
    ]
    assert (found["counts"]["active"], found["counts"]["pending"]) == (3, 1)
    assert "3 active ones mute nothing now" in found["warnings"]
    assert "rolling back the release" in reply.text
    seen, cursor = [], None
    while True:
        page = (await ask("list_silences", limit=1, cursor=cursor)).structured
        seen += [row["id"] for row in page["items"]]
        cursor = page["page"]["next_cursor"]
        if cursor is None:
            break
    assert seen == [row["id"] for row in found["items"]]
    about = (await ask("list_silences", matchers=['alertname=~"A[12]h"'])).structured
    assert about["page"]["total"] == 2
    assert (await ask("list_silences", created_by="somebody")).structured["items"] == []
    assert (await ask("list_silences", cursor="x")).error.code is ErrorCode.INVALID_ARGUMENTS
    assert (await ask("list_silences", state=["loud"])).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_silencing_tells_the_bus(ask: Any, bus: Any) -> None:
    client = await bus.connect("operator")
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def keep(msg: Any) -> None:
        heard.put_nowait(msg.subject)

    await client.subscribe("event.monitoring.>", cb=keep)
    await client.flush()
    made = await confirmed(ask, "create_silence", **CHECKOUT)
    await confirmed(ask, "expire_silence", silence_id=made["silence"]["id"], reason="it is over")
    async with asyncio.timeout(30):
        told = [await heard.get() for _ in range(4)]
    kinds = ("silence_created", "resource_updated", "silence_expired", "resource_updated")
    assert told == [f"event.monitoring.{kind}" for kind in kinds]
