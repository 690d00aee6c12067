"""Writing the record: a batch of the stream's messages into the table, each once. Reading it is search.py's matter."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Connection, Engine, any_, func, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.database import create_schema, open_engine, open_sqlite
from opsbus.personal import Persons
from opsbus_audit import sources, tables
from opsbus_audit.open_calls import OpenCalls
from opsbus_audit.partitions import Month, add_months, is_partitioned, month_of
from opsbus_audit.proof import tree
from opsbus_audit.proof.leaf import MESSAGE_ID, leaf_of
from opsbus_audit.proof.merkle import Frontier
from opsbus_audit.proof.note import VerifierKey
from opsbus_audit.record import COLUMNS, Note, Row, Stored, row_and_note

_event = tables.event
_STREAM, _SEQUENCE, _SUBJECT, _STORED_NS, _UNREADABLE, _DUPLICATE_OF, _EVENT_ID, _EVENT_SOURCE = (
    COLUMNS.index(name)
    for name in (
        "stream", "sequence", "subject", "stored_ns", "unreadable", "duplicate_of", "event_id",
        "event_source",
    )
)  # fmt: skip
_INSERT = f"INSERT OR IGNORE INTO {_event.name} ({', '.join(COLUMNS)}) VALUES "  # noqa: S608 - names of this program
_PLACES = f"({','.join('?' * len(COLUMNS))})"
_ROWS_MAX = 500
"""Of one statement: SQLite takes 32,766 values in one."""
_HOUR_NS = 3_600 * 1_000_000_000


class Prepared(NamedTuple):
    """A batch, ready to be written: rows by ``COLUMNS``, and the leaf of each."""

    rows: list[Row]
    leaves: list[bytes]
    notes: list[Note]
    """Of those that are events."""


class CopyError(OSError):
    """PostgreSQL did not take a batch; which event is wrong, if one is, stands in the database's log."""


@dataclass(frozen=True)
class Written:
    """What became of a batch."""

    new: int
    """Messages stored now; the rest of the batch was stored before."""
    unreadable: int
    """Of the new ones, those that could not be read."""
    duplicates: int
    """Of the new ones, those whose event id was stored before under another sequence."""


