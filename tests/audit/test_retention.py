"""Events are kept as long as the rules say; a hold comes first; what was let go is known."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select, true
from typer.testing import CliRunner

from opsbus.cli import app
from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.partitions import Month, month_of, months
from opsbus_audit.record import Stored
from opsbus_audit.retention.holds import HoldError, lift, place
from opsbus_audit.retention.let_go import carry_out, plan, ranges
from opsbus_audit.retention.rules import DAY_NS, RetentionRule
from opsbus_audit.store import AuditStore
from opsbus_audit.tables import event as table

NOW = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
LIFE = "AUDIT@20260101T000000.000000Z"


def message(sequence: int, days_old: float, **data: Any) -> Stored:
    record = {
        "stage": "completed",
        "call": f"{sequence:032x}",
        "actor": "ada",
        "tool": "k8s_get_pods",
        "service": "k8s",
    }
    event = {
        "specversion": "1.0", "id": f"e{sequence}", "source": "/opsbus/edge/e", "type": "opsbus.audit.v1.completed",
        "time": "2026-11-21T00:00:00Z", "data": record | data,
    }  # fmt: skip
    stored_ns = NOW - int(days_old * DAY_NS)
    return Stored(LIFE, sequence, f"audit.edge.{event['data']['stage']}", stored_ns, {}, json.dumps(event).encode())


@pytest.fixture
async def store(database_url: str) -> Any:
    opened = AuditStore(database_url)
    await opened.create()
    yield opened
    await opened.close()


async def left(store: AuditStore) -> list[int]:
    async with store.engine.connect() as connection:
        return list((await connection.execute(select(table.c.sequence).order_by(table.c.sequence))).scalars())


async def steps(store: AuditStore) -> set[tuple[str, str]]:
    async with store.engine.connect() as connection:
        return {tuple(row) for row in (await connection.execute(select(table.c.stage, table.c.emitter))).all()}


def rules(*given: dict[str, Any]) -> list[RetentionRule]:
    return [RetentionRule(**rule) for rule in given]


async def test_the_first_rule_that_matches_decides(store: AuditStore) -> None:
    await store.append(
        store.prepare(
            [
                message(1, 100),
                message(2, 100, tool="k8s_scale_deployment", mutating=True),
                message(3, 100, actor="eve"),
                message(4, 10),
                message(5, 40, tool="cmdb_query_assets", service="cmdb"),
                message(6, 40, tool="K8S_GET_PODS"),
            ]
        )
    )
    policy = rules(
        {"keep_days": None, "mutating": True},
        {"keep_days": None, "actor": "ev*"},
        {"keep_days": 30, "tool": "k8s_*"},
        {"keep_days": 60},
    )
    due = await plan(store.engine, policy, NOW)
    assert [count for _, count in due.by_rule] == [0, 0, 1, 0]
    done = await carry_out(store.engine, policy, true(), NOW)
    assert done.events == 1
    assert await left(store) == [2, 3, 4, 5, 6]
    assert (await carry_out(store.engine, policy, true(), NOW)).events == 0


async def test_a_hold_comes_before_every_rule(store: AuditStore) -> None:
    await store.append(store.prepare([message(n, 100, actor="ada" if n % 2 else "bob") for n in range(1, 11)]))
    async with store.engine.begin() as connection:
        held = await place(connection, "case 7", "legal", {"actor": "ad*", "until": "2026-11-01T00:00:00+00:00"})
    policy = rules({"keep_days": 30})
    due = await plan(store.engine, policy, NOW)
    assert (due.events, due.held) == (5, 5)
    await carry_out(store.engine, policy, true(), NOW)
    assert await left(store) == [1, 3, 5, 7, 9]
    async with store.engine.begin() as connection:
        lifted = await lift(connection, held.id, "case closed", "legal")
        assert lifted.lifted_reason == "case closed"
        with pytest.raises(HoldError, match="no hold"):
            await lift(connection, held.id, "again", "legal")
    await carry_out(store.engine, policy, true(), NOW)
    assert await left(store) == []
    async with store.engine.connect() as connection:
        assert await ranges(connection, LIFE) == [(1, 10)]


async def test_what_is_not_in_the_tree_yet_is_kept(store: AuditStore) -> None:
    await store.append(store.prepare([message(n, 100) for n in range(1, 6)]))
    await carry_out(store.engine, rules({"keep_days": 1}), table.c.sequence <= 3, NOW)
    assert await left(store) == [4, 5]
    async with store.engine.connect() as connection:
        assert await ranges(connection, LIFE) == [(1, 3)]
        assert await ranges(connection, "another life") == []


async def test_months_that_are_empty_are_dropped(store: AuditStore) -> None:
    await store.append(store.prepare([message(1, 95), message(2, 40), message(3, 0)]))
    done = await carry_out(store.engine, rules({"keep_days": 30}), true(), NOW)
    if store.engine.dialect.name == "postgresql":
        assert done.months == ["audit_event_2026_08", "audit_event_2026_10"]
        async with store.engine.connect() as connection:
            assert await months(connection) == [Month(2026, 11)]
    else:
        assert done.months == []
    # A late one of a month that is gone: the store makes the month again, at the second attempt at the latest.
    for _ in range(2):
        try:
            await store.append(store.prepare([message(4, 95)]))
            break
        except Exception:  # noqa: BLE001 - as the consumer does
            continue
    assert await left(store) == [3, 4]


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_a_moment_lies_in_its_month(moment: int) -> None:
    month = month_of(moment)
    assert month.first_ns <= moment < month.next.first_ns


@pytest.mark.parametrize(
    "rule", [{}, {"keep_days": -1}, {"keep_days": 1, "tol": "x"}, {"keep_days": "soon"}, {"keep_days": 1, "tool": ""}]
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetentionRule(**rule)


async def test_the_worker_applies_it_and_the_record_says_so(
    bus: Bus, run_worker: Any, edge: Any, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    first = AuditStore(url)
    await first.create()
    await first.append(first.prepare([message(n, 400) for n in range(1_000_001, 1_000_006)]))
    await edge.write()
    policy = rules({"keep_days": 365})
    key = tmp_path / "checkpoints.pem"
    key.write_bytes(Signer.generate().pem())
    settings = {"checkpoint_key_file": key, "checkpoint_every_s": 0.3}
    async with run_worker(build(), database_url=url, retention=policy, retention_every_s=1, **settings):
        # Events are let go of as checkpoints come over them: at once, or in parts, each of them an event.
        wanted = {("completed", "edge"), ("let_go", "audit")}
        async with asyncio.timeout(60):
            while await steps(first) != wanted or set(await left(first)) & set(range(1_000_001, 1_000_006)):
                await asyncio.sleep(0.05)
    await first.close()


async def test_holds_at_the_terminal(bus: Bus, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite3"
    store = AuditStore(url)
    await store.create()
    await store.close()
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}

    def run(*arguments: str, **more: str) -> Any:
        command = ["audit", *arguments, "--database-url", url]
        return CliRunner().invoke(app, command, env=environment | more)

    added = await asyncio.to_thread(run, "hold", "add", "--actor", "ada", "--reason", "case 7", "--by", "legal")
    assert added.exit_code == 0, added.output
    assert "actor=ada" in added.output
    listed = await asyncio.to_thread(run, "hold", "list", "--json")
    hold = json.loads(listed.output)
    assert (hold["reason"], hold["placed_by"], hold["covers"]) == ("case 7", "legal", {"actor": "ada"})
    shown = await asyncio.to_thread(run, "retention", OPSBUS_AUDIT_RETENTION='[{"keep_days": 30}]')
    assert "30 days: everything else" in shown.output
    lifted = await asyncio.to_thread(run, "hold", "lift", hold["id"], "--reason", "closed")
    assert lifted.exit_code == 0, lifted.output
    assert "no hold is in force" in (await asyncio.to_thread(run, "hold", "list")).output
    js = await bus.jetstream()
    stages = [(await js.get_msg("AUDIT", n)).subject for n in (1, 2)]
    assert stages == ["audit.auditor.hold_changed"] * 2
    # No bus, no record, no change.
    nowhere = {"NATS_URL": "nats://127.0.0.1:1", "OPSBUS_NATS_SEED_FILE": os.environ.get("HOME", "/") + "/none"}
    refused = await asyncio.to_thread(run, "hold", "add", "--reason", "x", **nowhere)
    assert refused.exit_code == 1
    assert "no hold is in force" in (await asyncio.to_thread(run, "hold", "list")).output
