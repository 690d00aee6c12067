"""A JSON value made to fit a number of bytes: the largest parts are left out, each with a mark and its path.

What is small stays whole, so that the shape can be read and the rest asked for by its path.
"""

import json
from dataclasses import dataclass, field
from typing import Any

MARK_BYTES = 60
"""A mark in place of a value, about."""

STRING_MIN = 200
"""A text is cut to no less than this; shorter ones are left out whole."""


@dataclass
class Trimmed:
    """What fits, and what does not: path to bytes."""

    value: Any
    left_out: dict[str, int] = field(default_factory=dict)


def size_of(value: Any) -> int:
    """Bytes of JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def trim(value: Any, budget_bytes: int) -> Trimmed:
    """The value within the budget, unless even its marks are more."""
    trimmed = Trimmed(None)
    trimmed.value = _fit(value, max(budget_bytes, MARK_BYTES), "", trimmed.left_out)
    return trimmed


def _fit(value: Any, room: int, path: str, left_out: dict[str, int]) -> Any:
    size = size_of(value)
    if size <= room:
        return value
    if isinstance(value, dict) and room > 2 * MARK_BYTES:
        return _dict(value, room, path, left_out)
    if isinstance(value, list) and room > 2 * MARK_BYTES:
        return _list(value, room, path, left_out)
    left_out[path] = size
    if isinstance(value, str) and room >= STRING_MIN + MARK_BYTES:
        kept = value.encode()[: (room - MARK_BYTES) * 3 // 4].decode("utf-8", "ignore")
        return f"{kept}[cut: {len(value) - len(kept)} more characters]"
    what = f"{len(value)} entries, " if isinstance(value, dict | list) else ""
    return f"[left out: {what}{size} bytes]"


def _dict(value: dict[str, Any], room: int, path: str, left_out: dict[str, int]) -> dict[str, Any]:
    sizes = {key: size_of(part) for key, part in value.items()}
    names = {key: size_of(key) + 2 for key in value}
    left = room - 2 - MARK_BYTES
    shown: dict[str, Any] = {}
    # The small ones first: each gets what it needs, at most its share of what is left.
    waiting = sorted(value, key=lambda key: (sizes[key], key))
    for index, key in enumerate(waiting):
        share = left // (len(waiting) - index) - names[key]
        if share < MARK_BYTES and sizes[key] > share:
            rest = waiting[index:]
            left_out[path or "$"] = sum(sizes[name] + names[name] for name in rest)
            shown["..."] = f"[left out: {len(rest)} of {len(value)} entries]"
            break
        shown[key] = _fit(value[key], share, _below(path, key), left_out)
        left -= names[key] + size_of(shown[key])
    return {key: shown[key] for key in [*value, "..."] if key in shown}


def _list(value: list[Any], room: int, path: str, left_out: dict[str, int]) -> list[Any]:
    shown: list[Any] = []
    left = room - 2 - MARK_BYTES
    for index, item in enumerate(value):
        size = size_of(item) + 1
        if size > left:
            if not shown and left > 2 * MARK_BYTES:
                shown.append(_fit(item, left, f"{path}[0]", left_out))
                index += 1
            if index < len(value):
                left_out[path or "$"] = size_of(value) - size_of(shown)
                shown.append(f"[left out: {len(value) - index} of {len(value)} items]")
            break
        shown.append(item)
        left -= size
    return shown


def _below(path: str, key: str) -> str:
    """The path of an entry, as ``fields`` takes it."""
    if key.replace("_", "").replace("-", "").isalnum() and key.isascii():
        return f"{path}.{key}" if path else key
    quoted = key.replace("\\", "\\\\").replace("'", "\\'")
    return f"{path}['{quoted}']"
