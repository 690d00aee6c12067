"""Retention lets go only of what is proved: its leaf is kept, under a checkpoint that was handed on."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from opsbus_audit import tables
from opsbus_audit.proof.in_store import verify_store
from opsbus_audit.proof.tree import provable
from opsbus_audit.retention.let_go import carry_out
from opsbus_audit.retention.rules import RetentionRule

_spec = importlib.util.spec_from_file_location("proof_samples", Path(__file__).parent / "proof_samples.py")
assert _spec is not None
assert _spec.loader is not None
samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(samples)

NOW = samples.BEGIN_NS + 86_400 * 1_000_000_000


@pytest.fixture
async def store(database_url: str) -> Any:
    made = await samples.filled(database_url, 300, signed=200)
    yield made
    await made.close()


async def first_left(store: Any) -> tuple[int, int]:
    async with store.engine.connect() as connection:
        found = (await connection.execute(select(func.min(tables.event.c.sequence), func.count()))).one()
    return found[0], found[1]


async def test_only_what_is_signed_is_let_go(store: Any) -> None:
    rules = [RetentionRule(keep_days=0)]
    assert (await carry_out(store.engine, rules, provable(), NOW)).events == 200
    assert await first_left(store) == (201, 100)
    report = await verify_store(store.engine, [samples.KEY.public])
    assert report.finding is None
    assert (report.events, report.let_go_events, report.let_go, report.unsigned) == (100, 200, [(1, 200)], 100)


async def test_nothing_is_let_go_before_the_checkpoint_is_handed_on(store: Any) -> None:
    async with store.engine.begin() as connection:
        await connection.execute(update(tables.checkpoint).values(published=False))
    assert (await carry_out(store.engine, [RetentionRule(keep_days=0)], provable(), NOW)).events == 0
    assert await first_left(store) == (1, 300)
