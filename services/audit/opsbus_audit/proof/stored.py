"""The store as a verifier reads it: its leaves, events and checkpoints. Checking them is in_store.py's matter."""

from collections.abc import AsyncIterator

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.proof import tree
from opsbus_audit.proof.checkpoint import Entry
from opsbus_audit.proof.leaf import Run
from opsbus_audit.proof.match import Chunk, chunk_of
from opsbus_audit.retention.let_go import ranges

_READ_EVENTS = 4_000
_READ_RUNS = 64
_COLUMNS = ("sequence", "stored_ns", "subject", "headers", "payload")


async def lives(engine: AsyncEngine) -> list[str]:
    """The lives of the stream that the tree has leaves of, in order."""
    column = tables.leaves.c
    statement = select(column.stream).group_by(column.stream).order_by(func.min(column.position))
    async with engine.connect() as connection:
        return list((await connection.execute(statement)).scalars())


async def chain(engine: AsyncEngine, life: str) -> list[str]:
    """The lives that together are the stream as it is now: a stream that was restored from a backup has another time
    of creation, and goes on where it was.

    Args:
        life: The stream's present one; when the tree knows nothing of it, its last one counts.
    """
    column = tables.leaves.c
    statement = select(column.stream, func.min(column.first), func.max(column.last)).group_by(column.stream)
    async with engine.connect() as connection:
        rows = (await connection.execute(statement.order_by(func.min(column.position)))).all()
    spans = {stream: (first, last) for stream, first, last in rows}
    known = list(spans)
    if not known:
        return []
    at = known.index(life) if life in spans else len(known) - 1
    found = [known[at]]
    while at and spans[known[at - 1]][1] + 1 == spans[known[at]][0]:
        at -= 1
        found.insert(0, known[at])
    return found


async def checkpoints(engine: AsyncEngine, above: int = 0) -> AsyncIterator[Entry]:
    """The checkpoints of the store over more than ``above`` leaves, the smallest first.

    Raises:
        NoteError: one cannot be read.
    """
    column = tables.checkpoint.c
    while True:
        statement = select(column.size, column.entry).where(column.size > above).order_by(column.size).limit(500)
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        for size, text in rows:
            above = size
            yield Entry.parse(text)
        if not rows:
            return


async def runs_by_sequence(engine: AsyncEngine, stream: str, first: int = 0, last: int = 1 << 62) -> AsyncIterator[Run]:
    """The leaves of a life of the stream in its order."""
    column = tables.leaves.c
    columns = (column.position, column.stream, column.first, column.hashes)
    after = -1
    while True:
        statement = select(*columns).where(
            column.stream == stream, column.first > after, column.last >= first, column.first <= last
        )
        async with engine.connect() as connection:
            rows = (await connection.execute(statement.order_by(column.first).limit(_READ_RUNS))).all()
        for position, name, begin, hashes in rows:
            after = begin
            run = Run(position, name, begin, bytes(hashes))
            yield run.part(max(begin, first), min(run.last, last))
        if not rows:
            return


async def events(
    engine: AsyncEngine, stream: str, first: int = -(1 << 62), last: int = 1 << 62
) -> AsyncIterator[Chunk]:
    """The events of a life of the stream in its order, hashed."""
    column = tables.event.c
    columns = [column[name] for name in _COLUMNS]
    after, after_ns = first - 1, 1 << 62
    while True:
        statement = select(*columns).where(column.stream == stream, column.sequence <= last)
        # A sequence with two times is what somebody forged: none of them is passed over.
        later = (column.sequence > after) | ((column.sequence == after) & (column.stored_ns > after_ns))
        statement = statement.where(later).order_by(column.sequence, column.stored_ns).limit(_READ_EVENTS)
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        if not rows:
            return
        found = [tree.event_of(dict(row._mapping)) for row in rows]
        after, after_ns = found[-1].sequence, found[-1].time_ns
        yield chunk_of(found)


async def last_checkpoint(engine: AsyncEngine) -> Entry | None:
    """The largest that is signed."""
    statement = select(tables.checkpoint.c.entry).order_by(tables.checkpoint.c.size.desc()).limit(1)
    async with engine.connect() as connection:
        text = (await connection.execute(statement)).scalar_one_or_none()
    return None if text is None else Entry.parse(text)


async def let_go(engine: AsyncEngine, stream: str) -> list[tuple[int, int]]:
    """Runs of sequences that the retention policy let go of."""
    async with engine.connect() as connection:
        return await ranges(connection, stream)


async def last_sequence(engine: AsyncEngine) -> int:
    """The last sequence that has a leaf in the stream's present life; 0: none has."""
    column = tables.leaves.c
    statement = select(column.last).order_by(column.position.desc()).limit(1)
    async with engine.connect() as connection:
        return int((await connection.execute(statement)).scalar_one_or_none() or 0)
