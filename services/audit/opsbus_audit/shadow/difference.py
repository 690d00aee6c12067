"""Two results, structure by structure. What differs at every moment (``as_of``) does not count."""

from collections.abc import Collection
from typing import Any, NamedTuple

VOLATILE = ("as_of", "cursor", "next_cursor", "duration_ms", "took_ms", "age", "age_s", "generated_at", "instance")
"""Names that are ignored wherever they stand."""

SHOWN_MAX = 20
_VALUE_MAX = 120
_DEPTH_MAX = 40
_MISSING = "(not there)"


class Difference(NamedTuple):
    """One place where two results are not the same."""

    path: str
    """``structuredContent.items[0].name``"""
    present: str
    candidate: str


def differences(present: Any, candidate: Any, ignored: Collection[str] = VOLATILE) -> list[Difference]:
    """Where two JSON values differ, SHOWN_MAX places at most."""
    found: list[Difference] = []
    _compare(present, candidate, "", frozenset(ignored), found, 0)
    return found


def result_of(body: Any) -> Any:
    """What is compared of an MCP result: its structure where it has one, else its content. The text beside a structure
    says the same, with the time in it."""
    if isinstance(body, dict) and body.get("structuredContent") is not None:
        return {"isError": bool(body.get("isError")), "structuredContent": body["structuredContent"]}
    return body


def _compare(one: Any, other: Any, path: str, ignored: frozenset[str], found: list[Difference], depth: int) -> None:
    if len(found) >= SHOWN_MAX:
        return
    if depth > _DEPTH_MAX:
        if one != other:
            found.append(Difference(path, "(nested too deep)", "(nested too deep)"))
    elif isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other} - ignored):
            inner = f"{path}.{name}" if path else name
            if name in one and name in other:
                _compare(one[name], other[name], inner, ignored, found, depth + 1)
            elif len(found) < SHOWN_MAX:
                found.append(Difference(inner, _shown(one, name), _shown(other, name)))
    elif isinstance(one, list) and isinstance(other, list):
        for at, (left, right) in enumerate(zip(one, other, strict=False)):
            _compare(left, right, f"{path}[{at}]", ignored, found, depth + 1)
        if len(one) != len(other) and len(found) < SHOWN_MAX:
            found.append(Difference(f"{path}.length", str(len(one)), str(len(other))))
    elif (type(one) is not type(other) and not _numbers(one, other)) or one != other:
        found.append(Difference(path or "(all)", _text(one), _text(other)))


def _numbers(one: Any, other: Any) -> bool:
    return all(isinstance(item, int | float) and not isinstance(item, bool) for item in (one, other))


def _shown(mapping: dict[str, Any], name: str) -> str:
    return _text(mapping[name]) if name in mapping else _MISSING


def _text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_MAX else f"{text[:_VALUE_MAX]}…"
