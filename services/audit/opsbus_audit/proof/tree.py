"""The tree in the store: leaves appended in the transaction that stores their events, so that both are there or
neither; and what proofs are made of. Signing is signer.py's matter.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql import ColumnElement

from opsbus.database import serialize
from opsbus_audit import tables
from opsbus_audit.proof import merkle
from opsbus_audit.proof.leaf import MESSAGE_ID, Event, Run, leaf_of
from opsbus_audit.proof.merkle import HASH_BYTES, Frontier, ProofError

NODE_LEVEL = 8
"""Subtrees of so many levels and more are kept."""

_ID = 1
_READ = 64
"""Rows of leaves read at once; a row holds a batch of the consumer's."""
_READ_EVENTS = 2_000


def event_of(row: Mapping[str, Any]) -> Event:
    """The event of a row of the store."""
    headers = row["headers"]
    id = str(json.loads(headers).get(MESSAGE_ID, "")) if MESSAGE_ID in headers else ""
    return Event(row["sequence"], row["stored_ns"], row["subject"], id, bytes(row["payload"]))


def append(
    connection: Connection, frontier: Frontier, stream: str, sequences: Sequence[int], leaves: Sequence[bytes]
) -> int:
    """Append the leaves of events that this transaction stores, in their order. One that has a leaf gets no other.

    Args:
        frontier: What ``locked`` gave in this transaction; it goes on from there.
        stream: The events' life of the stream.
        sequences: Of each leaf's event.
        leaves: Leaf hashes.

    Returns:
        Leaves that were added.
    """
    sequences, leaves = _without_leaf(connection, stream, sequences, leaves)
    if not leaves:
        return 0
    runs = list(_runs(stream, sequences, leaves, frontier.size))
    nodes: list[dict[str, Any]] = []

    def keep(level: int, index: int, root: bytes) -> None:
        if level >= NODE_LEVEL:
            nodes.append({"level": level, "number": index, "hash": root})

    for run in runs:
        frontier.extend(run.hashes, keep)
    connection.execute(
        insert(tables.leaves),
        [
            {"position": run.position, "stream": run.stream, "first": run.first, "last": run.last, "hashes": run.hashes}
            for run in runs
        ],
    )
    if nodes:
        connection.execute(insert(tables.node), nodes)
    changed = update(tables.tree).where(tables.tree.c.id == _ID)
    connection.execute(changed.values(size=frontier.size, frontier=frontier.dump()))
    return len(leaves)


async def adopt(engine: AsyncEngine) -> int:
    """Give events a leaf that were stored before there was a tree; only ever into an empty one.

    Returns:
        Leaves that were added.
    """
    event = tables.event.c
    columns = (event.stream, event.sequence, event.stored_ns, event.subject, event.headers, event.payload)
    added = 0
    async with engine.begin() as connection:
        await serialize(connection, tables.event.name)
        frontier = await lock(connection)
        if frontier.size:
            return 0
        order = select(event.stream).group_by(event.stream).order_by(func.min(event.stored_ns))
        for stream in (await connection.execute(order)).scalars().all():
            after = -1
            while True:
                statement = select(*columns).where(event.stream == stream, event.sequence > after)
                statement = statement.order_by(event.sequence).limit(_READ_EVENTS)
                rows = (await connection.execute(statement)).mappings().all()
                if not rows:
                    break
                leaves = [leaf_of(*event_of(dict(row))) for row in rows]
                sequences = [row["sequence"] for row in rows]
                added += await connection.run_sync(append, frontier, stream, sequences, leaves)
                after = rows[-1]["sequence"]
    return added


async def frontier_of(connection: AsyncConnection) -> Frontier:
    """The tree as it is.

    Raises:
        ProofError: what the store has is no frontier.
    """
    statement = select(tables.tree.c.size, tables.tree.c.frontier).where(tables.tree.c.id == _ID)
    row = (await connection.execute(statement)).one_or_none()
    return Frontier() if row is None else Frontier.load(row.size, bytes(row.frontier))


async def runs(connection: AsyncConnection, first: int, last: int) -> AsyncIterator[Run]:
    """The leaves from position ``first`` up to, not including, ``last``, in order, as they were appended.

    Raises:
        ProofError: some of them are missing, or two have one position.
    """
    at = first
    column = tables.leaves.c
    columns = (column.position, column.stream, column.first, column.last, column.hashes)
    while at < last:
        # The row that holds `at` begins at it or before.
        begin = select(func.max(column.position)).where(column.position <= at).scalar_subquery()
        statement = select(*columns).where(column.position >= begin, column.position < last)
        rows = (await connection.execute(statement.order_by(column.position).limit(_READ))).all()
        for row in rows:
            run = Run(row.position, row.stream, row.first, bytes(row.hashes))
            if not run.hashes or len(run.hashes) % HASH_BYTES or run.last != row.last:
                raise ProofError(f"the leaves at position {row.position} are damaged")
            end = min(run.position + run.leaves, last)
            if not run.position <= at < end or (run.position < at and at != first):
                raise ProofError(f"the leaves of the tree have a gap at position {at}")
            yield run.part(run.first + at - run.position, run.first + end - run.position - 1)
            at = end
        if not rows:
            raise ProofError(f"the leaves of the tree end at position {at}, not at {last}")


