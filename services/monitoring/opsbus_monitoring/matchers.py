"""Label matchers as Prometheus and Alertmanager write them. Patterns run in linear time (RE2)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsbus import ErrorCode, ToolError

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"\s{},]+))\s*')


@dataclass(frozen=True)
class Matcher:
    """``severity="critical"``; ``pattern`` with =~ and !~."""

    name: str
    op: str
    value: str
    pattern: Any = None

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels pass; a missing label is an empty one."""
        actual = labels.get(self.name, "")
        if self.pattern is None:
            return (actual == self.value) == (self.op == "=")
        return (self.pattern.fullmatch(actual) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.name}{self.op}"{escaped}"'


def parse_matchers(texts: Sequence[str]) -> list[Matcher]:
    """The matchers of an argument.

    Raises:
        ToolError: ``invalid_arguments``, naming the wrong one.
    """
    return [_parse(text) for text in texts]


def _parse(text: str) -> Matcher:
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"matchers: {text[:100]!r} is no matcher",
            hint='Write severity="critical", namespace=~"shop.*", team!="web"; one matcher per item.',
        )
    name, op, quoted, bare = found.groups()
    value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    if op in ("=", "!="):
        return Matcher(name, op, value)
    import re2  # type: ignore[import-untyped] # for those who ask by pattern

    options = re2.Options()
    options.max_mem, options.log_errors = 4 << 20, False
    try:
        return Matcher(name, op, value, re2.compile(value, options))
    except re2.error:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"matchers: {value[:100]!r} is no regular expression",
            hint="RE2 syntax, matched against the whole value.",
        ) from None
