"""Whether a JSON Schema that a worker announces can be trusted to every client: valid, self-contained, bounded."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

DEPTH_MAX = 32
"""Nesting of a schema's JSON."""
NODES_MAX = 20_000
"""Objects, arrays and values of a schema's JSON."""

_DIALECTS = frozenset(
    f"{scheme}://json-schema.org/{path}"
    for scheme in ("http", "https")
    for path in (
        "draft/2020-12/schema",
        "draft/2019-09/schema",
        "draft-07/schema",
        "draft-06/schema",
        "draft-04/schema",
    )
)


def schema_problem(schema: Any, *, root_object: bool) -> str | None:
    """Why the schema is refused, in one sentence; None: it is fine.

    Args:
        schema: The JSON Schema, parsed.
        root_object: Whether its root must say ``"type": "object"``, as MCP demands of input schemas.
    """
    if not isinstance(schema, dict):
        return "a schema must be a JSON object"
    if root_object and schema.get("type") != "object":
        return 'the root of an input schema must say "type": "object"'
    for problem in _structure(schema):
        return problem
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        return f"not a valid JSON Schema: {error.message[:300]}"
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        return f"not a usable JSON Schema: {str(error)[:300]}"
    return None


def _structure(root: dict[str, Any]) -> Iterator[str]:
    """Problems that the meta-schema does not find. References are never followed out of the document."""
    anchors: set[str] = set()
    references: list[str] = []
    stack: list[tuple[Any, int]] = [(root, 1)]
    nodes = 0
    while stack:
        node, depth = stack.pop()
        nodes += 1
        if depth > DEPTH_MAX:
            yield f"nested deeper than {DEPTH_MAX}"
            return
        if nodes > NODES_MAX:
            yield f"more than {NODES_MAX} values"
            return
        if isinstance(node, dict):
            references.extend(_texts(node, "$ref", "$dynamicRef"))
            anchors.update(_texts(node, "$anchor", "$dynamicAnchor"))
            dialect = node.get("$schema")
            if isinstance(dialect, str) and dialect.rstrip("#") not in _DIALECTS:
                yield f"unknown JSON Schema dialect {dialect[:100]!r}"
                return
            stack.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            stack.extend((value, depth + 1) for value in node)
    for reference in references:
        if not reference.startswith("#"):
            yield f"$ref {reference[:100]!r} leaves the schema; only references within it (#/...) are followed"
        elif not _resolves(root, reference[1:], anchors):
            yield f"$ref {reference[:100]!r} points at nothing"


def _texts(node: dict[str, Any], *words: str) -> list[str]:
    return [value for word in words if isinstance(value := node.get(word), str)]


def _resolves(root: Any, pointer: str, anchors: set[str]) -> bool:
    if pointer and not pointer.startswith("/"):
        return pointer in anchors
    node = root
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return False
    return True
