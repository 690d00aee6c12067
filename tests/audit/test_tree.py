"""The tree in the store: once per event whatever happens, and every proof made of it holds."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from opsbus_audit import tables
from opsbus_audit.proof import merkle, tree
from opsbus_audit.proof.leaf import leaf_of
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.record import Stored
from opsbus_audit.store import AuditStore

LIFE = "AUDIT@20260101T000000.000000Z"
NEXT_LIFE = "AUDIT@20260201T000000.000000Z"
BEGIN_NS = 1_780_000_000_000_000_000


def message(sequence: int, stream: str = LIFE) -> Stored:
    headers = {"Nats-Msg-Id": f"event-{sequence}", "traceparent": "00-x"} if sequence % 3 else {}
    return Stored(stream, sequence, "audit.edge.completed", BEGIN_NS + sequence, headers, b'{"n":%d}' % sequence)


def leaf(message: Stored) -> bytes:
    id = message.headers.get("Nats-Msg-Id", "")
    return leaf_of(message.sequence, message.stored_ns, message.subject, id, message.payload)


def root(messages: list[Stored]) -> bytes:
    made = Frontier()
    made.extend(b"".join(leaf(one) for one in messages))
    return made.root()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[AuditStore]:
    opened = AuditStore(database_url)
    await opened.create()
    yield opened
    await opened.close()


async def put(store: AuditStore, *messages: Stored) -> None:
    await store.append(store.prepare(list(messages)))


async def now(store: AuditStore) -> Frontier:
    async with store.engine.connect() as connection:
        return await tree.frontier_of(connection)


async def test_every_event_has_one_leaf_whatever_is_delivered_again(store: AuditStore, database_url: str) -> None:
    messages = [message(number) for number in range(1, 1_500)]
    dice, at = random.Random(7), 0
    while at < len(messages):
        size = dice.choice([1, 2, 100, 300])
        again = max(0, at - dice.choice([0, 0, 5]))
        await put(store, *messages[again : at + size])
        at += size
    assert ((await now(store)).size, (await now(store)).root()) == (len(messages), root(messages))
    # Another process goes on from what is there.
    other = AuditStore(database_url)
    await other.create()
    more = [message(number) for number in range(1_500, 1_510)]
    await put(other, *more)
    await other.close()
    assert (await now(store)).root() == root(messages + more)


async def test_a_transaction_that_fails_leaves_no_leaf(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, message(1))
    before = await now(store)
    real = tree.append

    def fails(*arguments: Any) -> int:
        real(*arguments)
        raise OSError("the power went")

    monkeypatch.setattr(tree, "append", fails)
    with pytest.raises(OSError, match="power"):
        await put(store, message(2))
    monkeypatch.undo()
    assert (await now(store)).dump() == before.dump()
    await put(store, message(2))
    assert (await now(store)).root() == root([message(1), message(2)])


async def test_gaps_and_a_stream_made_anew_go_on_in_one_tree(store: AuditStore) -> None:
    messages = [message(1), message(2), message(7), message(8), message(1, NEXT_LIFE), message(2, NEXT_LIFE)]
    await put(store, *messages[:4])
    await put(store, *messages[4:])
    assert (await now(store)).root() == root(messages)
    async with store.engine.connect() as connection:
        runs = [run async for run in tree.runs(connection, 0, 6)]
        assert [(run.position, run.stream, run.first, run.last) for run in runs] == [
            (0, LIFE, 1, 2), (2, LIFE, 7, 8), (4, NEXT_LIFE, 1, 2),
        ]  # fmt: skip
        found = await tree.find(connection, LIFE, 8)
        assert found is not None
        assert (found.position, found.hashes) == (3, leaf(message(8)))
        assert await tree.find(connection, LIFE, 5) is None


async def test_proofs_made_of_the_store_hold(store: AuditStore) -> None:
    messages = [message(number) for number in range(1, 1_300)]
    for start in range(0, len(messages), 170):
        await put(store, *messages[start : start + 170])
    dice = random.Random(3)
    async with store.engine.connect() as connection:
        for _ in range(25):
            size = dice.randint(1, len(messages))
            index, old = dice.randrange(size), dice.randint(1, size)
            here = (await tree.frontier_at(connection, size)).root()
            assert here == root(messages[:size])
            path = await tree.inclusion(connection, index, size)
            merkle.verify_inclusion(index, size, leaf(messages[index]), path, here)
            proof = await tree.consistency(connection, old, size)
            merkle.verify_consistency(old, size, root(messages[:old]), here, proof)
        part = [run async for run in tree.runs(connection, 200, 900)]
        assert b"".join(run.hashes for run in part) == b"".join(leaf(one) for one in messages[200:900])


async def test_a_gap_in_the_leaves_is_told(store: AuditStore) -> None:
    for start in range(1, 40, 10):
        await put(store, *[message(number) for number in range(start, start + 10)])
    async with store.engine.begin() as connection:
        await connection.execute(delete(tables.leaves).where(tables.leaves.c.position == 10))
    async with store.engine.connect() as connection:
        with pytest.raises(ProofError, match="gap at position 10"):
            _ = [run async for run in tree.runs(connection, 0, 40)]
        with pytest.raises(ProofError, match="gap at position 12"):
            _ = [run async for run in tree.runs(connection, 12, 40)]
    async with store.engine.begin() as connection:
        await connection.execute(update(tables.leaves).where(tables.leaves.c.position == 20).values(hashes=b"x" * 33))
    async with store.engine.connect() as connection:
        with pytest.raises(ProofError, match="damaged"):
            _ = [run async for run in tree.runs(connection, 20, 40)]


async def test_events_stored_before_there_was_a_tree_are_adopted_once(store: AuditStore) -> None:
    messages = [message(number) for number in range(1, 31)]
    await put(store, *messages)
    async with store.engine.begin() as connection:
        for table in (tables.tree, tables.leaves, tables.node):
            await connection.execute(delete(table))
    assert await tree.adopt(store.engine) == 30
    assert (await now(store)).root() == root(messages)
    # What appears later without a leaf stays without: it is no event of the record.
    async with store.engine.begin() as connection:
        row = (await connection.execute(select(tables.event).where(tables.event.c.sequence == 30))).mappings().one()
        await connection.execute(tables.event.insert().values(dict(row) | {"sequence": 31}))
    assert await tree.adopt(store.engine) == 0
    assert (await now(store)).size == 30


async def test_a_batch_that_nobody_waits_for_is_there_with_its_leaves_or_not_at_all(database_url: str) -> None:
    messages = [message(number) for number in range(1, 400)]
    store = AuditStore(database_url)
    await store.create()
    writing = asyncio.create_task(put(store, *messages))
    while not writing.done():
        await asyncio.sleep(0)
        writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await store.close()
    again = AuditStore(database_url)
    async with again.engine.connect() as connection:
        count = (await connection.execute(select(func.count()).select_from(tables.event))).scalar_one()
    assert (await now(again)).size == count
    assert count in (0, len(messages))
    await put(again, *messages)
    assert (await now(again)).root() == root(messages)
    await again.close()
