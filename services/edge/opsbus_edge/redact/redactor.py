"""Arguments and sentences, made fit to be kept: names stay, values go. What stands in their place: mark.py."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from opsbus_edge.redact.mark import HIDDEN, DigestKey
from opsbus_edge.redact.paths import PathRule, State, below, rules_for
from opsbus_edge.redact.patterns import Patterns

DEPTH_MAX = 12
TEXT_MAX = 2_000
"""Characters kept of one text."""
KNOWN_MAX = 5_000
"""Names, and tools, whose answer is remembered."""
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
_NOT_SENSITIVE = re.compile(r"(page|next|continue|cursor)_?token|dry_?run", re.IGNORECASE)


class Kept(NamedTuple):
    """What of a call's arguments goes into the record."""

    arguments: dict[str, Any]
    digest: str
    """SHA-256 hex; ``hmac-sha256:...`` when something was hidden, empty when that is so and there is no key."""


class Redactor:
    """The rules of what is hidden.

    Args:
        names: Further parts of names whose values are hidden.
        paths: Places that are hidden.
        patterns: Further looks of values that are hidden, as ``pattern`` returns them.
        key: Makes equal values recognisable; without it they are hidden all the same.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        paths: Iterable[PathRule] = (),
        patterns: Iterable[str] = (),
        key: DigestKey | None = None,
    ) -> None:
        words = [*_SENSITIVE, *(re.escape(word) for word in names)]
        self._names = re.compile("|".join(words), re.IGNORECASE)
        self._paths = tuple(paths)
        self._patterns = Patterns(patterns)
        self._key = key
        self._sensitive: dict[str, bool] = {}
        self._by_tool: dict[str, State] = {}

    def arguments(self, raw: bytes, tool: str = "") -> Kept:
        """The arguments of a call, fit to be kept.

        Args:
            raw: The arguments as a JSON object.
            tool: MCP name, for the rules by path.
        """
        if len(raw) > BYTES_MAX:
            omitted = {"_omitted": f"{len(raw)} bytes; arguments_digest tells what they were"}
            return Kept(omitted, hashlib.sha256(raw).hexdigest())
        if raw in (b"", b"{}"):
            return Kept({}, hashlib.sha256(raw).hexdigest())
        walk = _Walk(self)
        kept = walk.mapping(orjson.loads(raw), self._rules(tool), 1)
        if not walk.hidden:
            return Kept(kept, hashlib.sha256(raw).hexdigest())
        return Kept(kept, self._key.arguments(raw) if self._key is not None else "")

    def sentence(self, text: str) -> str:
        """A text of somebody's, such as an error message, without what looks like a secret."""
        return self._patterns.hide(text, self.mark)

    def mark(self, value: Any) -> str:
        """What stands in place of ``value``."""
        return self._key.mark(value) if self._key is not None else HIDDEN

    def is_sensitive(self, name: str) -> bool:
        """Whether a value of this name is hidden."""
        found = self._sensitive.get(name)
        if found is None:
            found = bool(self._names.search(name)) and not _NOT_SENSITIVE.fullmatch(name)
            if len(self._sensitive) < KNOWN_MAX:
                self._sensitive[name] = found
        return found

    def _rules(self, tool: str) -> State:
        if not self._paths:
            return ()
        found = self._by_tool.get(tool)
        if found is None:
            found = rules_for(tool, self._paths)
            if len(self._by_tool) < KNOWN_MAX:
                self._by_tool[tool] = found
        return found


class _Walk:
    """One way through the arguments; ``hidden`` tells whether something was."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.hidden = False

    def mapping(self, value: dict[str, Any], state: State, depth: int) -> dict[str, Any]:
        return {self._text(name): self._value(name, item, *_step(state, name), depth) for name, item in value.items()}

    def _value(self, name: str, value: Any, state: State, covered: bool, depth: int) -> Any:
        if covered or (_says_something(value) and self._redactor.is_sensitive(name)):
            self.hidden = True
            return self._redactor.mark(value)
        if depth > DEPTH_MAX:
            self.hidden = True
            return "[nested too deep]"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self.mapping(value, state, depth + 1)
        if isinstance(value, list):
            return [
                self._value(name if isinstance(item, str) else "", item, *_step(state, str(place)), depth + 1)
                for place, item in enumerate(value)
            ]
        return value

    def _text(self, text: str) -> str:
        shown = self._redactor.sentence(text)
        self.hidden = self.hidden or (shown is not text and shown != text)
        return shown if len(shown) <= TEXT_MAX else shown[:TEXT_MAX] + "..."


def _step(state: State, name: str) -> tuple[State, bool]:
    return below(state, name) if state else ((), False)


def _says_something(value: Any) -> bool:
    return not (value is None or value == "" or isinstance(value, bool))
