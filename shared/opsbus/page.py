"""Lists as tools return them: items, what was left out, when and from where.

Cutting to a budget lives here, paging in the tools.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

Item = TypeVar("Item")

BUDGET_BYTES = 24_000
"""The default budget of a result. Bytes of JSON."""

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_ENVELOPE_BYTES = 600  # page, as_of, source and the first warnings


class PageInfo(BaseModel):
    """How much of the list this is."""

    returned: int = Field(ge=0, description="Items in this answer.")
    total: int | None = Field(default=None, ge=0, description="Items there are; null: not known.")
    next_cursor: str | None = Field(default=None, description="Pass it as cursor for the next items.")
    truncated: bool = Field(default=False, description="There is more than was returned.")


class Page(BaseModel, Generic[Item]):
    """A list, never cut silently."""

    items: list[Item]
    page: PageInfo
    warnings: list[str] = Field(default_factory=list, description="What a reader must know to read this right.")
    as_of: datetime = Field(description="When this was true. RFC 3339.")
    source: str = Field(default="", description="Where it was read.")

    @classmethod
    def fit(
        cls,
        items: list[Any],
        *,
        budget_bytes: int = BUDGET_BYTES,
        total: int | None = None,
        cursor: str | Callable[[int], str] | None = None,
        warnings: list[str] | None = None,
        source: str = "",
        as_of: datetime | None = None,
    ) -> "Page[Item]":
        """A page of whole items whose JSON fits the budget.

        Args:
            items: In the order that matters: the first are kept.
            budget_bytes: Most bytes of JSON.
            total: Items there are in all, when known; at least ``len(items)``.
            cursor: Cursor after the last of ``items``: dropped when items are cut, for it would skip them. A function
                gives the cursor after that many items, and is asked when items are cut.
            warnings: Kept first; a cut adds one.
            source: Where the items were read.
            as_of: Default: now.
        """
        notes = list(warnings or [])
        room = budget_bytes - _ENVELOPE_BYTES - sum(len(note) + 4 for note in notes) - len(source)
        kept = _whole_items(items, room)
        if kept < len(items):
            notes.append(
                f"{len(items) - kept} of {len(items)} items were left out to keep the answer within {budget_bytes}"
                " bytes: narrow the query, or ask for fewer at a time"
            )
        after = cursor(kept) if callable(cursor) and kept < len(items) else None
        if isinstance(cursor, str) and kept == len(items):
            after = cursor
        truncated = kept < len(items) or after is not None
        return cls(
            items=items[:kept],
            page=PageInfo(returned=kept, total=total, next_cursor=after, truncated=truncated),
            warnings=notes,
            as_of=as_of or datetime.now(UTC),
            source=source,
        )


def _whole_items(items: list[Any], room_bytes: int) -> int:
    """How many of the first items fit."""
    used = 0
    for index, item in enumerate(items):
        used += len(_ANY.dump_json(item)) + 1
        if used > room_bytes:
            return index
    return len(items)