async def subtree(connection: AsyncConnection, first: int, last: int) -> bytes:
    """The root over the leaves ``first`` up to ``last`` of a subtree of the tree."""
    parts = merkle.perfect_parts(first, last)
    found: list[bytes] = []
    for level, index in parts:
        found.append(await _perfect(connection, level, index))
    root = found[-1]
    for left in reversed(found[:-1]):
        root = merkle.node_hash(left, root)
    return root


async def frontier_at(connection: AsyncConnection, size: int) -> Frontier:
    """The tree as it was with ``size`` leaves."""
    parts = merkle.perfect_parts(0, size)
    return Frontier(size, [await _perfect(connection, level, index) for level, index in parts])


async def inclusion(connection: AsyncConnection, index: int, size: int) -> list[bytes]:
    """The audit path of a leaf."""
    return await _proof(connection, lambda get: merkle.inclusion_proof(index, size, get))


async def consistency(connection: AsyncConnection, old: int, new: int) -> list[bytes]:
    """The proof that the tree of ``new`` leaves goes on from that of ``old``."""
    return await _proof(connection, lambda get: merkle.consistency_proof(old, new, get))


async def find(connection: AsyncConnection, stream: str, sequence: int) -> Run | None:
    """The leaf of an event; None: it has none."""
    column = tables.leaves.c
    columns = (column.position, column.stream, column.first, column.hashes)
    statement = select(*columns).where(column.stream == stream, column.first <= sequence, column.last >= sequence)
    row = (await connection.execute(statement.order_by(column.first.desc()).limit(1))).one_or_none()
    if row is None:
        return None
    return Run(row.position, row.stream, row.first, bytes(row.hashes)).part(sequence, sequence)


def provable() -> ColumnElement[bool]:
    """The condition under which an event of the store has its leaf under a checkpoint that was signed and handed on."""
    leaf, event = tables.leaves.c, tables.event.c
    signed = select(func.max(tables.checkpoint.c.size)).where(tables.checkpoint.c.published).scalar_subquery()
    return exists().where(
        and_(
            leaf.stream == event.stream,
            leaf.first <= event.sequence,
            leaf.last >= event.sequence,
            leaf.position + event.sequence - leaf.first < signed,
        )
    )


async def lock(connection: AsyncConnection) -> Frontier:
    """``locked``, of an asynchronous connection."""
    return await connection.run_sync(locked)


def locked(connection: Connection) -> Frontier:
    """The tree as it is; from here on nobody else appends, until the transaction ends. On SQLite the first write begins
    it: reads before it are not part of it.

    Raises:
        ProofError: what the store has is no frontier.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    column = tables.tree.c
    row = dialect.insert(tables.tree).values(id=_ID, size=0, frontier=b"")
    # An update that changes nothing holds the row, and in the same statement says what it is.
    held = row.on_conflict_do_update(index_elements=[column.id], set_={"size": column.size})
    found = connection.execute(held.returning(column.size, column.frontier)).one()
    return Frontier.load(found.size, bytes(found.frontier))


def _without_leaf(
    connection: Connection, stream: str, sequences: Sequence[int], leaves: Sequence[bytes]
) -> tuple[Sequence[int], Sequence[bytes]]:
    column = tables.leaves.c
    statement = select(column.first, column.last).where(
        column.stream == stream, column.first <= max(sequences), column.last >= min(sequences)
    )
    known = [(row.first, row.last) for row in connection.execute(statement)]
    if not known:
        return sequences, leaves
    fresh = [
        (sequence, leaf)
        for sequence, leaf in zip(sequences, leaves, strict=True)
        if not any(first <= sequence <= last for first, last in known)
    ]
    return [sequence for sequence, _ in fresh], [leaf for _, leaf in fresh]


def _runs(stream: str, sequences: Sequence[int], leaves: Sequence[bytes], position: int) -> Iterable[Run]:
    """Leaves in a row are kept in a row of the table; where sequences leap, another one begins."""
    begin = 0
    for at in range(1, len(sequences) + 1):
        if at == len(sequences) or sequences[at] != sequences[at - 1] + 1:
            yield Run(position + begin, stream, sequences[begin], b"".join(leaves[begin:at]))
            begin = at


async def _perfect(connection: AsyncConnection, level: int, index: int) -> bytes:
    if level >= NODE_LEVEL:
        column = tables.node.c
        statement = select(column.hash).where(column.level == level, column.number == index)
        kept = (await connection.execute(statement)).scalar_one_or_none()
        if kept is None:
            raise ProofError(f"the tree's node {level}/{index} is missing in the store")
        return bytes(kept)
    below = b"".join([run.hashes async for run in runs(connection, index << level, (index + 1) << level)])
    while len(below) > HASH_BYTES:
        below = merkle.fold(below)
    return below


async def _proof(connection: AsyncConnection, make: Any) -> list[bytes]:
    wanted: list[tuple[int, int]] = []

    def note(first: int, last: int) -> bytes:
        wanted.append((first, last))
        return b""

    make(note)
    found = {span: await subtree(connection, *span) for span in wanted}
    proof: list[bytes] = make(lambda first, last: found[first, last])
    return proof
