"""The tool `audit_read_events`: the record as it was stored, oldest first, for a program that keeps up with it, such as
a SIEM. The edge's ``GET /api/v1/audit/events`` is this tool as NDJSON."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus.when import parse_when
from opsbus_audit.reading import json_of
from opsbus_audit.record import Outcome
from opsbus_audit.search import Question, cursor_at, moment_of, rows_in_order
from opsbus_audit.search_tools import SOURCE, unavailable
from opsbus_audit.store import AuditStore
from opsbus_contracts import Stage
from opsbus_contracts.audit import PlatformStage

BUDGET_BYTES = 800_000
"""Of one answer: a program reads it, not a model."""

SETTLE_S = 5.0
"""What was stored this short a time ago is not given yet: two instances of the worker may store their batches in
another order than the stream's, and a cursor must not pass what is still to come. Seconds."""


class StoredEvent(BaseModel):
    """An event, and where it stands."""

    sequence: int
    stored_at: datetime
    subject: str
    event: dict[str, Any] | None = Field(description="The CloudEvent; null: the bytes are none, see `raw`.")
    raw: str = Field(default="", description="The start of what is no event.")


class EventPage(Page[StoredEvent]):
    """Events in the order they were stored."""

    resume_cursor: str | None = Field(
        default=None, description="Pass it as cursor later, for what has come since. Also when this is the end."
    )

    def to_text(self) -> str:
        """What a person reads."""
        return "\n".join([f"{self.page.returned} events, oldest first", *self.warnings])


async def read_events(
    ctx: Context[AuditStore],
    actor: Annotated[str | None, Field(description="Only this caller.", max_length=256)] = None,
    tool: Annotated[str | None, Field(description="Only this tool: k8s_scale_deployment.", max_length=512)] = None,
    service: Annotated[str | None, Field(description="Only calls of this service: k8s.", max_length=64)] = None,
    stage: Annotated[
        Stage | PlatformStage | None, Field(description="Only this step of calls, or this of the platform.")
    ] = None,
    outcome: Annotated[Outcome | None, Field(description="Only steps that left the call so.")] = None,
    since: Annotated[str | None, Field(description="RFC 3339 or now-1h. Ignored with a cursor.", max_length=64)] = None,
    until: Annotated[str | None, Field(description="RFC 3339 or now-5m.", max_length=64)] = None,
    limit: Annotated[int, Field(ge=1, le=1_000, description="Events at most.")] = 500,
    cursor: Annotated[str | None, Field(description="resume_cursor of the answer before.", max_length=200)] = None,
) -> EventPage:
    """Read the audit record in order, oldest first, with a cursor to come back with."""
    now = datetime.now(UTC)
    settled = now - timedelta(seconds=SETTLE_S)
    begin = parse_when(since, "since", now) if since and cursor is None else None
    end = min(parse_when(until, "until", now), settled) if until else settled
    if begin and until and begin > parse_when(until, "until", now):
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "since is after until", hint="swap them")
    question = Question(
        actor=actor, tool=tool, service=service, stage=stage.value if stage else None,
        outcome=outcome.value if outcome else None, since=begin, until=end,
    )  # fmt: skip
    try:
        rows, more = await rows_in_order(ctx.state.engine, question, limit, cursor)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error) from error
    items = [_event(row) for row in rows]
    cursors = [cursor_at(row.stored_ns, row.sequence) for row in rows]
    page = Page[StoredEvent].fit(
        items, budget_bytes=BUDGET_BYTES - 10_000, cursor=lambda kept: cursors[kept - 1], source=SOURCE
    )
    kept = len(page.items)
    if more and kept == len(items):
        page.page.next_cursor, page.page.truncated = cursors[-1], True
    return EventPage(**dict(page), resume_cursor=cursors[kept - 1] if kept else cursor)


def _event(row: Any) -> StoredEvent:
    payload = bytes(row.payload)
    event = json_of(payload)
    return StoredEvent(
        sequence=row.sequence,
        stored_at=moment_of(row.stored_ns),
        subject=row.subject,
        event=event,
        raw="" if event is not None else payload[:400].decode("utf-8", "replace"),
    )
