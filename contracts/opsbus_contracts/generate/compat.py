"""Whether a schema may follow a released one: additions only, judged in both directions, on the subset pydantic emits.

*New reader, old data*: what a released writer stored (90 days of audit) must still validate. *Old reader, new data*:
within a version, what a new writer sends must satisfy a released reader, which ignores fields it does not know.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def problems(old: Schema, new: Schema) -> list[str]:
    """What forbids ``new`` to follow ``old``; empty: it may."""
    found = [f"new reader, old data: {text}" for text in _unreadable(old, new, old, new, "$")]
    found += [f"old reader, new data: {text}" for text in _unreadable(new, old, new, old, "$")]
    return found


def _unreadable(written: Schema, read: Schema, writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    """Why data valid under ``written`` may not validate under ``read``."""
    written, read = _resolve(written, writer), _resolve(read, reader)
    if not read or read == written == {}:
        return
    alternatives = written.get("anyOf")
    if alternatives is not None or "anyOf" in read:
        yield from _unions(alternatives or [written], read.get("anyOf", [read]), writer, reader, path)
        return
    yield from _types(written, read, path)
    yield from _values(written, read, path)
    yield from _bounds(written, read, path)
    if "items" in read and "items" in written:
        yield from _unreadable(written["items"], read["items"], writer, reader, f"{path}[]")
    extra_written, extra_read = written.get("additionalProperties"), read.get("additionalProperties")
    if isinstance(extra_written, dict) and isinstance(extra_read, dict):
        yield from _unreadable(extra_written, extra_read, writer, reader, f"{path}.*")
    yield from _properties(written, read, writer, reader, path)


def _properties(written: Schema, read: Schema, writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    have, want = written.get("properties", {}), read.get("properties", {})
    always = set(written.get("required", []))
    for name in read.get("required", []):
        if name not in always:
            yield f"{path}.{name} is required by the reader and not always written"
    for name in sorted(set(have) & set(want)):
        yield from _unreadable(have[name], want[name], writer, reader, f"{path}.{name}")


def _unions(written: list[Schema], read: list[Schema], writer: Schema, reader: Schema, path: str) -> Iterator[str]:
    for option in written:
        reasons = [list(_unreadable(option, other, writer, reader, path)) for other in read]
        if all(reasons):
            yield min(reasons, key=len)[0]


def _types(written: Schema, read: Schema, path: str) -> Iterator[str]:
    have, want = written.get("type"), read.get("type")
    if want is None or have == want or (have, want) == ("integer", "number"):
        return
    yield f"{path} is written as {have or 'anything'}, read as {want}"


def _values(written: Schema, read: Schema, path: str) -> Iterator[str]:
    allowed = _enumerated(read)
    if allowed is None or read.get("x-extensible-enum"):
        return
    given = _enumerated(written)
    if given is None:
        yield f"{path} is written as any value, read as one of {sorted(allowed)}"
    elif extra := sorted(given - allowed):
        yield f"{path} is written as {extra}, which the reader does not know"


def _enumerated(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {str(schema["const"])}
    return {str(value) for value in schema["enum"]} if "enum" in schema else None


def _bounds(written: Schema, read: Schema, path: str) -> Iterator[str]:
    for key in _LOWER_BOUNDS:
        if key in read and written.get(key, float("-inf")) < read[key]:
            yield f"{path} may be written below the reader's {key} {read[key]}"
    for key in _UPPER_BOUNDS:
        if key in read and written.get(key, float("inf")) > read[key]:
            yield f"{path} may be written above the reader's {key} {read[key]}"
    for key in ("pattern", "format"):
        if key in read and written.get(key) != read[key]:
            yield f"{path} is read with {key} {read[key]!r}, written with {written.get(key)!r}"


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if "allOf" in schema and len(schema["allOf"]) == 1:
        return _resolve({**schema["allOf"][0]}, root)
    return schema
