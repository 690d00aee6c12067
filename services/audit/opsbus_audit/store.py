"""Writing the record: a batch of the stream's messages into the table, each once. Reading it is search.py's matter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import ARRAY, any_, func, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.database import create_schema, open_engine, serialize
from opsbus.personal import Persons
from opsbus_audit import sources, tables
from opsbus_audit.open_calls import OpenCalls
from opsbus_audit.partitions import Month, add_months, is_partitioned, month_of
from opsbus_audit.proof import tree
from opsbus_audit.proof.note import VerifierKey
from opsbus_audit.record import COLUMNS, Note, Stored, row_and_note

_event = tables.event
_INSERT = f"INSERT OR IGNORE INTO {_event.name} ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - names of this program


class Prepared(NamedTuple):
    """A batch, read."""

    rows: list[dict[str, Any]]
    """By column."""
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
        """Give the connections back."""
        await self.engine.dispose()

    def prepare(self, messages: Sequence[Stored]) -> Prepared:
        """The rows of messages of one life of the stream: all the work that needs no database."""
        read = [row_and_note(message) for message in messages]
        return Prepared([row for row, _ in read], [note for _, note in read if note is not None])

    async def append(self, prepared: Prepared) -> Written:
        """Store a batch in one transaction; what is stored already, by sequence, is left as it is.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: nothing of the batch is stored, as far as is known.
        """
        try:
            written = await self._append(prepared)
        except (SQLAlchemyError, OSError):
            # Whatever it was: a month may not have been made after all, or was let go of meanwhile.
            self._months.clear()
            raise
        self.open_calls.saw(prepared.notes)
        return written

    async def _append(self, prepared: Prepared) -> Written:
        async with self.engine.begin() as connection:
            # Two instances would not see each other's event ids before they commit.
            await serialize(connection, _event.name)
            fresh = await _not_yet_stored(connection, prepared.rows)
            await _mark_duplicates(connection, fresh)
            await self._make_months(connection, fresh)
            if fresh:
                await _insert(connection, fresh)
                await tree.append(connection, fresh)
                await sources.count(connection, prepared.notes)
        return Written(
            new=len(fresh),
            unreadable=sum(item["unreadable"] for item in fresh),
            duplicates=sum(item["duplicate_of"] is not None for item in fresh),
        )

    async def _make_months(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        missing = {month_of(row["stored_ns"]) for row in rows} - self._months
        if missing and await is_partitioned(connection):
            await add_months(connection, missing)
        self._months |= missing

    async def last_sequence(self, stream: str) -> int:
        """The last sequence stored of a stream's life; 0: none."""
        statement = select(func.coalesce(func.max(_event.c.sequence), 0)).where(_event.c.stream == stream)
        async with self.engine.connect() as connection:
            return int((await connection.execute(statement)).scalar_one())


async def _insert(connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    # Both by the driver's own way for many rows: what SQLAlchemy does for each of them costs more than the database.
    records = [tuple(item.values()) for item in rows]
    if connection.dialect.name != "postgresql":
        await connection.exec_driver_sql(_INSERT, records)
        return
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    try:
        await driver.copy_records_to_table(_event.name, records=records, columns=COLUMNS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CopyError(f"the batch was not taken: {type(error).__name__}") from error


async def _not_yet_stored(connection: AsyncConnection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stream = rows[0]["stream"]
    sequences = [item["sequence"] for item in rows]
    statement = select(_event.c.sequence).where(
        _event.c.stream == stream, _event.c.sequence.between(min(sequences), max(sequences))
    )
    known = set((await connection.execute(statement)).scalars())
    fresh: dict[int, dict[str, Any]] = {}
    for item in rows:
        if item["sequence"] not in known:
            fresh.setdefault(item["sequence"], item)
    return list(fresh.values())


async def _mark_duplicates(connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    """The same event published twice, further apart than the stream's own window: kept, but told apart from the
    first."""
    ids = sorted({item["event_id"] for item in rows if item["event_id"]})
    statement = select(
        _event.c.stream, _event.c.event_source, _event.c.event_id, func.min(_event.c.sequence).label("sequence")
    ).where(_event.c.duplicate_of.is_(None))
    if connection.dialect.name == "postgresql":
        statement = statement.where(_event.c.event_id == any_(literal(ids, ARRAY(_event.c.event_id.type))))
    else:
        each = func.json_each(json.dumps(ids)).table_valued("value")
        statement = statement.where(_event.c.event_id.in_(select(each.c.value)))
    # The stream is looked at here: asked for it, a planner without statistics reads the whole stream by its key.
    stream = rows[0]["stream"] if rows else ""
    found = await connection.execute(statement.group_by(_event.c.stream, _event.c.event_source, _event.c.event_id))
    first = {(item.event_source, item.event_id): item.sequence for item in found if item.stream == stream}
    for item in rows:
        if item["event_id"]:
            key = (item["event_source"], item["event_id"])
            earlier = first.setdefault(key, item["sequence"])
            item["duplicate_of"] = earlier if earlier != item["sequence"] else None
