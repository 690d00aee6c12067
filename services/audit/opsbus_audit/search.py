"""Reading the record: the question, the statement, the entries. The tool and the command both ask here; nothing is
written."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Row, Select, TextClause, and_, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import ErrorCode, ToolError
from opsbus_audit import tables
from opsbus_audit.record import Outcome, Stored, outcome_of, read_event

_event = tables.event
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTED_MAX = 10_000
"""A search counts no further: an exact count of millions would cost more than it tells."""

EXACT = ("actor", "tool", "service", "stage", "call", "outcome")


@dataclass(frozen=True)
class Question:
    """What to look for; None: anything."""

    actor: str | None = None
    tool: str | None = None
    service: str | None = None
    stage: str | None = None
    call: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    pseudonym: str | None = None
    """Of ``actor``, where their events are under one."""
    unreadable: bool | None = None
    mutating: bool | None = None
    first: int | None = None
    """The first sequence wanted."""
    last: int | None = None


class Entry(BaseModel):
    """One event of the record."""

    sequence: int = Field(description="Its number in the stream.")
    stored_at: datetime = Field(description="When the stream stored it, by the server's clock.")
    subject: str
    id: str = Field(default="", description="The event's id.")
    time: datetime | None = Field(default=None, description="When it happened, by the source's clock.")
    emitter: str = Field(default="", description="The service that recorded it.")
    stage: str = ""
    outcome: Outcome | None = None
    call: str = Field(default="", description="The call id: one through all stages of a call.")
    actor: str = ""
    roles: list[str] = Field(default_factory=list)
    auth: str = ""
    client: str = ""
    method: str = ""
    tool: str = ""
    service: str = ""
    mutating: bool = False
    arguments: dict[str, Any] | None = None
    reason: str = ""
    change_id: str = ""
    rule: str = ""
    executed: str = ""
    error: str = ""
    message: str = ""
    attempts: int = 0
    duration_ms: float | None = None
    version: str = Field(default="", description="Version of the worker that answered.")
    instance: str = Field(default="", description="Worker instance that answered.")
    trace_id: str = ""
    approver: str = ""
    target: str = Field(default="", description="What was acted on, where it is no tool.")
    details: dict[str, Any] | None = None
    address: str = ""
    session: str = Field(default="", description="Digest of the MCP session.")
    result_bytes: int = 0
    result_digest: str = ""
    personal: str = Field(default="", exclude=True, description="Fields about the caller, sealed.")
    unreadable: bool = Field(
        default=False, description="The bytes are no audit event; `fault` says why, `raw` is their start."
    )
    fault: str = ""
    raw: str = ""
    duplicate_of: int | None = Field(default=None, description="The same event was stored before under this sequence.")


@dataclass(frozen=True)
class Found:
    """A page of entries, newest first."""

    entries: list[Entry]
    cursors: list[str]
    """The cursor after each entry."""
    more: bool
    total: int | None
    """None: more than the search counts."""


async def search(engine: AsyncEngine, question: Question, limit: int, cursor: str | None = None) -> Found:
    """The newest ``limit`` events that match, after ``cursor``.

    Raises:
        ToolError: ``invalid_arguments`` for a cursor that is not ours.
    """
    where = matches(question)
    page = where
    if cursor is not None:
        stored_ns, sequence = _decode(cursor)
        # The time by itself too: SQLite takes a pair for no bound of an index that has the time alone.
        page = and_(
            where,
            _event.c.stored_ns <= stored_ns,
            tuple_(_event.c.stored_ns, _event.c.sequence) < tuple_(stored_ns, sequence),
        )
    order = (_event.c.stored_ns.desc(), _event.c.sequence.desc())
    return await _page(engine, where, select(_event).where(page).order_by(*order), limit)


async def in_order(engine: AsyncEngine, question: Question, limit: int, cursor: str | None = None) -> Found:
    """The oldest ``limit`` events that match, after ``cursor``: as it happened.

    Raises:
        ToolError: ``invalid_arguments`` for a cursor that is not ours.
    """
    return await _page(engine, matches(question), _oldest_first(question, cursor), limit)


async def rows_in_order(
    engine: AsyncEngine, question: Question, limit: int, cursor: str | None = None
) -> tuple[Sequence[Row[Any]], bool]:
    """The rows of ``in_order``, not counted, and whether there are more.

    Raises:
        ToolError: ``invalid_arguments`` for a cursor that is not ours.
    """
    async with engine.connect() as connection:
        rows = (await connection.execute(_oldest_first(question, cursor).limit(limit + 1))).all()
    return rows[:limit], len(rows) > limit


def _oldest_first(question: Question, cursor: str | None) -> Select[Any]:
    page = matches(question)
    if cursor is not None:
        stored_ns, sequence = _decode(cursor)
        page = and_(
            page,
            _event.c.stored_ns >= stored_ns,
            tuple_(_event.c.stored_ns, _event.c.sequence) > tuple_(stored_ns, sequence),
        )
    return select(_event).where(page).order_by(_event.c.stored_ns, _event.c.sequence)


async def _page(engine: AsyncEngine, where: ColumnElement[bool], statement: Select[Any], limit: int) -> Found:
    statement = statement.limit(limit + 1)
    # The time alone: it is in every index, so that counting touches no row.
    counted = select(_event.c.stored_ns).where(where).limit(_COUNTED_MAX + 1).subquery()
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
        total = int((await connection.execute(select(func.count()).select_from(counted))).scalar_one())
    kept = rows[:limit]
    return Found(
        entries=[entry_of(row) for row in kept],
        cursors=[cursor_at(row.stored_ns, row.sequence) for row in kept],
        more=len(rows) > limit,
        total=total if total <= _COUNTED_MAX else None,
    )


def matches(question: Question) -> ColumnElement[bool]:
    """The condition on the table."""
    conditions: list[ColumnElement[bool] | TextClause] = []
    for name in EXACT:
        wanted = getattr(question, name)
        if name == "actor" and question.pseudonym is not None:
            conditions.append(_event.c.actor.in_([wanted, question.pseudonym]))
        elif wanted is not None:
            conditions.append(_event.c[name] == wanted)
    if question.stage is not None and question.stage not in tables.STAGES_COMMON:
        conditions.append(text(tables.STAGE_IS_RARE))
    if question.outcome is not None and question.outcome not in tables.OUTCOMES_COMMON:
        conditions.append(text(tables.OUTCOME_IS_RARE))
    if question.since is not None:
        conditions.append(_event.c.stored_ns >= nanos(question.since))
    if question.until is not None:
        conditions.append(_event.c.stored_ns <= nanos(question.until))
    if question.unreadable is not None:
        conditions.append(_event.c.unreadable.is_(question.unreadable))
    if question.mutating is not None:
        conditions.append(_event.c.mutating.is_(question.mutating))
    if question.first is not None:
        conditions.append(_event.c.sequence >= question.first)
    if question.last is not None:
        conditions.append(_event.c.sequence <= question.last)
    for word in question.text.split():
        found = [_event.c[name].icontains(word, autoescape=True) for name in ("search_text", "tool", "actor", "error")]
        conditions.append(found[0] | found[1] | found[2] | found[3])
    return and_(True, *conditions)


def nanos(moment: datetime) -> int:
    """Unix nanoseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def moment_of(stored_ns: int) -> datetime:
    """The moment of Unix nanoseconds, to the microsecond."""
    return _EPOCH + timedelta(microseconds=stored_ns // 1_000)


def cursor_at(stored_ns: int, sequence: int) -> str:
    """The cursor after an event."""
    return base64.urlsafe_b64encode(f"{stored_ns}.{sequence}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[int, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        stored_ns, sequence = (int(part) for part in text.split("."))
        if not (0 <= stored_ns < 2**63 and 0 <= sequence < 2**63):
            raise ValueError("out of range")
    except (ValueError, binascii.Error) as error:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "the cursor is not one this search gave",
            hint="pass page.next_cursor unchanged, or leave cursor out to start at the newest",
        ) from error
    return stored_ns, sequence


def entry_of(row: Row[Any]) -> Entry:
    """A row as an entry: what the bytes say, and what the stream and the store know about them."""
    message = Stored(row.stream, row.sequence, row.subject, row.stored_ns, json.loads(row.headers), row.payload)
    entry = entry_of_message(message)
    entry.fault = row.fault
    entry.duplicate_of = row.duplicate_of
    return entry


def entry_of_message(message: Stored) -> Entry:
    """A message of the stream as an entry."""
    tokens = message.subject.split(".")
    stored_at = moment_of(message.stored_ns)
    known: dict[str, Any] = {"sequence": message.sequence, "stored_at": stored_at, "subject": message.subject}
    known["emitter"] = tokens[1] if len(tokens) > 1 else ""
    event, fault = read_event(message.payload)
    if event is None:
        raw = message.payload[:400].decode("utf-8", "replace")
        stage = tokens[2] if len(tokens) == 3 else ""
        return Entry(**known, stage=stage, service=known["emitter"], unreadable=True, fault=fault, raw=raw)
    data = event.data
    shown = data.model_dump(
        include={
            "call", "actor", "roles", "auth", "client", "method", "tool", "mutating", "arguments", "reason",
            "change_id", "rule", "message", "attempts", "duration_ms", "version", "instance", "trace_id",
            "approver", "target", "details", "address", "session", "personal", "result_bytes", "result_digest",
        }
    )  # fmt: skip
    return Entry(
        **known,
        **shown,
        id=event.id,
        time=event.time,
        stage=str(data.stage),
        outcome=outcome_of(data),
        service=data.service or known["emitter"],
        executed=data.executed.value if data.executed else "",
        error=str(data.error or ""),
    )
