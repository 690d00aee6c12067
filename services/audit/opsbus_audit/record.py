"""From a message of the stream to a row of the store: the exact bytes, and what can be read in them. Nothing is
refused here."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from nats.aio.msg import Msg
from pydantic import ValidationError

from opsbus_audit import tables
from opsbus_contracts import AuditEvent, AuditRecord, Stage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEARCH_TEXT_MAX = 4_000
_FAULT_MAX = 300
COLUMNS = tuple(column.name for column in tables.event.columns)
"""Of a row, in its order."""
Row = tuple[Any, ...]
"""Values in the order of ``COLUMNS``."""
_V1_TOKENS = 9
"""``$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>...``; a longer form has domain and account hash before them."""


class Outcome(StrEnum):
    """How the step left the call."""

    OPEN = "open"
    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


OUTCOMES: dict[str, Outcome] = {
    Stage.REQUESTED: Outcome.OPEN,
    Stage.INPUT_REQUIRED: Outcome.OPEN,
    Stage.APPROVED: Outcome.OPEN,
    Stage.COMPLETED: Outcome.SUCCESS,
    Stage.FAILED: Outcome.FAILURE,
    Stage.DENIED: Outcome.DENIED,
    Stage.LIMITED: Outcome.DENIED,
    Stage.UNKNOWN: Outcome.UNKNOWN,
    Stage.CANCELLED: Outcome.CANCELLED,
}


class Stored(NamedTuple):
    """A message as the stream holds it."""

    stream: str
    sequence: int
    subject: str
    stored_ns: int
    headers: dict[str, str]
    payload: bytes


def stored(message: Msg, stream: str) -> Stored:
    """What a delivered message is in the stream. ``stream`` names the stream's life."""
    # The client's own metadata has the time as a float, which forgets nanoseconds; a proof needs them.
    tokens = message.reply.split(".")
    sequence, nanoseconds = (tokens[5], tokens[7]) if len(tokens) == _V1_TOKENS else (tokens[7], tokens[9])
    return Stored(stream, int(sequence), message.subject, int(nanoseconds), message.headers or {}, message.data)


def outcome_of(record: AuditRecord) -> Outcome | None:
    """None for a stage that a later release added. A completed call with an error has failed."""
    outcome = OUTCOMES.get(record.stage)
    return Outcome.FAILURE if outcome is Outcome.SUCCESS and record.error else outcome


def read_event(payload: bytes) -> tuple[AuditEvent | None, str]:
    """The event in a payload, or None and what is wrong with it."""
    try:
        return AuditEvent.model_validate_json(payload), ""
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return None, f"{where + ': ' if where else ''}{first['msg']}"[:_FAULT_MAX]


class Note(NamedTuple):
    """What an event says that no column holds: its number at its source, and the deadline of its call."""

    sequence: int
    source: str
    number: int
    stage: str
    call: str
    deadline_ms: int
    stored_ns: int


def row(message: Stored) -> dict[str, Any]:
    """The row of a message, by column."""
    return dict(zip(COLUMNS, row_and_note(message)[0], strict=True))


def row_and_note(message: Stored) -> tuple[Row, Note | None]:
    """The row of a message, and what else an event says. One that cannot be read is kept too, flagged, with what its
    subject tells."""
    event, fault = read_event(message.payload)
    subject, emitter, said = _subject(message.subject)
    head = (message.stream, message.sequence, subject, message.stored_ns, _as_json(message.headers), message.payload)
    if event is None:
        text = _clean(message.payload.decode("utf-8", "replace"), _SEARCH_TEXT_MAX)
        unreadable = (
            *head, True, _clean(fault, _FAULT_MAX), None, "", "", message.stored_ns // 1_000, emitter,
            _clean(said, 64), "", "", "", "", emitter, False, "", "", "", text,
        )  # fmt: skip
        return unreadable, None
    data = event.data
    stage, outcome, executed, error = str(data.stage), outcome_of(data), data.executed, data.error
    if stage != said:
        fault = _clean(f"the subject says stage {said!r}, the event {stage!r}", _FAULT_MAX)
    source, kept_stage, call = _clean(event.source, 256), _clean(stage, 64), _clean(data.call, 64)
    row = (
        *head,
        False,
        fault,
        None,
        _clean(event.id, 64),
        source,
        _micros(event.time),
        emitter,
        kept_stage,
        call,
        _clean(data.actor, 256),
        _clean(data.method, 64),
        _clean(data.tool, 512),
        _clean(data.service, 64) if data.service else emitter,
        data.mutating,
        outcome.value if outcome else "",
        executed.value if executed else "",
        _clean(str(error), 64) if error else "",
        _clean(_words(data), _SEARCH_TEXT_MAX),
    )
    return row, Note(message.sequence, source, data.seq, kept_stage, call, data.deadline_ms, message.stored_ns)


def _words(data: AuditRecord) -> str:
    """What a search for words looks at."""
    words = [data.reason, data.message, data.change_id, data.rule, data.client]
    if data.arguments:
        words.append(json.dumps(data.arguments, ensure_ascii=False, default=str))
    return " ".join([word for word in words if word])


@lru_cache(maxsize=1_024)
def _subject(subject: str) -> tuple[str, str, str]:
    """As it is kept, who emitted its events, and which stage it says."""
    tokens = subject.split(".")
    emitter, stage = (tokens[1], tokens[2]) if len(tokens) == 3 else ("", "")
    return _clean(subject, 256), _clean(emitter, 64), stage


def _as_json(headers: dict[str, str]) -> str:
    return "{" + ", ".join([f"{_quoted(name)}: {_quoted(value)}" for name, value in headers.items()]) + "}"


def _clean(value: str, most: int) -> str:
    # PostgreSQL's text takes neither NUL nor half a surrogate pair; the exact bytes are kept in `payload`.
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value[:most]


def _micros(moment: datetime) -> int:
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
