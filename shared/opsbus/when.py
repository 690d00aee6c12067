"""Moments as callers of tools write them: RFC 3339, Unix seconds, or a span from now. One grammar for every tool."""

import re
from datetime import UTC, datetime, timedelta

from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode

_SPAN = re.compile(r"(?:now)?([+-]?)((?:\d{1,6}[smhdw])+)")
_UNIX = re.compile(r"\d{9,11}(?:\.\d+)?")
_PART = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_when(text: str, argument: str, now: datetime | None = None, *, future: bool = False) -> datetime:
    """``2026-08-01T10:00:00Z``, ``2026-08-01`` (midnight UTC), ``now``, ``now-1h30m``, or ``15m`` for that long ago.

    Args:
        argument: its name, for the error.
        now: the moment to reckon from; None: the present.
        future: whether ``now+2d`` is understood too.

    Raises:
        ToolError: ``invalid_arguments``, with the forms that are understood.
    """
    reference, given = now or datetime.now(UTC), text.strip()
    if given == "now":
        return reference
    span = _SPAN.fullmatch(given)
    try:
        if span and (future or span.group(1) != "+"):
            step = timedelta(seconds=seconds_of(span.group(2)))
            return reference + step if span.group(1) == "+" else reference - step
        if _UNIX.fullmatch(given):
            return datetime.fromtimestamp(float(given), UTC)
        moment = datetime.fromisoformat(given if "T" in given else f"{given}T00:00:00Z")
        if moment.tzinfo is None:
            raise ValueError("a time of day without a zone is nobody's")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        after = ", or after it (now+2d)" if future else ""
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{argument}: {given[:60]!r} is no time",
            hint=f"Use RFC 3339 (2026-08-01T10:00:00Z) or a span before now (now-1h, 15m, 1h30m){after}.",
        ) from None


def seconds_of(span: str) -> int:
    """``1h30m`` in seconds."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(span))
