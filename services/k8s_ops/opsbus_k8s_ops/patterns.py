"""Repeated log lines as one pattern each: what varies becomes a placeholder, what remains is counted."""

import json
from collections.abc import Iterable
from typing import Any

import re2  # type: ignore[import-untyped]

from opsbus_k8s_ops.logmodels import LogLine, LogPattern

PATTERNS_MAX = 200
"""Patterns kept; lines beyond them are counted as one."""

PODS_SHOWN = 5

PATTERN_CHARS_MAX = 300
"""Of a pattern, and of its example."""

_VARYING = [
    (re2.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?"), "<time>"),
    (re2.compile(r"\b\d{2}:\d{2}:\d{2}(?:[.,]\d+)?\b"), "<time>"),
    (re2.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re2.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<ip>"),
    (re2.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
]
_DIGIT = re2.compile(r"\d")
_WORD = re2.compile(r"[0-9A-Za-z]{8,}")
_NUMBER = re2.compile(r"[0-9]+(?:\.[0-9]+)?")
_PLACEHOLDERS = re2.compile(r"(?:<(?:time|uuid|ip|hex|id|n)>[\s:,._/-]*)+")

_LEVELS = (
    (re2.compile(r"(?i)\b(?:fatal|panic|critical|emerg(?:ency)?)\b"), "fatal"),
    (re2.compile(r"(?i)\b(?:error|err|exception|traceback)\b|Exception\b"), "error"),
    (re2.compile(r"(?i)\bwarn(?:ing)?\b"), "warning"),
    (re2.compile(r"(?i)\b(?:debug|trace)\b"), "debug"),
)

_ORDER = ("fatal", "error", "warning", "info", "debug")
_LEVEL_KEYS = ("level", "severity", "lvl", "log.level")


def read_line(text: str) -> tuple[str, str]:
    """The pattern of a line, and the severity it speaks of: its own word for it, or a guess by its words."""
    fields = _fields_of(text)
    if fields is None:
        return _template(text), _level(text)
    own = next((str(fields[key]) for key in _LEVEL_KEYS if key in fields), None)
    parts = []
    for key, value in fields.items():
        shown = "<n>" if _is_number(value) else _template(value if isinstance(value, str) else json.dumps(value))
        # A field that is different in every line tells lines apart, not kinds of lines.
        if not _PLACEHOLDERS.fullmatch(shown):
            parts.append(f"{key}={shown}")
    return " ".join(parts), _level(own if own is not None else text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fields_of(text: str) -> dict[str, Any] | None:
    """A structured log line's fields."""
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _template(text: str) -> str:
    if not _DIGIT.search(text):
        return text  # everything that varies has a digit in it
    for pattern, placeholder in _VARYING:
        text = pattern.sub(placeholder, text)
    # A long word with a digit in it is an id; one without is a word.
    text = _WORD.sub(lambda m: "<id>" if any(c.isdigit() for c in m.group()) else m.group(), text)
    return str(_NUMBER.sub("<n>", text))


def _level(text: str) -> str:
    return next((level for pattern, level in _LEVELS if pattern.search(text)), "info")


def cluster_lines(lines: Iterable[LogLine]) -> tuple[list[LogPattern], int]:
    """Patterns, the gravest and most frequent first, and how many lines fell beyond the bound."""
    found: dict[str, dict[str, Any]] = {}
    beyond = 0
    for line in lines:
        key, level = read_line(line.text)
        entry = found.get(key)
        if entry is None:
            if len(found) >= PATTERNS_MAX:
                beyond += 1
                continue
            found[key] = entry = {"count": 0, "first": line.time, "example": line.text, "level": level, "pods": {}}
        entry["count"] += 1
        entry["last"] = line.time
        entry["pods"][line.pod] = None
    result = [
        LogPattern(
            pattern=key[:PATTERN_CHARS_MAX],
            level=entry["level"],
            count=entry["count"],
            first=entry["first"],
            last=entry["last"],
            pods=list(entry["pods"])[:PODS_SHOWN],
            pod_count=len(entry["pods"]),
            example=entry["example"][:PATTERN_CHARS_MAX] if entry["example"] != key else None,
        )
        for key, entry in found.items()
    ]
    return sorted(result, key=lambda item: (_ORDER.index(item.level), -item.count)), beyond
