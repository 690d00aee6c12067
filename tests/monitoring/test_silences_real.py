"""The tools about silences, on the bus, before a real Alertmanager: what it mutes, it is seen to mute."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build

ALERTS = [
    {"labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db1"}},
    {"labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db2"}},
    {"labels": {"alertname": "Slow", "severity": "warning", "instance": "db1"}},
]


@pytest.fixture
async def ask(alertmanager_url: str, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{alertmanager_url}/api/v2/alerts", json=ALERTS) as answer,
    ):
        assert answer.status == 200

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    async with run_worker(build(), prometheus_url="", alertmanager_url=alertmanager_url, grafana_url=""):
        async with asyncio.timeout(60):
            while len((await call("get_alerts")).structured["items"]) < len(ALERTS):
                await asyncio.sleep(0.1)
        yield call


async def confirmed(ask: Any, tool: str, **arguments: Any) -> Any:
    error = (await ask(tool, **arguments)).error
    assert error.code is ErrorCode.CONFIRMATION_REQUIRED, error
    return (await ask(tool, **arguments, confirm=error.details["confirm"])).structured


async def test_a_silence_from_plan_to_end(ask: Any) -> None:
    given = {"matchers": ['alertname="DiskFull"', 'instance=~"db.*"'], "duration": "30m", "reason": "disks replaced"}
    plan = (await ask("create_silence", **given, dry_run=True)).structured["plan"]
    assert [change["path"].split(" {")[1] for change in plan["changes"]] == ["instance=db1}", "instance=db2}"] or [
        change["path"].split(" {")[1] for change in plan["changes"]
    ] == ["instance=db2}", "instance=db1}"]
    made = await confirmed(ask, "create_silence", **given)
    assert (made["outcome"], made["verified"], made["silence"]["mutes"]) == ("created", True, 2)
    assert (await ask("get_alerts")).structured["counts"] == {"firing": 1, "silenced": 2}
    listed = (await ask("list_silences", matchers=['alertname="DiskFull"'])).structured["items"]
    assert [(row["id"], row["mutes"], row["state"]) for row in listed] == [(made["silence"]["id"], 2, "active")]
    assert (await ask("create_silence", **given)).structured["outcome"] == "unchanged"

    ended = await confirmed(ask, "expire_silence", **made["undo"]["arguments"])
    assert (ended["outcome"], ended["verified"]) == ("expired", True)
    assert (await ask("get_alerts")).structured["counts"] == {"firing": 3}
    assert (await ask("expire_silence", **made["undo"]["arguments"])).structured["outcome"] == "unchanged"
    renewed = await confirmed(ask, "create_silence", **ended["undo"]["arguments"])
    assert (renewed["verified"], renewed["silence"]["ends_at"]) == (True, made["silence"]["ends_at"])
    expired = (await ask("list_silences", state=["expired"])).structured
    assert [row["id"] for row in expired["items"]] == [made["silence"]["id"]]


async def test_later_negative_and_quoted_matchers_travel_whole(ask: Any) -> None:
    texts = ['alertname="Slow"', 'instance!="db9"', 'team!~"web|\\\\d+"', 'note!="say \\"hi\\""']
    given = {"matchers": texts, "start": "now+1h", "until": "now+2h", "reason": "planned work"}
    made = await confirmed(ask, "create_silence", **given)
    assert (made["silence"]["state"], made["verified"]) == ("pending", True)
    assert sorted(made["silence"]["matchers"]) == sorted(texts)
    ended = await confirmed(ask, "expire_silence", silence_id=made["silence"]["id"], reason="called off")
    assert ended["undo"]["arguments"]["start"]
    again = await confirmed(ask, "create_silence", **ended["undo"]["arguments"])
    assert again["silence"]["starts_at"] == made["silence"]["starts_at"]
    missing = await ask("expire_silence", silence_id="00000000-0000-4000-8000-000000000000", reason="not there")
    assert missing.error.code is ErrorCode.NOT_FOUND


async def test_another_alert_voids_a_confirmation_more_of_the_same_do_not(ask: Any, alertmanager_url: str) -> None:
    given = {"matchers": ['instance=~"db.+"'], "duration": "30m", "reason": "the racks are moved"}

    async def fire(name: str, instance: str) -> None:
        more = [{"labels": {"alertname": name, "severity": "critical", "instance": instance}}]
        async with aiohttp.ClientSession() as session:
            await (await session.post(f"{alertmanager_url}/api/v2/alerts", json=more)).release()
        async with asyncio.timeout(60):
            while not (await ask("get_alerts", matchers=[f'alertname="{name}"', f'instance="{instance}"'])).structured[
                "items"
            ]:
                await asyncio.sleep(0.1)

    before = (await ask("create_silence", **given)).error.details["confirm"]
    await fire("Hot", "db1")
    late = await ask("create_silence", **given, confirm=before)
    assert (late.error.code, late.executed) == (ErrorCode.PRECONDITION_FAILED, "no")
    assert (await ask("list_silences")).structured["items"] == []
    token = (await ask("create_silence", **given)).error.details["confirm"]
    await fire("DiskFull", "db3")
    made = (await ask("create_silence", **given, confirm=token)).structured
    assert (made["outcome"], made["silence"]["mutes"]) == ("created", 5)
