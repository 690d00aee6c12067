"""Every way to break a reader is named; every addition passes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from opsbus_contracts.generate.compat import problems
from opsbus_contracts.generate.schemas import MODELS, schema

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 10},
        "kind": {"$ref": "#/$defs/Kind"},
        "open": {"$ref": "#/$defs/Open"},
        "count": {"type": "integer", "minimum": 0},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "$defs": {
        "Kind": {"type": "string", "enum": ["a", "b"]},
        "Open": {"type": "string", "enum": ["x"], "x-extensible-enum": True},
    },
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    change(new)
    return new


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for key in parents:
            document = document[key]
        document[last] = value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        put("properties/extra", {"type": "string"}),
        put("$defs/Open/enum", ["x", "y"]),
        put("properties/id/description", "words change nothing"),
        put("title", "nor do titles"),
    ],
)
def test_additions_pass(change: Callable[[dict[str, Any]], None]) -> None:
    assert problems(OLD, changed(change)) == []


@pytest.mark.parametrize(
    ("change", "direction", "words"),
    [
        (put("required", ["id", "kind"]), "new reader, old data", "$.kind is required"),
        (put("required", []), "old reader, new data", "$.id is required"),
        (put("properties/count", {"type": "string"}), "new reader, old data", "$.count is written as integer"),
        (put("properties/count/minimum", 1), "new reader, old data", "minimum"),
        (put("properties/count/minimum", -1), "old reader, new data", "minimum"),
        (put("properties/id/maxLength", 5), "new reader, old data", "maxLength"),
        (put("properties/id/maxLength", 50), "old reader, new data", "maxLength"),
        (put("properties/id/pattern", "^x"), "new reader, old data", "pattern"),
        (put("$defs/Kind/enum", ["a"]), "new reader, old data", "['b']"),
        (put("$defs/Kind/enum", ["a", "b", "c"]), "old reader, new data", "['c']"),
        (put("properties/note", {"type": "string"}), "new reader, old data", "$.note"),
        (put("properties/note/anyOf", [{"type": "string"}, {"type": "integer"}]), "old reader, new data", "integer"),
        (put("properties/list/items", {"type": "integer"}), "new reader, old data", "$.list[]"),
        (put("properties/map/additionalProperties", {"type": "integer"}), "old reader, new data", "$.map.*"),
    ],
)
def test_breaking_changes_are_named(change: Callable[[dict[str, Any]], None], direction: str, words: str) -> None:
    found = problems(OLD, changed(change))
    assert any(text.startswith(direction) and words in text for text in found), found


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_schema_may_follow_itself(name: str) -> None:
    assert problems(schema(name), schema(name)) == []
