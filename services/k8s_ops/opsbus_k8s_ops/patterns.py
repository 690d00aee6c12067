"""Repeated log lines as one pattern each: what varies becomes a placeholder, what remains is counted."""

from collections.abc import Iterable
from typing import Any

import re2  # type: ignore[import-untyped]

from opsbus_k8s_ops.logmodels import LogLine, LogPattern

PATTERNS_MAX = 200
"""Patterns kept; lines beyond them are counted as one."""

PODS_SHOWN = 5

_VARYING = [
    (re2.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?"), "<time>"),
    (re2.compile(r"\b\d{2}:\d{2}:\d{2}(?:[.,]\d+)?\b"), "<time>"),
    (re2.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re2.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<ip>"),
    (re2.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re2.compile(r"\b[0-9a-f]*(?:[0-9][a-f]|[a-f][0-9])[0-9a-f]{6,}\b"), "<hex>"),
    (re2.compile(r"[0-9]+(?:\.[0-9]+)?"), "<n>"),
]

_LEVELS = (
    (re2.compile(r"(?i)\b(?:fatal|panic|critical|emerg(?:ency)?)\b"), "fatal"),
    (re2.compile(r"(?i)\b(?:error|err|exception|traceback)\b|Exception\b"), "error"),
    (re2.compile(r"(?i)\bwarn(?:ing)?\b"), "warning"),
    (re2.compile(r"(?i)\b(?:debug|trace)\b"), "debug"),
)

_ORDER = ("fatal", "error", "warning", "info", "debug")


def template_of(text: str) -> str:
    """The line with everything that varies between repetitions replaced."""
    for pattern, placeholder in _VARYING:
        text = pattern.sub(placeholder, text)
    return text


def level_of(text: str) -> str:
    """The severity a line speaks of; a guess by its words."""
    return next((level for pattern, level in _LEVELS if pattern.search(text)), "info")


def cluster_lines(lines: Iterable[LogLine]) -> tuple[list[LogPattern], int]:
    """Patterns, the gravest and most frequent first, and how many lines fell beyond the bound."""
    found: dict[str, dict[str, Any]] = {}
    beyond = 0
    for line in lines:
        key = template_of(line.text)
        entry = found.get(key)
        if entry is None:
            if len(found) >= PATTERNS_MAX:
                beyond += 1
                continue
            found[key] = entry = {"count": 0, "first": line.time, "example": line.text, "pods": {}}
        entry["count"] += 1
        entry["last"] = line.time
        entry["pods"][line.pod] = None
    result = [
        LogPattern(
            pattern=key,
            level=level_of(entry["example"]),
            count=entry["count"],
            first=entry["first"],
            last=entry["last"],
            pods=list(entry["pods"])[:PODS_SHOWN],
            pod_count=len(entry["pods"]),
            example=entry["example"] if entry["example"] != key else None,
        )
        for key, entry in found.items()
    ]
    return sorted(result, key=lambda item: (_ORDER.index(item.level), -item.count)), beyond
