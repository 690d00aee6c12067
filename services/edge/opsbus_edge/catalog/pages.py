"""List pages as bytes: only what a caller may use, cached per role. Cursors are keysets: they survive changes."""

import base64
import binascii

from opsbus_edge.catalog.entries import Listing
from opsbus_edge.catalog.merge import Merged
from opsbus_edge.model import Caller

CACHED_MAX = 4_096
"""Pages kept; more means that roles multiply, and the cache starts anew."""
CURSOR_CHARS_MAX = 4_096


class InvalidCursorError(ValueError):
    """A cursor that no list page gave out: -32602."""


def encode_cursor(kind: str, after: str) -> str:
    """The cursor of the page that begins behind the key ``after``."""
    return base64.urlsafe_b64encode(f"{kind}:{after}".encode()).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str) -> str:
    """The key behind which the page begins.

    Raises:
        InvalidCursorError: not a cursor of this list.
    """
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise ValueError("too long")
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found, colon, after = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidCursorError("the cursor is not one that this list gave out") from error
    if found != kind or not colon or not after:
        raise InvalidCursorError(f"the cursor is not one that the list of {kind} gave out")
    return after


class Pages:
    """Pages over one state of the catalogue; a new state begins with a new Pages."""

    def __init__(self, merged: Merged, page_size: int) -> None:
        self._merged = merged
        self._page_size = page_size
        self._visible: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
        self._pages: dict[tuple[str, str, str], Listing] = {}

    def page(self, kind: str, caller: Caller, cursor: str | None) -> Listing:
        """The page behind ``cursor``.

        Raises:
            InvalidCursorError: not a cursor of this list.
        """
        after = decode_cursor(kind, cursor) if cursor else ""
        key = (kind, caller.role_key, after)
        found = self._pages.get(key)
        if found is None:
            if len(self._pages) >= CACHED_MAX:
                self._pages.clear()
                self._visible.clear()
            found = self._pages[key] = self._build(kind, caller, after)
        return found

    def _build(self, kind: str, caller: Caller, after: str) -> Listing:
        visible = self._visible.get((kind, caller.role_key))
        if visible is None:
            visible = self._visible[kind, caller.role_key] = [
                (key, entry.wire)
                for key, entry in self._merged.entries(kind).items()
                if caller.sees(entry.spec.permission, key if kind == "tools" else "")
            ]
        rest = [row for row in visible if row[0] > after]
        page = rest[: self._page_size]
        following = encode_cursor(kind, page[-1][0]) if len(rest) > len(page) else None
        return Listing(b"[" + b",".join(wire for _, wire in page) + b"]", following)
