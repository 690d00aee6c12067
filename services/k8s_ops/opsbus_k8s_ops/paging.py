"""Cursors over sorted lists.

A page continues after a sort key, not after a count, so that rows which come and go shift nothing.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from opsbus import ErrorCode, Page, ToolError

P = TypeVar("P", bound=Page[Any])
Key = tuple[int, str, str]

BUDGET_BYTES = 22_000
"""Bytes of rows and envelope; the rest of the kit's 24 000 is for counts and groups."""


def query_digest(**arguments: Any) -> str:
    """Binds a cursor to the filters it was made with."""
    return sha256(json.dumps(arguments, sort_keys=True, default=str).encode()).hexdigest()[:12]


def encode(key: Key, digest: str) -> str:
    """A cursor: opaque to callers."""
    return base64.urlsafe_b64encode(json.dumps([digest, *key]).encode()).decode().rstrip("=")


def decode(cursor: str | None, digest: str) -> Key | None:
    """The key to continue after.

    Raises:
        ToolError: ``invalid_arguments`` for a cursor that is none, or is of other filters.
    """
    if cursor is None:
        return None
    try:
        made_with, severity, namespace, name = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        key = (int(severity), str(namespace), str(name))
    except (ValueError, TypeError, binascii.Error):
        made_with, key = None, (0, "", "")
    if made_with != digest:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "the cursor does not belong to this query",
            hint="Repeat the call with the same filters it was given for, or without a cursor.",
        )
    return key


def fit_page(
    kind: type[P],
    rows: Sequence[tuple[Key, BaseModel]],
    *,
    limit: int,
    cursor: str | None,
    digest: str,
    total: int,
    extra: dict[str, Any],
    warnings: list[str],
    source: str,
    as_of: datetime,
) -> P:
    """The next rows that fit the limit and the budget. ``extra``: further fields of the page's model.

    Raises:
        ToolError: ``invalid_arguments`` for a foreign cursor, ``result_too_large`` when not even one row fits.
    """
    after = decode(cursor, digest)
    ordered = sorted(rows, key=lambda row: row[0])
    left = [row for row in ordered if after is None or row[0] > after]
    shown = left[:limit]
    empty = kind(items=[], page={"returned": 0}, as_of=as_of, **extra)
    budget = BUDGET_BYTES - len(empty.model_dump_json())
    page = kind.fit(
        [row for _, row in shown],
        budget_bytes=budget,
        total=total,
        cursor=lambda kept: encode(shown[max(kept - 1, 0)][0], digest),
        warnings=warnings,
        source=source,
        as_of=as_of,
    )
    kept = len(page.items)
    if shown and not kept:
        raise ToolError(
            ErrorCode.RESULT_TOO_LARGE,
            f"one row alone is over the budget of {BUDGET_BYTES} bytes",
            hint="Ask for fewer fields.",
        )
    if kept == len(shown) and kept < len(left):
        page.page.next_cursor, page.page.truncated = encode(shown[-1][0], digest), True
    return cast(P, page.model_copy(update=extra))
