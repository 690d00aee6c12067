"""``opsbus audit report``: what the page says, that nothing in it is markup of somebody's, that it asks nobody."""

import asyncio
import re
import secrets
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from opsbus.testing.bus import Bus
from opsbus_audit.cli import app
from opsbus_audit.record import Stored
from opsbus_audit.report.facts import Facts, gather
from opsbus_audit.report.page import page
from opsbus_audit.store import AuditStore

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;"
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "br", "div", "b", "section", "svg",
    "text", "rect", "line", "g", "ul", "li", "i", "table", "caption", "thead", "tbody", "tr", "th", "td", "code",
    "span", "pre",
}  # fmt: skip


class Reader(HTMLParser):
    """What a browser would make of the page: its tags, their attributes, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


async def fill(store: AuditStore, *events: dict[str, Any], first: int = 1) -> None:
    """Events into the store, numbered."""
    await store.create()
    now = int(datetime.now(UTC).timestamp()) * 1_000_000_000 - 60_000_000_000
    rows = []
    for number, data in enumerate(events, first):
        whole = {"call": secrets.token_hex(16), "actor": "ada"} | data
        event = {
            "specversion": "1.0", "id": f"e-{number}", "source": "/opsbus/edge/edge-1", "data": whole,
            "type": f"opsbus.audit.v1.{whole['stage']}", "time": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        subject = f"audit.edge.{whole['stage']}"
        rows.append(Stored("AUDIT@life", number, subject, now + number, {}, orjson.dumps(event)))
    await store.append(store.prepare(rows))


async def facts_of(url: str, *events: dict[str, Any], first: int = 1) -> Facts:
    store = AuditStore(url)
    try:
        await fill(store, *events, first=first)
        now = datetime.now(UTC)
        return await gather(store.engine, now - timedelta(days=30), now, "auditor")
    finally:
        await store.close()


def story(name: str = "k8s_scale_deployment", who: str = "ada", why: str = "autumn sale") -> list[dict[str, Any]]:
    call = {"call": secrets.token_hex(16), "tool": name, "service": "k8s", "mutating": True, "actor": who}
    return [
        {"stage": "requested", **call, "reason": why, "change_id": "CHG-7",
         "arguments": {"replicas": 3, "reason": why}},
        {"stage": "completed", **call, "duration_ms": 3.0},
        {"stage": "denied", "tool": "cmdb_query_assets", "service": "cmdb", "actor": "eve", "error": "forbidden",
         "rule": "viewer may not"},
        {"stage": "completed", "tool": "k8s_get_pods", "service": "k8s"},
        {"stage": "failed", "tool": "k8s_get_pods", "service": "k8s", "error": "timeout"},
    ]  # fmt: skip


async def test_the_page_says_what_happened(database_url: str) -> None:
    facts = await facts_of(database_url, *story())
    assert (facts.calls, facts.write_calls, facts.ended("denied"), facts.ended("failure")) == (4, 1, 1, 1)
    assert [(w.tool, w.outcome, w.reason, w.change_id) for w in facts.writes] == [
        ("k8s_scale_deployment", "success", "autumn sale", "CHG-7")
    ]
    assert sum(sum(counts.values()) for _, counts in facts.by_day) == 4
    assert [(part.events, part.missing, part.unreadable) for part in facts.completeness] == [(5, 0, 0)]
    shown = read(page(facts))
    for words in ("autumn sale", "CHG-7", '{"replicas": 3}', "viewer may not", "cmdb_query_assets", "eve"):
        assert words in shown.text


async def test_a_gap_in_the_numbers_is_told(tmp_path: Path) -> None:
    store = AuditStore(f"sqlite:///{tmp_path}/audit.sqlite3")
    await fill(store, *story())
    await fill(store, *story(), first=9)
    now = datetime.now(UTC)
    facts = await gather(store.engine, now - timedelta(days=1), now, "auditor")
    await store.close()
    assert facts.completeness[0].missing == 3
    assert '<span class="bad">3</span>' in page(facts)


async def test_nothing_in_the_record_is_markup(tmp_path: Path) -> None:
    events = [
        *story(HOSTILE, HOSTILE, HOSTILE),
        {"stage": "denied", "tool": HOSTILE, "actor": HOSTILE, "error": HOSTILE, "rule": HOSTILE, "message": HOSTILE,
         "service": HOSTILE},
    ]  # fmt: skip
    facts = await facts_of(f"sqlite:///{tmp_path}/audit.sqlite3", *events)
    facts.made_by = facts.checkpoint = facts.verified = HOSTILE
    shown = read(page(facts))
    assert {tag for tag, _ in shown.tags} <= TAGS
    names = {name for _, attributes in shown.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "href", "action")]
    assert shown.text.count("<script>alert(1)</script>") >= 8


async def test_the_page_asks_nobody_and_speaks_to_everybody(tmp_path: Path) -> None:
    text = page(await facts_of(f"sqlite:///{tmp_path}/audit.sqlite3", *story()))
    assert not re.findall(r"(?:src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text
    shown = read(text)
    assert ("html", {"lang": "en"}) in shown.tags
    assert all(attributes.get("aria-label") for tag, attributes in shown.tags if tag == "svg")
    assert all(attributes.get("scope") == "col" for tag, attributes in shown.tags if tag == "th")
    assert sum(tag == "table" for tag, _ in shown.tags) == sum(tag == "caption" for tag, _ in shown.tags)
    for words in ("prefers-color-scheme:dark", "@media print"):
        assert words in text


async def test_an_empty_period_has_a_page_too(tmp_path: Path) -> None:
    shown = read(page(await facts_of(f"sqlite:///{tmp_path}/audit.sqlite3", {"stage": "requested"})))
    assert "Nothing in this period." in shown.text


async def test_at_the_terminal(bus: Bus, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    store = AuditStore(url)
    await fill(store, *story())
    await store.close()
    out = tmp_path / "report.html"
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    environment |= {"OPSBUS_DATA": str(tmp_path), "OPSBUS_AUDIT_DATABASE_URL": url}

    async def run(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["report", "--out", str(out), *words], env=environment)

    done = await run("--since", "30d")
    assert done.exit_code == 0, done.stderr
    assert "4 calls, 1 writes, 1 denials" in done.stderr
    assert out.read_text().startswith("<!doctype html>")
    assert out.stat().st_mode & 0o077 == 0
    recorded = orjson.loads((await (await bus.jetstream("auditor")).get_msg("AUDIT", seq=1)).data)
    assert recorded["data"]["stage"] == "log_read"
    assert recorded["data"]["details"]["what"] == "report"
    again = await run()
    assert again.exit_code == 1
    assert "is there" in again.stderr
    wrong = await run("--since", "yesterday", "--force")
    assert wrong.exit_code == 1
    assert "--since" in wrong.stderr


@pytest.mark.parametrize("database", ["sqlite:////nowhere/at/all.sqlite3"])
async def test_a_store_that_is_not_there(bus: Bus, tmp_path: Path, database: str) -> None:
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    words = ["report", "--out", str(tmp_path / "r.html"), "--database-url", database]
    done = await asyncio.to_thread(CliRunner().invoke, app, words, env=environment)
    assert done.exit_code == 1
    assert "No such file" in done.stderr
    assert not (tmp_path / "r.html").exists()
