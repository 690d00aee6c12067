"""The tool `audit_search`: who did what, when, and how it ended. The statement behind it is search.py's."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus.personal import PersonsError
from opsbus.when import parse_when
from opsbus_audit.persons import also_by_pseudonym, reveal
from opsbus_audit.record import Outcome
from opsbus_audit.search import Entry, Found, Question, search
from opsbus_audit.store import AuditStore
from opsbus_audit.timeline import line
from opsbus_contracts import Stage
from opsbus_contracts.audit import PlatformStage

SOURCE = "audit store"
_BUDGET_BYTES = 22_000


class EntryPage(Page[Entry]):
    """Events of the record, newest first."""

    def to_text(self) -> str:
        """What a person reads."""
        total = "more than can be counted" if self.page.total is None else self.page.total
        lines = [f"{total} events match, newest first; {self.page.returned} shown"]
        lines += [line(entry) for entry in self.items[:40]]
        if len(self.items) > 40:
            lines.append(f"... and {len(self.items) - 40} more on this page")
        return "\n".join([*lines, *self.warnings])


async def search_events(
    ctx: Context[AuditStore],
    actor: Annotated[str | None, Field(description="Who: `sub` of the identity, exactly.", max_length=256)] = None,
    tool: Annotated[
        str | None, Field(description="MCP name of the tool: k8s_scale_deployment.", max_length=512)
    ] = None,
    service: Annotated[str | None, Field(description="The service called: k8s.", max_length=64)] = None,
    stage: Annotated[
        Stage | PlatformStage | None, Field(description="The step of a call, or what happened to the platform.")
    ] = None,
    call: Annotated[str | None, Field(description="Call id: every step of one call.", max_length=64)] = None,
    outcome: Annotated[Outcome | None, Field(description="How the step left the call; open: not ended yet.")] = None,
    since: Annotated[str | None, Field(description="RFC 3339 or now-1h.", max_length=64)] = None,
    until: Annotated[str | None, Field(description="RFC 3339 or now-5m.", max_length=64)] = None,
    text: Annotated[
        str, Field(description="Words that must all occur: reason, arguments, message, tool, actor.", max_length=200)
    ] = "",
    unreadable: Annotated[bool | None, Field(description="Only events that could (not) be read.")] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Events at most.")] = 50,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=200)] = None,
) -> EntryPage:
    """Search the audit record: every step of every call, newest first.

    Filters are exact and must all match. An event appears here within a second or two of being recorded.
    """
    now = datetime.now(UTC)
    begin = parse_when(since, "since", now) if since else None
    end = parse_when(until, "until", now) if until else None
    if begin and end and begin > end:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "since is after until", hint="swap them")
    question = Question(
        actor=actor,
        tool=tool,
        service=service,
        stage=stage.value if stage else None,
        call=call,
        outcome=outcome.value if outcome else None,
        since=begin,
        until=end,
        text=text,
        unreadable=unreadable,
    )
    try:
        found = await search(ctx.state.engine, await also_by_pseudonym(ctx.state.persons, question), limit, cursor)
    except PersonsError as error:
        raise ToolError(ErrorCode.UNAVAILABLE, str(error), hint="try again shortly") from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise unavailable(error) from error
    return _page(found, await reveal(ctx.state.persons, found.entries))


def unavailable(error: Exception, hint: str = "") -> ToolError:
    """The error of a store that does not answer."""
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"the audit store did not answer ({type(error).__name__})",
        hint=hint or "try again shortly; if it stays, check the database behind OPSBUS_AUDIT_DATABASE_URL",
    )


def _page(found: Found, sealed: str) -> EntryPage:
    after = found.cursors[-1] if found.more else None
    warnings = [sealed] if sealed else []
    if any(entry.unreadable for entry in found.entries):
        warnings.append("some events could not be read: see their `fault` and `raw`")
    page = Page[Entry].fit(
        list(found.entries),
        budget_bytes=_BUDGET_BYTES,
        total=found.total,
        cursor=after,
        warnings=warnings,
        source=SOURCE,
    )
    returned = len(page.items)
    if 0 < returned < len(found.entries):
        page.page.next_cursor = found.cursors[returned - 1]
    return EntryPage(**dict(page))
