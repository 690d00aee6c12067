"""Pages of what was read as a whole: an order by keys, and a cursor that is the key of the last item given."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from opsbus import ErrorCode, Page, ToolError

PageType = TypeVar("PageType", bound=Page[Any])
Item = TypeVar("Item")

_KEY = re.compile(r"\d+\..{0,190}", re.DOTALL)


def require_cursor(cursor: str | None) -> None:
    """
    Raises:
        ToolError: ``invalid_arguments`` for what cannot be a key.
    """
    if cursor is not None and not _KEY.fullmatch(cursor):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "this is no cursor", hint="Use next_cursor of an answer, or leave it out."
        )


def page_of(
    model: type[PageType],
    items: Sequence[Item],
    key: Callable[[Item], str],
    *,
    limit: int,
    cursor: str | None,
    budget_bytes: int,
    source: str,
    as_of: datetime,
    warnings: list[str] | None = None,
) -> PageType:
    """The items after the cursor in the order of their keys (``3.name``), as many as limit and budget let through."""
    ordered = sorted(items, key=key)
    left = [item for item in ordered if cursor is None or key(item) > cursor]
    rows = left[:limit]
    page = model.fit(
        rows,
        budget_bytes=budget_bytes,
        total=len(ordered),
        cursor=lambda kept: key(rows[max(kept - 1, 0)]),
        warnings=warnings,
        source=source,
        as_of=as_of,
    )
    if len(page.items) == len(rows) < len(left):
        page.page.next_cursor, page.page.truncated = key(rows[-1]), True
    return cast(PageType, page)
