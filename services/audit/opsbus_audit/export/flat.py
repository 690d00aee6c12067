"""An event as one flat row: the columns of CSV and Parquet."""

from typing import Any

import orjson

from opsbus_audit.ordered import Recorded
from opsbus_audit.reading import outcome_of_data
from opsbus_audit.replay.forms import stored_at

_TEXT = (
    "stage", "call", "actor", "auth", "client", "protocol", "method", "tool", "service", "version", "instance",
    "reason", "change_id", "rule", "executed", "error", "message", "arguments_digest", "result_digest", "trace_id",
    "address", "session", "policy", "approver", "target", "idempotency_key",
)  # fmt: skip
_NUMBERS = ("seq", "attempts", "duration_ms", "request_bytes", "result_bytes")
COLUMNS = (
    "sequence", "stored_at", "subject", "id", "source", "time", "unreadable", "outcome", "mutating",
    *_TEXT, *_NUMBERS, "roles", "arguments", "details",
)  # fmt: skip
NUMERIC = frozenset(_NUMBERS)


def flat(recorded: Recorded, event: Any) -> dict[str, Any]:
    """The row; columns that the event does not have are left out."""
    row: dict[str, Any] = {
        "sequence": recorded.sequence,
        "stored_at": stored_at(recorded.stored_ns),
        "subject": recorded.subject,
        "unreadable": event is None,
    }
    if event is None:
        return row
    data = event["data"]
    row |= {name: str(event[name]) for name in ("id", "source", "time") if name in event}
    row |= {name: str(data[name]) for name in _TEXT if data.get(name)}
    for name in _NUMBERS:
        if isinstance(value := data.get(name), int | float) and not isinstance(value, bool):
            row[name] = value
    row["outcome"], row["mutating"] = outcome_of_data(data), data.get("mutating") is True
    for name in ("roles", "arguments", "details"):
        if data.get(name):
            row[name] = orjson.dumps(data[name]).decode()
    return row