class AuditStore:
    """The store, open for writing: ``create`` before the first use, ``close`` after the last."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.persons: Persons | None = None
        """Whose events are under a pseudonym; None: the keys are not at hand."""
        self.engine: AsyncEngine = open_engine(url, timeout_s)
        self._writer: Engine | None = open_sqlite(url, timeout_s) if self.engine.dialect.name == "sqlite" else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit-store")
        self._months: set[Month] = set()
        self.verifier_keys: list[VerifierKey] = []
        """Of whoever signs, or signed, this store's tree."""
        self.open_calls = OpenCalls()

    async def create(self) -> None:
        """Create the table when it is missing.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database cannot be used.
        """
        await create_schema(self.engine, tables.metadata)

    async def close(self) -> None:
        """Give the connections back, after a batch that is being written, though nobody may wait for it."""
        if self._writer is not None:
            await asyncio.to_thread(self._thread.shutdown)
            self._writer.dispose()
        await self.engine.dispose()

    def prepare(self, messages: Sequence[Stored]) -> Prepared:
        """The rows and leaves of messages of one life of the stream: all the work that needs no database."""
        rows: list[Row] = []
        leaves: list[bytes] = []
        notes: list[Note] = []
        for message in messages:
            row, note = row_and_note(message)
            rows.append(row)
            leaves.append(_leaf(message, row))
            if note is not None:
                notes.append(note)
        return Prepared(rows, leaves, notes)

    def join(self, parts: Sequence[Prepared]) -> Prepared:
        """One batch of several of the same life of the stream, in their order."""
        rows, leaves, notes = (list(chain.from_iterable(column)) for column in zip(*parts, strict=True))
        return Prepared(rows, leaves, notes)

    async def append(self, prepared: Prepared) -> Written:
        """Store a batch in one transaction; what is stored already, by sequence, is left as it is.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: nothing of the batch is stored, as far as is known.
        """
        if self._writer is not None:
            # In one go in one thread: a change of threads for each statement would cost more than the statements.
            run = asyncio.get_running_loop().run_in_executor
            written = await run(self._thread, _append_sqlite, self._writer, prepared)
        else:
            try:
                written = await self._append_postgres(prepared)
            except (SQLAlchemyError, OSError):
                # Whatever it was: a month may not have been made after all, or was let go of meanwhile.
                self._months.clear()
                raise
        self.open_calls.saw(prepared.notes)
        return written

    async def _append_postgres(self, prepared: Prepared) -> Written:
        async with self.engine.begin() as connection:
            frontier, fresh = await connection.run_sync(_begin, prepared)
            if fresh.rows:
                await self._make_months(connection, fresh.rows)
                await _copy(connection, fresh.rows)
                await connection.run_sync(_end, frontier, fresh)
        return _written(fresh.rows)

    async def _make_months(self, connection: AsyncConnection, rows: list[Row]) -> None:
        missing = {month_of(hour * _HOUR_NS) for hour in {row[_STORED_NS] // _HOUR_NS for row in rows}} - self._months
        if missing and await is_partitioned(connection):
            await add_months(connection, missing)
        self._months |= missing

    async def last_sequence(self, stream: str) -> int:
        """The last sequence stored of a stream's life; 0: none."""
        statement = select(func.coalesce(func.max(_event.c.sequence), 0)).where(_event.c.stream == stream)
        async with self.engine.connect() as connection:
            return int((await connection.execute(statement)).scalar_one())


def _leaf(message: Stored, row: Row) -> bytes:
    # Of the row: what is proved is what is kept.
    id = message.headers.get(MESSAGE_ID, "")
    return leaf_of(message.sequence, message.stored_ns, row[_SUBJECT], id, message.payload)


def _begin(connection: Connection, prepared: Prepared) -> tuple[Frontier, Prepared]:
    """Hold the tree, so that all who append take turns until the transaction ends: they would not see each other's
    events before they commit. What of the batch is new goes on from the frontier."""
    frontier = tree.locked(connection)
    fresh = _not_yet_stored(connection, prepared)
    return frontier, fresh._replace(rows=_marked(connection, fresh.rows))


def _end(connection: Connection, frontier: Frontier, fresh: Prepared) -> None:
    """All that is stored with the events, and follows from them."""
    rows = fresh.rows
    tree.append(connection, frontier, rows[0][_STREAM], [row[_SEQUENCE] for row in rows], fresh.leaves)
    sources.count(connection, fresh.notes)


def _append_sqlite(engine: Engine, prepared: Prepared) -> Written:
    with engine.begin() as connection:
        frontier, fresh = _begin(connection, prepared)
        if fresh.rows:
            _insert(connection, fresh.rows)
            _end(connection, frontier, fresh)
    return _written(fresh.rows)


def _insert(connection: Connection, rows: list[Row]) -> None:
    """Many rows in one statement: SQLite then works through them without the interpreter's lock, and the batch after
    this one is prepared meanwhile. Row by row it would wait for the lock at each."""
    for start in range(0, len(rows), _ROWS_MAX):
        some = rows[start : start + _ROWS_MAX]
        connection.exec_driver_sql(_INSERT + ",".join([_PLACES] * len(some)), tuple(chain.from_iterable(some)))


async def _copy(connection: AsyncConnection, rows: list[Row]) -> None:
    import asyncpg

    # The driver's own way for many rows: what SQLAlchemy does for each of them costs more than the database.
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    try:
        await driver.copy_records_to_table(_event.name, records=rows, columns=COLUMNS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CopyError(f"the batch was not taken: {type(error).__name__}") from error


def _not_yet_stored(connection: Connection, prepared: Prepared) -> Prepared:
    sequences = [row[_SEQUENCE] for row in prepared.rows]
    statement = select(_event.c.sequence).where(
        _event.c.stream == prepared.rows[0][_STREAM], _event.c.sequence.between(min(sequences), max(sequences))
    )
    known = set(connection.execute(statement).scalars())
    if not known and len(set(sequences)) == len(sequences):
        return prepared
    fresh: dict[int, tuple[Row, bytes]] = {}
    for row, leaf in zip(prepared.rows, prepared.leaves, strict=True):
        if row[_SEQUENCE] not in known:
            fresh.setdefault(row[_SEQUENCE], (row, leaf))
    return Prepared([row for row, _ in fresh.values()], [leaf for _, leaf in fresh.values()], prepared.notes)


def _marked(connection: Connection, rows: list[Row]) -> list[Row]:
    """The same event published twice, further apart than the stream's own window: kept, but told apart from the
    first."""
    ids = sorted({row[_EVENT_ID] for row in rows if row[_EVENT_ID]})
    if not ids:
        return rows
    statement = select(
        _event.c.stream, _event.c.event_source, _event.c.event_id, func.min(_event.c.sequence).label("sequence")
    ).where(_event.c.duplicate_of.is_(None))
    if connection.dialect.name == "postgresql":
        statement = statement.where(_event.c.event_id == any_(literal(ids, ARRAY(_event.c.event_id.type))))
    else:
        each = func.json_each(json.dumps(ids)).table_valued("value")
        statement = statement.where(_event.c.event_id.in_(select(each.c.value)))
    found = connection.execute(statement.group_by(_event.c.stream, _event.c.event_source, _event.c.event_id))
    # The stream is looked at here: asked for it, a planner without statistics reads the whole stream by its key.
    first = {(row.event_source, row.event_id): row.sequence for row in found if row.stream == rows[0][_STREAM]}
    if not first and len(ids) == len(rows):
        return rows
    return [_duplicate(row, first) if row[_EVENT_ID] else row for row in rows]


def _duplicate(row: Row, first: dict[tuple[str, str], int]) -> Row:
    """The row, marked if its event is in ``first`` already; if not, it is put there."""
    earlier = first.setdefault((row[_EVENT_SOURCE], row[_EVENT_ID]), row[_SEQUENCE])
    if earlier == row[_SEQUENCE]:
        return row
    return (*row[:_DUPLICATE_OF], earlier, *row[_DUPLICATE_OF + 1 :])


def _written(rows: list[Row]) -> Written:
    return Written(
        new=len(rows),
        unreadable=sum([row[_UNREADABLE] for row in rows]),
        duplicates=sum([row[_DUPLICATE_OF] is not None for row in rows]),
    )
