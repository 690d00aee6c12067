"""JSON from clients: fast, bounded in depth, and without loss."""

import json
import re
from typing import Any, NoReturn

import orjson

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Integers of 19 digits and more may exceed 64 bits; orjson would make floats of them."""


class BadJsonError(ValueError):
    """What is wrong with a body, in words fit for its sender."""


def loads(raw: bytes, depth_max: int) -> Any:
    """The value.

    Raises:
        BadJsonError: no JSON by RFC 8259 in UTF-8, or nested deeper than ``depth_max``.
    """
    if raw.count(b"{") + raw.count(b"[") > depth_max and _depth(raw) > depth_max:
        raise BadJsonError(f"the JSON is nested deeper than {depth_max}")
    try:
        if _LONG_NUMBER.search(raw):
            return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        return orjson.loads(raw)
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
