"""From a message of the stream to a row of the store: the exact bytes, and what can be read in them. Nothing is
refused here."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
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
_encode = json.JSONEncoder(ensure_ascii=True).encode
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


@dataclass(frozen=True)
class Stored:
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
    return Stored(
        stream=stream,
        sequence=int(sequence),
        subject=message.subject,
        stored_ns=int(nanoseconds),
        headers=dict(message.headers or {}),
        payload=message.data,
    )


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
    """The row of a message."""
    return row_and_note(message)[0]


def row_and_note(message: Stored) -> tuple[dict[str, Any], Note | None]:
    """The row of a message, and what else an event says. One that cannot be read is kept too, flagged, with what its
    subject tells."""
    event, fault = read_event(message.payload)
    columns = _columns(message, event, fault)
    if event is None:
        return columns, None
    data = event.data
    return columns, Note(
        sequence=message.sequence,
        source=columns["event_source"],
        number=data.seq,
        stage=columns["stage"],
        call=columns["call"],
        deadline_ms=data.deadline_ms,
        stored_ns=message.stored_ns,
    )


def _columns(message: Stored, event: AuditEvent | None, fault: str) -> dict[str, Any]:
    tokens = message.subject.split(".")
    emitter, stage = (tokens[1], tokens[2]) if len(tokens) == 3 else ("", "")
    if event is not None and str(event.data.stage) != stage:
        fault = f"the subject says stage {stage!r}, the event {str(event.data.stage)!r}"
    columns: dict[str, Any] = {
        "stream": message.stream,
        "sequence": message.sequence,
        "subject": _clean(message.subject, 256),
        "stored_ns": message.stored_ns,
        "headers": _encode(message.headers),
        "payload": message.payload,
        "unreadable": event is None,
        "fault": _clean(fault, _FAULT_MAX),
        "duplicate_of": None,
        "event_id": "",
        "event_source": "",
        "time_us": message.stored_ns // 1_000,
        "emitter": _clean(emitter, 64),
        "stage": _clean(stage, 64),
        "call": "",
        "actor": "",
        "method": "",
        "tool": "",
        "service": _clean(emitter, 64),
        "mutating": False,
        "outcome": "",
        "executed": "",
        "error": "",
        "search_text": "",
    }
    if event is None:
        columns["search_text"] = _clean(message.payload.decode("utf-8", "replace"), _SEARCH_TEXT_MAX)
    else:
        columns.update(_read_columns(event, emitter))
    return columns


def _read_columns(event: AuditEvent, emitter: str) -> dict[str, Any]:
    data = event.data
    words = [data.reason, data.message, data.change_id, data.rule, data.client]
    if data.arguments:
        words.append(json.dumps(data.arguments, ensure_ascii=False, default=str))
    return {
        "event_id": _clean(event.id, 64),
        "event_source": _clean(event.source, 256),
        "time_us": _micros(event.time),
        "stage": _clean(str(data.stage), 64),
        "call": _clean(data.call, 64),
        "actor": _clean(data.actor, 256),
        "method": _clean(data.method, 64),
        "tool": _clean(data.tool, 512),
        "service": _clean(data.service or emitter, 64),
        "mutating": data.mutating,
        "outcome": outcome_of(data) or "",
        "executed": data.executed.value if data.executed else "",
        "error": _clean(str(data.error or ""), 64),
        "search_text": _clean(" ".join(word for word in words if word), _SEARCH_TEXT_MAX),
    }


def _clean(value: str, most: int) -> str:
    # PostgreSQL's text takes neither NUL nor half a surrogate pair; the exact bytes are kept in `payload`.
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value if len(value) <= most else value[:most]


def _micros(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
