"""The tools `audit_get_call` (one call from its request to its end) and `audit_summarize` (who did what to which
system). The statements are search.py's and summary.py's."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus.when import parse_when
from opsbus_audit.record import Outcome
from opsbus_audit.search import Entry, Question, in_order
from opsbus_audit.search_tools import SOURCE, unavailable
from opsbus_audit.store import AuditStore
from opsbus_audit.summary import summarize
from opsbus_audit.timeline import line
from opsbus_contracts.audit import ENDS

_BUDGET_BYTES = 22_000
_OFFSET_MAX = 100_000

GroupBy = Literal["actor", "service", "tool", "outcome", "stage", "error", "method"]


class CallTimeline(Page[Entry]):
    """Every step of one call, in order."""

    call: str
    tool: str = ""
    actor: str = ""
    started_at: datetime | None = Field(default=None, description="The first step shown.")
    ended_at: datetime | None = Field(default=None, description="null: no end is recorded among these steps.")
    outcome: Outcome | None = None

    def to_text(self) -> str:
        """What a person reads."""
        ended = self.outcome.value if self.outcome else "not ended"
        head = f"call {self.call}: {self.tool} by {self.actor or '(nobody)'}, {ended}"
        return "\n".join([head, *(line(entry) for entry in self.items), *self.warnings])


class Line(BaseModel):
    """So many calls of a kind."""

    actor: str | None = None
    service: str | None = Field(default=None, description="The system called.")
    tool: str | None = None
    outcome: str | None = None
    stage: str | None = None
    error: str | None = None
    method: str | None = None
    calls: int
    writes: int = Field(description="Of these, calls that may change something.")
    first: datetime
    last: datetime


class Summary(Page[Line]):
    """Groups of calls, the largest first."""

    since: datetime
    until: datetime

    def to_text(self) -> str:
        """What a person reads."""
        lines = [f"calls that ended from {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"]
        for item in self.items[:60]:
            named = (item.actor, item.service, item.tool, item.method, item.stage, item.outcome, item.error)
            words = "  ".join(word or "-" for word in named if word is not None)
            lines.append(f"{item.calls:>8}  {words}{f'  ({item.writes} writes)' if item.writes else ''}")
        return "\n".join([*lines, *self.warnings])


async def get_call(
    ctx: Context[AuditStore],
    call: Annotated[str, Field(description="The call id, 32 hex digits.", pattern=r"^[0-9A-Za-z_-]{1,64}$")],
    limit: Annotated[int, Field(ge=1, le=200, description="Steps at most.")] = 100,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=200)] = None,
) -> CallTimeline:
    """Everything the record has of one call, in order: asked, decided, carried out, ended."""
    try:
        found = await in_order(ctx.state.engine, Question(call=call), limit, cursor)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error) from error
    if not found.entries and cursor is None:
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"the record has no call {call!r}",
            hint="audit_search finds calls by caller, tool and time; the id must be whole",
        )
    cursors = found.cursors
    page = Page[Entry].fit(
        list(found.entries),
        budget_bytes=_BUDGET_BYTES,
        total=found.total,
        cursor=lambda kept: cursors[kept - 1],
        source=SOURCE,
    )
    if found.more and len(page.items) == len(found.entries):
        page.page.next_cursor, page.page.truncated = cursors[-1], True
    steps = page.items
    ended = next((entry for entry in reversed(steps) if entry.stage in {stage.value for stage in ENDS}), None)
    return CallTimeline(
        **dict(page),
        call=call,
        tool=next((entry.tool for entry in steps if entry.tool), ""),
        actor=next((entry.actor for entry in steps if entry.actor), ""),
        started_at=(steps[0].time or steps[0].stored_at) if steps else None,
        ended_at=(ended.time or ended.stored_at) if ended else None,
        outcome=ended.outcome if ended else None,
    )


async def summarize_calls(
    ctx: Context[AuditStore],
    by: Annotated[
        list[GroupBy] | None,
        Field(
            description="What to group by; unless given, who did what to which system and how it ended.",
            min_length=1,
            max_length=4,
        ),
    ] = None,
    actor: Annotated[str | None, Field(description="Only this caller.", max_length=256)] = None,
    tool: Annotated[str | None, Field(description="Only this tool: k8s_scale_deployment.", max_length=512)] = None,
    service: Annotated[str | None, Field(description="Only this service: k8s.", max_length=64)] = None,
    outcome: Annotated[Outcome | None, Field(description="Only calls that ended so.")] = None,
    writes: Annotated[bool | None, Field(description="Only calls that may (not) change something.")] = None,
    since: Annotated[str, Field(description="RFC 3339 or now-1d.", max_length=64)] = "now-1d",
    until: Annotated[str, Field(description="RFC 3339 or now.", max_length=64)] = "now",
    limit: Annotated[int, Field(ge=1, le=200, description="Groups at most.")] = 50,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=200)] = None,
) -> Summary:
    """Who did what to which system: calls that ended in a period, grouped and counted, the largest groups first."""
    now = datetime.now(UTC)
    begin, end = parse_when(since, "since", now), parse_when(until, "until", now)
    if begin > end:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "since is after until", hint="swap them")
    offset, end = _decode(cursor, end)
    question = Question(
        actor=actor, tool=tool, service=service, outcome=outcome.value if outcome else None,
        mutating=writes, since=begin, until=end,
    )  # fmt: skip
    chosen = list(dict.fromkeys(by or ("actor", "service", "tool", "outcome")))
    try:
        groups = await summarize(ctx.state.engine, question, chosen, limit + 1, offset)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error, "ask for a shorter period") from error
    lines = [
        Line(**group.by, calls=group.calls, writes=group.writes, first=group.first, last=group.last)
        for group in groups[:limit]
    ]
    page = Page[Line].fit(
        lines, budget_bytes=_BUDGET_BYTES, cursor=lambda kept: _encode(offset + kept, end), source=SOURCE
    )
    if len(groups) > limit and len(page.items) == len(lines):
        page.page.next_cursor, page.page.truncated = _encode(offset + limit, end), True
    return Summary(**dict(page), since=begin, until=end)


def _encode(offset: int, until: datetime) -> str:
    # The end of the period goes along: `now` moves between two pages, and the groups with it.
    micros = (until - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{offset}.{micros}".encode()).decode().rstrip("=")


def _decode(cursor: str | None, until: datetime) -> tuple[int, datetime]:
    if cursor is None:
        return 0, until
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        offset, micros = (int(part) for part in text.split("."))
        if not 0 <= offset <= _OFFSET_MAX:
            raise ValueError("out of range")
        return offset, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "the cursor is not one this summary gave",
            hint="pass page.next_cursor unchanged, or leave cursor out",
        ) from error
