"""Moments and durations as callers write them, and steps as Prometheus takes them."""

import re
from datetime import UTC, datetime, timedelta

from opsbus import ErrorCode, ToolError

_SPAN = re.compile(r"(?:now)?-?((?:\d{1,6}[smhdw])+)")
_DURATION = re.compile(r"(?:\d{1,6}[smhdw])+")
_PART = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
"""Steps that divide minutes, hours and days evenly. Seconds."""


def parse_when(text: str, argument: str, now: datetime) -> datetime:
    """``2026-08-01T10:00:00Z``, Unix seconds, ``now``, ``now-1h30m``, or ``15m`` for that long ago.

    Raises:
        ToolError: ``invalid_arguments``.
    """
    given = text.strip()
    if given == "now":
        return now
    span = _SPAN.fullmatch(given)
    try:
        if span:
            return now - timedelta(seconds=_seconds(span.group(1)))
        if re.fullmatch(r"\d{9,11}(?:\.\d+)?", given):
            return datetime.fromtimestamp(float(given), UTC)
        moment = datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{argument}: {given[:60]!r} is no time",
            hint="Use RFC 3339 (2026-08-01T10:00:00Z) or a span before now (now-1h, 15m, 1h30m).",
        ) from None


def parse_step(text: str) -> float:
    """``30s``, ``5m``, or plain seconds.

    Raises:
        ToolError: ``invalid_arguments``.
    """
    given = text.strip()
    if _DURATION.fullmatch(given):
        seconds = float(_seconds(given))
    elif re.fullmatch(r"\d{1,9}(?:\.\d{1,3})?", given):
        seconds = float(given)
    else:
        seconds = 0.0
    if seconds <= 0:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"step: {given[:40]!r} is no duration above zero",
            hint="Use 30s, 5m, 1h, or leave it out.",
        )
    return seconds


def step_for(span_s: float, points: int) -> float:
    """The smallest even step that gives at most so many points over a span. Seconds."""
    least = span_s / max(points - 1, 1)
    return float(next((step for step in STEPS_S if step >= least), -(-least // 86_400) * 86_400))


def in_words(seconds: float) -> str:
    """45s, 5m, 2h, 3d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def _seconds(text: str) -> int:
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
