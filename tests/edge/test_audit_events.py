"""``GET /api/v1/audit/events``: the record over REST for a SIEM, through the same gates as every call."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opsbus_audit.app import build

PATH = "/api/v1/audit/events"


@pytest.fixture
async def served(running: Any, run_worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """An edge beside the audit worker, which gives what it has at once."""
    monkeypatch.setattr(importlib.import_module("opsbus_audit.read_tools"), "SETTLE_S", 0.0)
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/audit.sqlite3"):
        await running.knows("audit_read_events")
        yield running


async def events(served: Any, count: int, **query: Any) -> Any:
    """The answer once there are so many events."""
    async with asyncio.timeout(60):
        while True:
            answer = await served.rest("GET", PATH, params=query)
            assert answer.status_code == 200, answer.text
            if len(answer.text.splitlines()) >= count:
                return answer
            await asyncio.sleep(0.05)


async def test_events_come_as_lines_with_a_cursor_to_come_back_with(served: Any) -> None:
    for _ in range(3):
        assert (await served.rest("POST", "/api/v1/tools/audit_search/execute", json={})).status_code == 200
    answer = await events(served, 6, tool="audit_search")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["event"]["data"]["tool"] for line in lines] == ["audit_search"] * len(lines)
    assert [line["sequence"] for line in lines] == sorted(line["sequence"] for line in lines)
    seen: list[int] = []
    cursor = ""
    for _ in range(3):
        page = await served.rest("GET", PATH, params={"tool": "audit_search", "limit": 2, "cursor": cursor})
        seen += [json.loads(line)["sequence"] for line in page.text.splitlines()]
        cursor = page.headers["opsbus-next-cursor"]
    assert seen == [line["sequence"] for line in lines[:6]]
    # At the end the cursor stays good: what comes later is given, and nothing twice.
    last = await served.rest("GET", PATH, params={"tool": "audit_search", "cursor": cursor})
    assert last.text == ""
    assert last.headers["opsbus-next-cursor"] == cursor
    await served.rest("POST", "/api/v1/tools/audit_search/execute", json={})
    later = await events(served, 1, tool="audit_search", cursor=cursor)
    assert json.loads(later.text.splitlines()[0])["sequence"] > seen[-1]


async def test_reading_is_a_call_like_any_other_and_recorded(served: Any) -> None:
    await served.rest("GET", PATH)
    found = await events(served, 1, tool="audit_read_events", stage="completed")
    data = json.loads(found.text.splitlines()[0])["event"]["data"]
    assert data["actor"] == "admin@shop.example"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"who": "ada"}, 400),
        ({"limit": "many"}, 400),
        ({"limit": "-1"}, 400),
        ({"limit": "0"}, 422),
        ({"limit": "5000"}, 422),
        ({"stage": "finished"}, 422),
        ({"since": "yesterday"}, 422),
        ({"cursor": "made up"}, 422),
    ],
)
async def test_wrong_questions_are_refused(served: Any, query: dict[str, str], status: int) -> None:
    answer = await served.rest("GET", PATH, params=query)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_the_gates_hold_here_too(served: Any) -> None:
    assert (await served.rest("GET", PATH, role=None)).status_code == 401
    assert (await served.rest("GET", PATH, role="nobody")).status_code in (403, 404)
    assert (await served.rest("POST", PATH, json={})).status_code == 405


async def test_without_an_audit_worker_it_says_so(running: Any) -> None:
    answer = await running.rest("GET", PATH)
    assert answer.status_code in (404, 503)
    assert answer.json()["error"]["code"] in ("unknown_tool", "unavailable")
