"""Parts of an object by JSONPath (RFC 9535), in kubectl's way of writing too; bounded, and without regular expressions.

Objects come here masked: a filter must not be a way to guess at a secret.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near

if TYPE_CHECKING:
    from jsonpath import JSONPath, JSONPathEnvironment

EXPRESSION_CHARS_MAX = 300
MATCHES_MAX = 500
"""Values of one expression."""

_ESCAPED = re.compile(r"\.((?:[^.\\\[\]]|\\.)*\\\.(?:[^.\\\[\]]|\\.)*)")
_SIMPLE = re.compile(r"[A-Za-z0-9_.\-]+")


@cache
def _environment() -> "JSONPathEnvironment":
    from jsonpath import JSONPathEnvironment

    made = JSONPathEnvironment()
    for name in ("match", "search"):  # regular expressions of a caller's choice, in an engine that backtracks
        del made.function_extensions[name]
    return made


@lru_cache(maxsize=512)
def compile_path(text: str) -> "JSONPath":
    """``spec.replicas``, ``$.spec.containers[*].image``, ``{.status.conditions[?(@.type=="Ready")].status}``.

    Raises:
        ToolError: ``invalid_arguments`` with what is wrong.
    """
    from jsonpath import JSONPath
    from jsonpath.exceptions import JSONPathError

    path = _normal(text)
    if not text.strip():
        raise _refused(text, "it is empty")
    if len(text) > EXPRESSION_CHARS_MAX or path.count("..") > 1 or "=~" in path or path.count("$") > 1:
        raise _refused(text, "it is too long, descends twice, refers to the root in a filter, or has a regex")
    try:
        compiled = _environment().compile(path)
    except (JSONPathError, RecursionError) as error:
        raise _refused(text, str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    if not isinstance(compiled, JSONPath):
        raise _refused(text, "unions of paths are two fields")
    return compiled


def select(obj: Any, expressions: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The value of each expression, or all its values when it can have several; and warnings about empty ones."""
    from jsonpath.exceptions import JSONPathError

    values: dict[str, Any] = {}
    warnings: list[str] = []
    for text in expressions:
        path = compile_path(text)
        try:
            found = [match.obj for match in islice(path.finditer(obj), MATCHES_MAX + 1)]
        except (JSONPathError, RecursionError, TypeError) as error:
            raise _refused(text, str(error)) from None
        if len(found) > MATCHES_MAX:
            found = found[:MATCHES_MAX]
            warnings.append(f"{text}: only the first {MATCHES_MAX} values are shown")
        if path.singular_query():
            values[text] = found[0] if found else None
        else:
            values[text] = found
        if not found:
            warnings.append(f"{text}: nothing is there{_meant(obj, text)}")
    return values, warnings


def _normal(text: str) -> str:
    path = text.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1].strip()
    if not path.startswith("$"):
        path = "$" + (path if path[:1] in ".[" else f".{path}")
    return _ESCAPED.sub(lambda m: "['" + m.group(1).replace("\\.", ".").replace("'", "\\'") + "']", path)


def _meant(obj: Any, text: str) -> str:
    """Where a plain path leaves the object, and what is there instead."""
    plain = text.strip().strip("{}").lstrip("$").lstrip(".")
    if not _SIMPLE.fullmatch(plain):
        return ""
    way: list[str] = []
    for step in plain.split("."):
        if not isinstance(obj, dict):
            return f": {'.'.join(way)} is no object" + ("; [*] goes through a list" if isinstance(obj, list) else "")
        if step not in obj:
            others = near(step, obj) or list(obj)[:10]
            return f": {'.'.join(way) or 'the object'} has {', '.join(others)}" if others else ""
        obj = obj[step]
        way.append(step)
    return ""


def _refused(text: str, why: str) -> ToolError:
    return ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        f"fields: {text[:80]!r} is no path that can be read: {why}",
        hint="Use a dotted path (spec.replicas) or JSONPath ($.spec.containers[*].image, "
        "$.status.conditions[?@.type=='Ready'].status, metadata.annotations['a.b/c']), with at most one '..'.",
    )
