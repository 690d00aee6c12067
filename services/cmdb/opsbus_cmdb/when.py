"""Times as callers write them: RFC 3339, or relative to now as in ``now-1h``."""

import re
from datetime import UTC, datetime, timedelta

from opsbus import ErrorCode, ToolError

_RELATIVE = re.compile(r"now(?:([+-])(\d{1,6})([smhdw]))?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(given: str, name: str, now: datetime | None = None) -> datetime:
    """An aware time.

    Raises:
        ToolError: ``invalid_arguments``, with the forms that are understood.
    """
    reference = now or datetime.now(UTC)
    relative = _RELATIVE.fullmatch(given.strip())
    try:
        if relative:
            sign, count, unit = relative.groups()
            if not sign:
                return reference
            step = timedelta(**{_UNITS[unit]: int(count)})
            return reference + step if sign == "+" else reference - step
        parsed = datetime.fromisoformat(given.strip())
    except (ValueError, OverflowError) as error:
        raise _not_a_time(given, name) from error
    if parsed.tzinfo is None:
        raise _not_a_time(given, name)
    return parsed.astimezone(UTC)


def _not_a_time(given: str, name: str) -> ToolError:
    return ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        f"{name} is not a time: {given[:60]!r}",
        hint="use RFC 3339 with a zone (2026-01-31T10:00:00Z) or now, now-1h, now+2d (s, m, h, d, w)",
    )
