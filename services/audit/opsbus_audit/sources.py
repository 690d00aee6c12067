"""How each process that writes events has counted them: from 1, without a gap. What is missing is known by number.

A gap is no judgement: events take different ways, and one may come late. Telling people of those that stay is gaps.py's
matter.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.record import Note
from opsbus_audit.search import moment_of

_source = tables.source
HEAD_MAX = 1_000
"""A source whose first event here has a higher number began before this store did: what is before is not missed."""
RUNS_MAX = 10_000
"""Of one source; the oldest are let go of beyond it."""


class Run(NamedTuple):
    """Numbers that are missing, ends included, and since when, in microseconds."""

    first: int
    last: int
    since_us: int


class Missing(NamedTuple):
    """A run of a source."""

    source: str
    first: int
    last: int
    since: datetime

    @property
    def events(self) -> int:
        """How many."""
        return self.last - self.first + 1


class Counted(NamedTuple):
    """Where a source stands."""

    last: int
    missing: list[Run]

    def and_(self, numbers: Iterable[int], now_us: int) -> "Counted":
        """With more of its numbers."""
        last, missing = self
        for number in sorted(set(numbers)):
            if number > last:
                if number > last + 1 and (last or number <= HEAD_MAX):
                    missing = [*missing, Run(last + 1, number - 1, now_us)]
                last = number
            else:
                missing = _without(missing, number)
        return Counted(last, missing[-RUNS_MAX:])


def _without(missing: list[Run], number: int) -> list[Run]:
    at = bisect_left(missing, number, key=lambda run: run.last)
    if at == len(missing) or missing[at].first > number:
        return missing
    first, last, since = missing[at]
    rest = [run for run in (Run(first, number - 1, since), Run(number + 1, last, since)) if run.first <= run.last]
    return [*missing[:at], *rest, *missing[at + 1 :]]


def count(connection: Connection, notes: Sequence[Note]) -> None:
    """Count a batch of events, in the transaction that stores them."""
    numbers: dict[str, list[int]] = {}
    for note in notes:
        if note.number:
            numbers.setdefault(note.source, []).append(note.number)
    if not numbers:
        return
    known = {
        found.source: Counted(found.last, runs_of(found.missing))
        for found in connection.execute(select(_source).where(_source.c.source.in_(numbers)))
    }
    now_us = time.time_ns() // 1_000
    counted = {source: known.get(source, Counted(0, [])).and_(found, now_us) for source, found in numbers.items()}
    rows = [
        {"source": source, "last": one.last, "missing": json.dumps(one.missing), "seen_us": now_us, "told": "[]"}
        for source, one in counted.items()
    ]
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(_source)
    changed = {name: statement.excluded[name] for name in ("last", "missing", "seen_us")}
    connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=changed), rows)


async def missing(engine: AsyncEngine, before_us: int | None = None) -> list[Missing]:
    """What is missing since before a moment (default: any), by source."""
    statement = select(_source.c.source, _source.c.missing).where(_source.c.missing != "[]").order_by(_source.c.source)
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
    return [
        Missing(row.source, run.first, run.last, moment_of(run.since_us * 1_000))
        for row in rows
        for run in runs_of(row.missing)
        if before_us is None or run.since_us <= before_us
    ]


def runs_of(text: str) -> list[Run]:
    """As the table has them."""
    return [Run(*one) for one in json.loads(text)]
