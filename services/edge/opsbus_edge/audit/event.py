"""An audit event's bytes: a CloudEvent around an AuditRecord (contracts/audit.py), numbered at its source."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from opsbus_contracts.audit import PlatformStage, Stage
from opsbus_contracts.subjects import audit_subject
from opsbus_edge.unforeseen import hex_digits

SOURCE = "edge"


class Event(NamedTuple):
    """Ready to be published."""

    subject: str
    id: str
    body: bytes


class EventMaker:
    """Makes the events of one edge process, numbered from 1: a gap in the record is visible."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._source = f"/opsbus/{SOURCE}/{instance}"
        self._seq = 0

    def make(self, stage: Stage | PlatformStage, record: dict[str, Any], traceparent: str | None = None) -> Event:
        """The event of a stage.

        Args:
            stage: The step.
            record: AuditRecord's fields but ``stage`` and ``seq``; empty ones are left out.
            traceparent: The call's trace.
        """
        self._seq += 1
        name = stage.value
        data = {"stage": name, "seq": self._seq, **{field: value for field, value in record.items() if value}}
        event: dict[str, Any] = {
            "specversion": "1.0",
            # Not to be foreseen: whoever stored an event under the next id first would have this one dropped as a copy.
            "id": f"{self._instance}-{self._seq}-{hex_digits(16)}",
            "source": self._source,
            "type": f"opsbus.audit.v1.{name}",
            "subject": record.get("tool") or None,
            "time": datetime.now(UTC),
            "datacontenttype": "application/json",
            "data": data,
        }
        if traceparent:
            event["traceparent"] = traceparent
        return Event(audit_subject(SOURCE, name), event["id"], _exact(orjson.dumps(event)))


def _exact(made: bytes) -> bytes:
    """A copy of its own size: orjson leaves room for four times as much, and thousands may wait for a bus."""
    return bytes(memoryview(made))
