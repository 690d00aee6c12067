"""The copy in a search engine: each event once, in its month's index, whatever the engine says meanwhile.

No Elasticsearch is at hand: a small server speaks its ``_bulk`` with ``create``, ids, conflicts and refusals.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from opsbus.logs import get as get_log
from opsbus.settings import SettingsError
from opsbus_audit.app import build
from opsbus_audit.record import Stored
from opsbus_audit.sink import BULK_BYTES_MAX, SearchSink, SinkError, document


class Engine:
    """Speaks ``_bulk`` and ``_index_template``."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Any] = {}
        self.templates: dict[str, Any] = {}
        self.bodies: list[int] = []
        self.authorizations: list[str] = []
        self.faults: list[int | str] = []
        """What the next bulk requests get instead of an answer: a status, ``item-429``, ``item-400``, ``html``."""
        self.url = ""

    async def template(self, request: web.Request) -> web.Response:
        self.templates[request.match_info["name"]] = await request.json()
        return web.json_response({"acknowledged": True})

    async def bulk(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(len(body))
        self.authorizations.append(request.headers.get("Authorization", ""))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            return web.json_response({"error": "x"}, status=fault)
        if fault == "html":
            return web.Response(text="<html>login</html>", content_type="text/html")
        lines = body.decode().splitlines()
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            about = json.loads(action)["create"]
            key = (about["_index"], about["_id"])
            status = 409 if key in self.documents else 201
            if fault in ("item-429", "item-400") and len(items) % 2:
                status = int(str(fault)[5:])
            if status == 201:
                self.documents[key] = json.loads(source)
            items.append({"create": {"status": status, "error": {"type": "x"}}})
        return web.json_response({"errors": False, "items": items})


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    application = web.Application(client_max_size=64 * 1024**2)
    application.add_routes([web.post("/_bulk", made.bulk), web.put("/_index_template/{name}", made.template)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def sink(url: str, api_key: str = "") -> SearchSink:
    return SearchSink(url, "opsbus-audit", api_key, None, 10.0, get_log("audit"))


def stored(number: int, payload: bytes | None = None) -> Stored:
    event = {
        "specversion": "1.0", "id": f"e{number}", "source": "/opsbus/edge/e", "type": "opsbus.audit.v1.completed",
        "time": "2026-11-21T00:00:00Z",
        "data": {"stage": "completed", "call": "c", "actor": "ada", "tool": "k8s_get_pods", "reason": "traffic"},
    }  # fmt: skip
    body = json.dumps(event).encode() if payload is None else payload
    return Stored("AUDIT@1", number, "audit.edge.completed", 1_795_219_200_000_000_000, {}, body)


async def test_each_event_is_there_once_with_its_fields(engine: Engine) -> None:
    opened = sink(engine.url, "secret-key")
    first = await opened.append(opened.prepare([stored(1), stored(2), stored(3, b"\xff no event")]))
    again = await opened.append(opened.prepare([stored(2), stored(4)]))
    await opened.close()
    assert (first.new, first.unreadable, again.new) == (3, 1, 1)
    assert sorted(engine.documents) == [("opsbus-audit-2026.11", f"AUDIT@1:{n}") for n in (1, 2, 3, 4)]
    one = engine.documents["opsbus-audit-2026.11", "AUDIT@1:1"]
    assert (one["actor"], one["tool"], one["outcome"], one["sequence"]) == ("ada", "k8s_get_pods", "success", 1)
    assert one["event"]["data"]["reason"] == "traffic"
    assert engine.documents["opsbus-audit-2026.11", "AUDIT@1:3"]["unreadable"] is True
    assert engine.templates["opsbus-audit"]["index_patterns"] == ["opsbus-audit-*"]
    assert engine.authorizations == ["ApiKey secret-key"] * 2


async def test_parts_of_a_batch_go_in_as_few_requests_as_the_bound_allows(engine: Engine) -> None:
    opened = sink(engine.url)
    small = opened.join([opened.prepare([stored(n)]) for n in range(1, 11)] + [opened.prepare([stored(11, b"{")])])
    assert (len(small.bodies), small.unreadable) == (1, 1)
    assert (await opened.append(small)).new == 11
    noise = stored(1).payload.replace(b"traffic", b"x" * (BULK_BYTES_MAX // 3))
    large = opened.join([opened.prepare([stored(n, noise)]) for n in range(20, 26)])
    assert (await opened.append(large)).new == 6
    await opened.close()
    assert len(large.bodies) > 1
    assert max(engine.bodies) <= BULK_BYTES_MAX
    assert len(engine.documents) == 17


async def test_a_batch_too_large_for_one_request_is_parted(engine: Engine) -> None:
    opened = sink(engine.url)
    noise = b'"' + b"x" * 900_000
    await opened.append(opened.prepare([stored(n, noise) for n in range(1, 4)] + [stored(n) for n in range(4, 20_000)]))
    await opened.close()
    assert len(engine.documents) == 19_999
    assert len(engine.bodies) > 1
    assert max(engine.bodies) <= BULK_BYTES_MAX


@pytest.mark.parametrize("fault", [429, 500, 503, 302, "html", "item-429", "item-400"])
async def test_what_is_not_taken_is_said_and_can_be_sent_again(engine: Engine, fault: int | str) -> None:
    opened = sink(engine.url)
    engine.faults = [fault]
    with pytest.raises(SinkError) as refused:
        await opened.append(opened.prepare([stored(1), stored(2)]))
    assert engine.url not in str(refused.value)
    await opened.append(opened.prepare([stored(1), stored(2)]))
    await opened.close()
    assert len(engine.documents) == 2


async def test_an_engine_that_is_away_is_said_without_its_address() -> None:
    opened = sink("http://ada:hunter2@127.0.0.1:1")
    with pytest.raises(SinkError) as refused:
        await opened.append(opened.prepare([stored(1)]))
    await opened.close()
    assert "hunter2" not in str(refused.value)


async def test_the_worker_copies_the_record_and_waits_for_a_sick_engine(
    engine: Engine, run_worker: Any, edge: Any, tmp_path: Path
) -> None:
    engine.faults = [503, "item-429"]
    await edge.many(300)
    url = engine.url.replace("http://", "http://ada:hunter2@")
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/a.sqlite3", sink_url=url, batch_max=100):
        async with asyncio.timeout(60):
            while len(engine.documents) < 300:
                await asyncio.sleep(0.05)
    numbers = sorted(document["sequence"] for document in engine.documents.values())
    assert numbers == list(range(1, 301))
    assert engine.authorizations[0] == "Basic YWRhOmh1bnRlcjI="


@pytest.mark.parametrize("given", [{"sink_url": "ftp://x"}, {"sink_index": "Bad Name"}, {"sink_ca": "/nowhere.pem"}])
async def test_a_wrong_setting_is_named(run_worker: Any, tmp_path: Path, given: dict[str, Any]) -> None:
    given = {"sink_url": "https://127.0.0.1:1"} | given
    with pytest.raises(SettingsError, match=list(given)[-1]):
        async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/a.sqlite3", **given):
            pass


def test_a_document_holds_no_empty_fields() -> None:
    assert "error" not in document(stored(1))
