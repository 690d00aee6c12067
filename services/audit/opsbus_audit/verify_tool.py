"""The tool `audit_verify`: a page of the stored record against its leaves and the last signed checkpoint. All of it at
once, and without trusting the worker, is `opsbus audit verify`."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from opsbus import Context, ErrorCode, Page, PageInfo, ToolError
from opsbus_audit.proof.finding import Report
from opsbus_audit.proof.in_store import verify_part
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.note import NoteError
from opsbus_audit.proof.stored import last_sequence
from opsbus_audit.store import AuditStore

SOURCE = "audit store"


class Problem(BaseModel):
    """The first event of the page that is not as it was recorded."""

    kind: str = Field(description="altered, missing, reordered, duplicated, invented, or forged.")
    sequence: int = Field(description="Of the event; 0: it is about no event.")
    what: str


class Verified(Page[Problem]):
    """What a page of the record was found to be; no item: nothing is wrong with it."""

    ok: bool = Field(description="Nothing is wrong with this page.")
    first: int = Field(description="First and last sequence that was looked at.")
    last: int
    events: int = Field(description="Events that are what was recorded.")
    let_go: int = Field(description="Events that the retention policy let go of; their leaves are there.")
    unsigned: int = Field(description="Events that no checkpoint covers yet.")
    tree_size: int = Field(description="Leaves under the last checkpoint; 0: nothing is signed.")
    root: str = Field(description="Its root, hex.")

    def to_text(self) -> str:
        """What a person reads."""
        if not self.ok:
            return "\n".join(f"{item.kind.upper()}: {item.what}" for item in self.items)
        said = f"events {self.first} to {self.last}: {self.events} are what was recorded"
        signed = f", under the checkpoint of {self.tree_size} leaves" if self.tree_size else ", and nothing is signed"
        more = f"\ngo on with cursor {self.page.next_cursor}" if self.page.next_cursor else ""
        return f"{said}{signed}{more}"


async def verify_events(
    ctx: Context[AuditStore],
    first: Annotated[int, Field(ge=1, description="Sequence of the stream to begin with.")] = 1,
    limit: Annotated[int, Field(ge=1, le=5_000, description="Events to look at, at most.")] = 2_000,
    cursor: Annotated[str | None, Field(description="page.next_cursor of the page before.", max_length=20)] = None,
) -> Verified:
    """Verify stored events against the Merkle tree: each against its leaf, and the leaves against the last checkpoint.

    A page says nothing about the other pages. Whoever does not trust this worker runs `opsbus audit verify`.
    """
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and int(cursor) >= 1):
            raise ToolError(ErrorCode.INVALID_ARGUMENTS, "this is no cursor", hint="take page.next_cursor as it is")
        first = int(cursor)
    store = ctx.state
    try:
        end = await last_sequence(store.engine)
        report = await verify_part(store.engine, store.verifier_keys, first, min(first + limit - 1, end))
    except (ProofError, NoteError) as error:
        raise ToolError(
            ErrorCode.INTERNAL, f"the tree of the store is damaged: {error}", hint="run: opsbus audit verify"
        ) from None
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"the audit store did not answer ({type(error).__name__})",
            hint="try again shortly; if it stays, check the database behind OPSBUS_AUDIT_DATABASE_URL",
        ) from error
    return _page(report, end)


def _page(report: Report, end: int) -> Verified:
    found = report.finding
    items = [] if found is None else [Problem(kind=found.kind.value, sequence=found.sequence, what=found.what)]
    after = str(report.last + 1) if report.last < end and report.ok else None
    return Verified(
        items=items,
        page=PageInfo(returned=len(items), total=len(items), next_cursor=after, truncated=after is not None),
        source=SOURCE,
        as_of=datetime.now(UTC),
        ok=report.ok,
        first=report.first,
        last=report.last,
        events=report.events,
        let_go=report.let_go_events,
        unsigned=report.unsigned,
        tree_size=report.signed,
        root=report.root,
    )
