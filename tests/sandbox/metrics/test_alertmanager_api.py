"""The Alertmanager face: what fires, what a silence mutes, what is refused."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest


def at(offset_s: float) -> str:
    return datetime.fromtimestamp(time.time() + offset_s, UTC).isoformat()


def silence(**changes: Any) -> dict[str, Any]:
    body = {
        "matchers": [{"name": "alertname", "value": "KubePodCrashLooping", "isRegex": False}],
        "startsAt": at(0),
        "endsAt": at(600),
        "createdBy": "ada",
        "comment": "known, CHG-1042",
    }
    return {**body, **changes}


async def names(api: Any, **params: str) -> set[str]:
    status, body = await api.call("GET", "/alertmanager/api/v2/alerts", params=params)
    assert status == 200, body
    return {alert["labels"]["alertname"] for alert in body}


async def test_the_story_fires_from_the_start(api: Any) -> None:
    found = await names(api)
    assert {"CheckoutHighErrorRate", "KubePodCrashLooping", "KubePodNotReady", "Watchdog"} <= found


async def test_a_critical_alert_inhibits_the_warnings_of_its_service(api: Any) -> None:
    assert "CheckoutHighLatency" in await names(api)
    assert "CheckoutHighLatency" not in await names(api, inhibited="false")


async def test_a_silence_mutes_and_ends(api: Any) -> None:
    status, body = await api.call("POST", "/alertmanager/api/v2/silences", json=silence())
    assert status == 200
    assert "KubePodCrashLooping" not in await names(api, silenced="false")
    _, alerts = await api.call(
        "GET", "/alertmanager/api/v2/alerts", params={"filter": 'alertname="KubePodCrashLooping"'}
    )
    assert all(alert["status"] == {**alert["status"], "state": "suppressed"} for alert in alerts)
    assert (await api.call("DELETE", f"/alertmanager/api/v2/silence/{body['silenceID']}"))[0] == 200
    assert "KubePodCrashLooping" in await names(api, silenced="false")
    assert (await api.call("DELETE", f"/alertmanager/api/v2/silence/{body['silenceID']}"))[0] == 500


async def test_groups_hold_every_alert_once(api: Any) -> None:
    async def fingerprints() -> list[str]:
        _, alerts = await api.call("GET", "/alertmanager/api/v2/alerts")
        return sorted(alert["fingerprint"] for alert in alerts)

    groups, before = [], [""]
    while before != await fingerprints():  # they come and go
        before = await fingerprints()
        _, groups = await api.call("GET", "/alertmanager/api/v2/alerts/groups")
    assert sorted(a["fingerprint"] for g in groups for a in g["alerts"]) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matchers": []}, "at least one matcher"),
        ({"matchers": [{"name": "x", "value": ".*", "isRegex": True}]}, "empty string"),
        ({"matchers": [{"name": "x", "value": "(", "isRegex": True}]}, "regexp"),
        ({"matchers": [{"value": "x"}]}, "matcher"),
        ({"comment": " "}, "comment missing"),
        ({"createdBy": ""}, "createdBy missing"),
        ({"endsAt": at(-60), "startsAt": at(-120)}, "in the past"),
        ({"endsAt": at(-60)}, "before start"),
        ({"endsAt": "soon"}, "date-time"),
    ],
)
async def test_wrong_silences_are_refused(api: Any, changes: dict[str, Any], words: str) -> None:
    status, body = await api.call("POST", "/alertmanager/api/v2/silences", json=silence(**changes))
    assert status == 400
    assert words in body


async def test_other_refusals(api: Any) -> None:
    assert (await api.call("GET", "/alertmanager/api/v2/alerts", params={"filter": "what?"}))[0] == 400
    assert (await api.call("GET", "/alertmanager/api/v2/alerts", params={"active": "maybe"}))[0] == 400
    assert (await api.call("GET", "/alertmanager/api/v2/silence/none"))[0] == 404
    assert (await api.call("POST", "/alertmanager/api/v2/silences", data="{"))[0] == 400
    assert (await api.call("POST", "/alertmanager/api/v2/silences", json=silence(id="none")))[0] == 404
