"""An event as one line a person reads. Plain text; the commands add nothing but line breaks."""

import json
from datetime import UTC
from typing import Any

from opsbus_audit.search import Entry

_WHERE_MAX = 160


def line(entry: Entry) -> str:
    """``2026-01-31 10:02:11.123 completed  k8s_scale_deployment  ada  call 4f1c0a9b  312 ms  reason: ...``"""
    moment = (entry.time or entry.stored_at).astimezone(UTC)
    shown = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} {entry.stage or '?':<14}"
    if entry.unreadable:
        return _printable(f"{shown} UNREADABLE event {entry.sequence} on {entry.subject}: {entry.fault}")
    words = [entry.tool or entry.target or entry.method, entry.actor or "(nobody)", f"call {entry.call[:8]}"]
    words += _details(entry)
    return _printable(f"{shown} {'  '.join(word for word in words if word)}")


def _details(entry: Entry) -> list[str]:
    words = []
    if entry.error:
        executed = f", executed: {entry.executed}" if entry.executed else ""
        words.append(f"{entry.error}{executed}")
    if entry.message:
        words.append(entry.message)
    if entry.duration_ms is not None:
        words.append(f"{entry.duration_ms:.0f} ms")
    if entry.stage == "requested" and entry.arguments:
        arguments = json.dumps(entry.arguments, ensure_ascii=False, default=str)
        words.append(arguments if len(arguments) <= _WHERE_MAX else f"{arguments[:_WHERE_MAX]}…")
    if entry.reason and entry.stage in {"requested", "approved"}:
        words.append(f"reason: {entry.reason}")
    if entry.change_id:
        words.append(entry.change_id)
    if entry.rule and entry.stage in {"denied", "limited"}:
        words.append(f"rule: {entry.rule}")
    if entry.approver and entry.stage == "approved":
        words.append(f"by {entry.approver}")
    if entry.details and (entry.method == "platform" or entry.stage == "approved"):
        words.append(facts(entry.details))
    if entry.duplicate_of is not None:
        words.append(f"(again: first stored as {entry.duplicate_of})")
    return words


def facts(details: dict[str, Any]) -> str:
    """``why: drained, tools: 7``; a part of it when there is much."""
    text = ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in details.items()
        if value not in ("", None)
    )
    return text if len(text) <= _WHERE_MAX else f"{text[:_WHERE_MAX]}…"


def _printable(text: str) -> str:
    # What callers send ends up on an operator's terminal: no control characters, no line breaks.
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
