"""Moments as callers write them: RFC 3339, or a span before now."""

import re
from datetime import UTC, datetime, timedelta

from opsbus import ErrorCode, ToolError

_SPAN = re.compile(r"(?:now)?-?((?:\d{1,6}[smhdw])+)")
_PART = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_when(text: str | None, argument: str, now: datetime) -> datetime | None:
    """``2026-08-01T10:00:00Z``, ``now``, ``now-1h30m``, or ``15m`` for that long ago.

    Raises:
        ToolError: ``invalid_arguments``.
    """
    if text is None:
        return None
    given = text.strip()
    if given == "now":
        return now
    span = _SPAN.fullmatch(given)
    try:
        if span:
            return now - timedelta(seconds=sum(int(n) * _SECONDS[unit] for n, unit in _PART.findall(span.group(1))))
        moment = datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{argument}: {given[:60]!r} is no time",
            hint="Use RFC 3339 (2026-08-01T10:00:00Z) or a span before now (now-1h, 15m, 1h30m).",
        ) from None
