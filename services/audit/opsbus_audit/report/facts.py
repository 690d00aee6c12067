"""What a report says, read from the store. How it looks is page.py's matter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.proof.stored import last_checkpoint
from opsbus_audit.search import Entry, Question, matches, search
from opsbus_audit.summary import Group, summarize
from opsbus_contracts.audit import ENDS

_event, _let_go = tables.event, tables.let_go
_DAY_NS = 86_400 * 1_000_000_000
LISTED_MAX = 200
"""Writes and denials listed at most, the newest; the sums count all of them."""

_ARGUMENTS_MAX = 400
_SAID_ELSEWHERE = frozenset({"reason", "change_id", "confirm", "idempotency_key"})


@dataclass
class Write:
    """A call that may have changed something."""

    at: datetime
    call: str
    actor: str
    tool: str
    outcome: str = ""
    reason: str = ""
    change_id: str = ""
    arguments: str = ""
    approver: str = ""
    message: str = ""


@dataclass(frozen=True)
class Completeness:
    """One life of the stream, as the store has it."""

    stream: str
    first: int
    last: int
    events: int
    missing: int
    """Numbers that are neither stored nor let go of by retention."""
    unreadable: int


@dataclass
class Facts:
    """All of a report."""

    since: datetime
    until: datetime
    made_at: datetime
    made_by: str
    by_day: list[tuple[datetime, dict[str, int]]] = field(default_factory=list)
    by_outcome: list[Group] = field(default_factory=list)
    by_actor: list[Group] = field(default_factory=list)
    by_tool: list[Group] = field(default_factory=list)
    by_service: list[Group] = field(default_factory=list)
    denied: list[Group] = field(default_factory=list)
    denials: list[Entry] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    completeness: list[Completeness] = field(default_factory=list)
    checkpoint: str = ""
    verified: str = ""
    """What a verification of the tree said; empty: none was made."""
    verified_well: bool | None = None

    @property
    def calls(self) -> int:
        """Calls that ended."""
        return sum(group.calls for group in self.by_outcome)

    @property
    def write_calls(self) -> int:
        """Of these, calls that may have changed something."""
        return sum(group.writes for group in self.by_outcome)

    def ended(self, outcome: str) -> int:
        """Calls that ended so."""
        return sum(group.calls for group in self.by_outcome if group.by["outcome"] == outcome)


async def gather(engine: AsyncEngine, since: datetime, until: datetime, made_by: str) -> Facts:
    """Everything from ``since`` to ``until``."""
    period = Question(since=since, until=until)
    facts = Facts(since, until, datetime.now(UTC), made_by)
    facts.by_outcome = await summarize(engine, period, ["outcome"], 20)
    facts.by_actor = await summarize(engine, period, ["actor"], 15)
    facts.by_tool = await summarize(engine, period, ["tool"], 15)
    facts.by_service = await summarize(engine, period, ["service"], 15)
    facts.by_day = await _by_day(engine, period)
    denied = Question(since=since, until=until, outcome="denied")
    facts.denied = await summarize(engine, denied, ["actor", "tool", "error"], 15)
    facts.denials = (await search(engine, denied, LISTED_MAX)).entries
    facts.writes = await _writes(engine, since, until)
    facts.completeness = await _completeness(engine, period)
    facts.checkpoint = await _checkpoint(engine)
    return facts


async def _by_day(engine: AsyncEngine, period: Question) -> list[tuple[datetime, dict[str, int]]]:
    day = (_event.c.stored_ns // _DAY_NS).label("day")
    ended = _event.c.stage.in_([stage.value for stage in ENDS])
    statement = (
        select(day, _event.c.outcome, func.count().label("calls"))
        .where(and_(matches(period), ended, _event.c.duplicate_of.is_(None)))
        .group_by(day, _event.c.outcome)
    )
    found: dict[int, dict[str, int]] = {}
    async with engine.connect() as connection:
        for row in (await connection.execute(statement)).all():
            found.setdefault(int(row.day), {})[row.outcome] = int(row.calls)
    if not found:
        return []
    days = range(min(found), max(found) + 1)
    return [(datetime.fromtimestamp(number * 86_400, UTC), found.get(number, {})) for number in days]


async def _writes(engine: AsyncEngine, since: datetime, until: datetime) -> list[Write]:
    """The newest writes, each with what all its steps say."""
    calls: dict[str, Write] = {}
    cursor: str | None = None
    question = Question(since=since, until=until, mutating=True)
    while len(calls) < LISTED_MAX:
        found = await search(engine, question, 500, cursor)
        for entry in found.entries:
            if entry.call not in calls and len(calls) >= LISTED_MAX:
                break
            _add(calls.setdefault(entry.call, Write(_when(entry), entry.call, entry.actor, entry.tool)), entry)
        if not found.more:
            break
        cursor = found.cursors[-1]
    return sorted(calls.values(), key=lambda write: write.at, reverse=True)


def _add(write: Write, entry: Entry) -> None:
    """What a step says; they come newest first, and the newest is believed."""
    write.at = min(write.at, _when(entry))
    outcome = entry.outcome.value if entry.outcome else ""
    if outcome and outcome != "open" and not write.outcome:
        write.outcome = outcome
    write.reason = write.reason or entry.reason
    write.change_id = write.change_id or entry.change_id
    write.approver = write.approver or entry.approver
    write.message = write.message or entry.message
    if entry.arguments and not write.arguments:
        shown = {name: value for name, value in entry.arguments.items() if name not in _SAID_ELSEWHERE}
        text = json.dumps(shown, ensure_ascii=False, default=str)
        write.arguments = text if len(text) <= _ARGUMENTS_MAX else f"{text[:_ARGUMENTS_MAX]}…"


def _when(entry: Entry) -> datetime:
    return entry.stored_at


async def _completeness(engine: AsyncEngine, period: Question) -> list[Completeness]:
    column = _event.c
    statement = (
        select(
            column.stream,
            func.min(column.sequence).label("first"),
            func.max(column.sequence).label("last"),
            func.count().label("events"),
        )
        .where(matches(period))
        .group_by(column.stream)
        .order_by(func.min(column.stored_ns))
    )
    unreadable = select(column.stream, func.count().label("events")).where(matches(period), column.unreadable.is_(True))
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
        gone = (await connection.execute(select(_let_go.c.stream, _let_go.c.first, _let_go.c.last))).all()
        odd = {row.stream: row.events for row in (await connection.execute(unreadable.group_by(column.stream))).all()}
    return [_complete(row, gone, int(odd.get(row.stream, 0))) for row in rows]


def _complete(row: Any, gone: Sequence[Any], unreadable: int) -> Completeness:
    let_go = sum(
        max(0, min(run.last, row.last) - max(run.first, row.first) + 1) for run in gone if run.stream == row.stream
    )
    missing = max(0, row.last - row.first + 1 - row.events - let_go)
    return Completeness(row.stream, row.first, row.last, row.events, missing, unreadable)


async def _checkpoint(engine: AsyncEngine) -> str:
    """The newest signed checkpoint of the store."""
    entry = await last_checkpoint(engine)
    return "" if entry is None else str(entry.note)
