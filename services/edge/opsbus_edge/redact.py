"""Hides values of sensitive arguments before they leave the edge for the record. Names stay, values go."""

import re
from collections.abc import Iterable
from typing import Any

import orjson

HIDDEN = "[redacted]"
DEPTH_MAX = 12
TEXT_MAX = 2_000
"""Characters kept of one text."""
KNOWN_MAX = 5_000
"""Names whose answer is remembered."""
BYTES_MAX = 16_384
"""Arguments larger than this are recorded by their digest alone."""

_SENSITIVE = (
    "passw",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api_?-?key",
    "apikey",
    "credential",
    "private_?-?key",
    "access_?-?key",
    "cookie",
    "bearer",
    "session_?id",
    "otp",
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_NOT_SENSITIVE = re.compile(r"(page|next|continue|cursor)_?token|dry_?run", re.IGNORECASE)


class Redactor:
    """The policy of what is hidden: names that contain one of the words."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        words = [*_SENSITIVE, *(re.escape(word) for word in further)]
        self._names = re.compile("|".join(words), re.IGNORECASE)
        self._known: dict[str, bool] = {}

    def arguments(self, raw: bytes) -> dict[str, Any]:
        """The arguments of a call, fit to be kept.

        Args:
            raw: The arguments as a JSON object.
        """
        if len(raw) > BYTES_MAX:
            return {"_omitted": f"{len(raw)} bytes; arguments_digest tells what they were"}
        if raw in (b"", b"{}"):
            return {}
        value = orjson.loads(raw)
        return {str(name): self._value(name, item, 1) for name, item in value.items()}

    def _is_sensitive(self, name: str) -> bool:
        found = self._known.get(name)
        if found is None:
            found = bool(self._names.search(name)) and not _NOT_SENSITIVE.fullmatch(name)
            if len(self._known) < KNOWN_MAX:
                self._known[name] = found
        return found

    def _value(self, name: str, value: Any, depth: int) -> Any:
        if value not in (None, "", True, False) and self._is_sensitive(name):
            return HIDDEN
        if depth > DEPTH_MAX:
            return "[nested too deep]"
        if isinstance(value, str):
            shown = value if len(value) <= TEXT_MAX else value[:TEXT_MAX] + "..."
            low = shown.lower()
            return _BEARER.sub(rf"\1 {HIDDEN}", shown) if "bearer" in low or "basic" in low else shown
        if isinstance(value, dict):
            return {key: self._value(key, item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(name if isinstance(item, str) else "", item, depth + 1) for item in value]
        return value
