"""What a user types as arguments, by the tool's schema: ``replicas=3`` is a number where the tool wants one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


class BadArgumentError(Exception):
    """An argument that makes no sense, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def parse_arguments(given: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments object. ``given``: ``key=value`` and JSON objects, later ones win.

    Raises:
        BadArgumentError: neither of both, or a value that is not of the type the tool wants.
    """
    properties = schema.get("properties")
    known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    found: dict[str, Any] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            found |= _object(text)
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadArgumentError(f"{text!r} is no argument", "write key=value, or one JSON object")
        found[key] = _value(key, value, known.get(key))
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadArgumentError(f"{text[:60]!r} is no JSON object: {error}", "quote it for the shell") from None
    return dict(value)


def _value(key: str, text: str, schema: Any) -> Any:
    types = _types(schema)
    if types == {"string"}:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        if not types or "string" in types:
            return text
        if "array" in types:
            return text.split(",")
        raise BadArgumentError(f"{key}={text}: {' or '.join(sorted(types))} expected", f"write {key} as JSON") from None
    if "string" in types and not isinstance(value, str) and _type_of(value) not in types:
        return text
    return value


def _types(schema: Any) -> set[str]:
    """JSON types a schema names, ``null`` aside; empty: any."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type")
    found = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else set()
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found |= _types(part)
    return found - {"null"}


def _type_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return kinds.get(type(value), "string")
