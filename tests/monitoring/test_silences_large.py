"""Thousands of silences and alerts: every answer is within its budget, counted, and says where it goes on."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web

from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build

BUDGET = 24_000
SILENCES, ALERTS = 2_000, 5_000


def silence(n: int) -> dict[str, Any]:
    state = ("active", "pending", "expired")[n % 3]
    return {
        "id": f"00000000-0000-4000-8000-{n:012d}",
        "status": {"state": state},
        "matchers": [{"name": "pod", "value": f"pod-{n}" + "x" * 60, "isRegex": False, "isEqual": True}],
        "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": f"2099-01-{n % 28 + 1:02d}T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z",
        "createdBy": "ann",
        "comment": "words " * 200,
    }


def alert(n: int) -> dict[str, Any]:
    muted = [silence(0)["id"]] if n % 2 else []
    return {
        "labels": {"alertname": "A" * 150, "severity": "critical", "pod": f"pod-{n}", "note": "y" * 400},
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": "2099-01-01T00:00:00.000Z",
        "fingerprint": f"{n:016x}",
        "status": {"state": "suppressed" if muted else "active", "silencedBy": muted, "inhibitedBy": []},
    }


@pytest.fixture
async def ask(run_worker: Any, caller: Any) -> Any:
    bodies = {
        "/api/v2/silences": json.dumps([silence(n) for n in range(SILENCES)]),
        "/api/v2/alerts": json.dumps([alert(n) for n in range(ALERTS)]),
    }

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=bodies[request.path], content_type="application/json")

    app = web.Application()
    app.router.add_route("GET", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    where = {"alertmanager_url": f"http://127.0.0.1:{runner.addresses[0][1]}", "prometheus_url": ""}
    async with run_worker(build(), **where):
        yield call
    await runner.cleanup()


async def test_thousands_of_silences_in_pages(ask: Any) -> None:
    began = time.monotonic()
    page = (await ask("list_silences", limit=500)).structured
    took = time.monotonic() - began
    assert took < 20, "usually under one second"
    assert len(json.dumps(page)) < BUDGET
    assert page["counts"] == {"active": 667, "pending": 667, "expired": 666}
    assert (page["page"]["total"], page["page"]["truncated"]) == (1_334, True)
    assert page["items"][0]["mutes"] == ALERTS // 2
    assert any("narrow the query" in warning for warning in page["warnings"])
    following = (await ask("list_silences", limit=500, cursor=page["page"]["next_cursor"])).structured
    first, second = ({row["id"] for row in found["items"]} for found in (page, following))
    assert second
    assert not first & second


async def test_plans_about_thousands_of_alerts_are_short(ask: Any) -> None:
    given = {"matchers": ['pod=~"pod-.*"'], "duration": "1h", "reason": "r" * 500}
    ending = {"silence_id": silence(0)["id"], "reason": "r" * 500}
    planned = [await ask("create_silence", **given, dry_run=True), await ask("expire_silence", **ending, dry_run=True)]
    for reply in planned:
        assert len(json.dumps(reply.structured)) < BUDGET
        assert len(reply.structured["plan"]["changes"]) == 50
    create, expire = (reply.structured["plan"] for reply in planned)
    assert create["blast_radius"].startswith(f"mutes {ALERTS // 2} of the {ALERTS} alerts")
    assert "it mutes every alert there is now" in create["warnings"]
    assert expire["blast_radius"] == f"{ALERTS // 2} alerts are heard again"
    asked = await asyncio.gather(ask("create_silence", **given), ask("expire_silence", **ending))
    assert all(reply.error.code is ErrorCode.CONFIRMATION_REQUIRED for reply in asked)
    assert all(len(reply.body) < BUDGET for reply in asked)
