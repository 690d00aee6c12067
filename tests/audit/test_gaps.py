"""Numbers of sources: what is missing is known, told once, and forgotten when it comes after all."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from opsbus_audit.app import build
from opsbus_audit.cli import app
from opsbus_audit.record import Stored
from opsbus_audit.sources import HEAD_MAX, Counted, Run, missing
from opsbus_audit.store import AuditStore

LIFE = "AUDIT@20260101T000000.000000Z"


def body(source: str, number: int, **data: Any) -> bytes:
    event = {
        "specversion": "1.0", "id": f"{source}-{number}", "source": f"/opsbus/edge/{source}",
        "type": "opsbus.audit.v1.completed", "time": "2026-11-21T00:00:00Z",
        "data": {"stage": "completed", "call": f"{number:032x}", "seq": number, **data},
    }  # fmt: skip
    return json.dumps(event).encode()


def message(sequence: int, source: str, number: int) -> Stored:
    return Stored(
        LIFE, sequence, "audit.edge.completed", 1_780_000_000_000_000_000 + sequence, {}, body(source, number)
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 7))
def test_what_is_missing_is_what_did_not_come(numbers: list[int], batch: int) -> None:
    counted = Counted(0, [])
    for at in range(0, len(numbers), batch):
        counted = counted.and_(numbers[at : at + batch], at)
    runs = counted.missing
    listed = [number for run in runs for number in range(run.first, run.last + 1)]
    assert counted.last == max(numbers)
    assert listed == sorted(set(range(1, max(numbers))) - set(numbers))


def test_a_source_that_began_before_the_store_is_not_missed() -> None:
    assert Counted(0, []).and_([HEAD_MAX], 1).missing == [Run(1, HEAD_MAX - 1, 1)]
    assert Counted(0, []).and_([HEAD_MAX + 1], 1).missing == []
    assert Counted(0, []).and_([5_000, 5_003], 1) == Counted(5_003, [Run(5_001, 5_002, 1)])


async def opened(url: str) -> AuditStore:
    store = AuditStore(url)
    await store.create()
    return store


async def runs(engine: AsyncEngine) -> list[tuple[str, int, int]]:
    return [(one.source.rsplit("/", 1)[1], one.first, one.last) for one in await missing(engine)]


async def test_each_source_is_counted_over_batches_and_deliveries(database_url: str) -> None:
    store = await opened(database_url)
    events = [(source, number) for number in range(1, 60) for source in ("a", "b")]
    lost = {("a", 7), ("a", 8), ("b", 1), ("b", 30)}
    dice = random.Random(4)
    messages = [message(at, *event) for at, event in enumerate(events, 1) if event not in lost]
    for at in range(0, len(messages), 10):
        batch = messages[max(0, at - 3) : at + 10]  # some are delivered again
        dice.shuffle(batch)
        await store.append(store.prepare(batch))
    assert await runs(store.engine) == [("a", 7, 8), ("b", 1, 1), ("b", 30, 30)]
    await store.append(store.prepare([message(1_000, "a", 8), message(1_001, "b", 1)]))
    assert await runs(store.engine) == [("a", 7, 7), ("b", 30, 30)]
    await store.close()


async def test_what_has_no_number_is_not_counted(database_url: str) -> None:
    store = await opened(database_url)
    plain = Stored(LIFE, 1, "audit.edge.completed", 1_780_000_000_000_000_000, {}, b"{}")
    await store.append(store.prepare([plain, message(2, "a", 0)]))
    assert await runs(store.engine) == []
    await store.close()


async def test_a_gap_is_told_once_and_so_is_its_end(run_worker: Any, edge: Any, bus: Any, database_url: str) -> None:
    for number in (1, 2, 5, 6, 9):
        await edge.raw(body("edge-7", number))
    async with run_worker(build(), database_url=database_url, gap_after_s=0.2):
        found = await told(bus, "gap_found", 2)
        assert [(one["target"], one["details"]["first"], one["details"]["last"]) for one in found] == [
            ("/opsbus/edge/edge-7", 3, 4),
            ("/opsbus/edge/edge-7", 7, 8),
        ]
        for number in (3, 4, 8):
            await edge.raw(body("edge-7", number))
        closed = await told(bus, "gap_closed", 1)
        assert [one["details"] for one in closed] == [{"first": 3, "last": 4, "events": 2}]
        await edge.raw(body("edge-7", 7))
        assert len(await told(bus, "gap_closed", 2)) == 2
        assert len(await told(bus, "gap_found", 2)) == 2


async def told(bus: Any, stage: str, count: int) -> list[dict[str, Any]]:
    """The events of a stage, once there are as many."""
    js = await bus.jetstream()
    found: list[dict[str, Any]] = []
    sequence = 1
    async with asyncio.timeout(60):
        while len(found) < count:
            last = (await js.stream_info("AUDIT")).state.last_seq
            for at in range(sequence, last + 1):
                msg = await js.get_msg("AUDIT", seq=at)
                assert msg.data is not None
                if msg.subject == f"audit.audit.{stage}":
                    found.append(json.loads(msg.data)["data"])
            sequence = last + 1
            await asyncio.sleep(0.05)
    return found


async def test_the_command_lists_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    store = await opened(url)
    numbers = (1, 4, 5, 7)
    await store.append(store.prepare([message(at, "edge-7", number) for at, number in enumerate(numbers, 1)]))
    await store.close()

    shown = await asyncio.to_thread(CliRunner().invoke, app, ["gaps", "--database-url", url])
    assert shown.exit_code == 3
    assert "/opsbus/edge/edge-7: 3 missing since" in shown.stdout
    assert ": 2-3, 6" in shown.stdout

    as_json = await asyncio.to_thread(CliRunner().invoke, app, ["gaps", "--json", "--database-url", url])
    assert [json.loads(line)["first"] for line in as_json.stdout.splitlines()] == [2, 6]


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite:////nowhere/at/all.sqlite3"])
def test_a_store_that_is_not_there_is_an_error_with_a_hint(url: str, tmp_path: Path) -> None:
    arguments = ["gaps", "--data", str(tmp_path), *(["--database-url", url] if url else [])]
    shown = CliRunner().invoke(app, arguments, env={"DATABASE_URL": "", "OPSBUS_AUDIT_DATABASE_URL": ""})
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output
    assert "→" in shown.output


async def test_a_store_without_gaps_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    await (await opened(url)).close()
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["gaps", "--database-url", url])
    assert (shown.exit_code, "no event is missing" in shown.stdout) == (0, True)
