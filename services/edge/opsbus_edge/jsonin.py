"""JSON from clients: fast, bounded in depth, without loss and with one meaning: a name stands in an object once.

Two readers of ``{"name": "a", "name": "b"}`` may see two different calls; nobody is to check the one and run the other.
"""

import json
import re
from typing import Any, NoReturn

import orjson

HINT = "Send one JSON value as RFC 8259 has it, in UTF-8, every name once in its object."
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Integers of 19 digits and more may exceed 64 bits; orjson would make floats of them."""


class BadJsonError(ValueError):
    """What is wrong with a body, in words fit for its sender. What to do: HINT."""


def loads(raw: bytes, depth_max: int) -> Any:
    """The value.

    Raises:
        BadJsonError: no JSON by RFC 8259 in UTF-8, nested deeper than ``depth_max``, or a name is twice in an object.
    """
    if raw.count(b"{") + raw.count(b"[") > depth_max and _depth(raw) > depth_max:
        raise BadJsonError(f"the JSON is nested deeper than {depth_max}")
    try:
        if not _LONG_NUMBER.search(raw):
            value = orjson.loads(raw)
            if orjson.dumps(value) == raw:  # nothing was lost; most clients write it so
                return value
            # Outside of strings a colon follows each name: as many as names and colons in strings, and none is double.
            if raw.count(b":") == _colons(value) and b"\\u003" not in raw:
                return value
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except BadJsonError:
        raise
    except (ValueError, RecursionError):
        raise BadJsonError("the body is not valid JSON") from None


def dumps(value: Any) -> bytes:
    """JSON bytes of what ``loads`` gave, integers of any size included.

    Raises:
        BadJsonError: it has text that is not Unicode (lone surrogates).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError:
        raise BadJsonError("the body holds text or numbers that JSON cannot carry") from None


def _colons(value: Any) -> int:
    """Names in all objects, and colons in all strings."""
    found = 0
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found += item.count(":")
        elif isinstance(item, dict):
            found += len(item)
            for name, inner in item.items():
                if ":" in name:
                    found += name.count(":")
                if isinstance(inner, str | dict | list):
                    todo.append(inner)
        elif isinstance(item, list):
            todo.extend(item)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in found if names.count(name) > 1)
        raise BadJsonError(f"the name {double[:64]!a} is more than once in an object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _depth(raw: bytes) -> int:
    """How deep the brackets outside of strings nest."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x7B, 0x5B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x7D, 0x5D):
            depth -= 1
    return deepest
