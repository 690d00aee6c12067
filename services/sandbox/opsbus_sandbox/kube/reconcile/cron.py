"""Cron schedules: whether a minute is one of those a five-field expression names."""

from __future__ import annotations

from datetime import datetime

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMED = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


def is_due(schedule: str, minute: datetime) -> bool:
    """Whether the schedule names this minute (UTC). Raises ValueError for a schedule that cannot be read."""
    fields = _NAMED.get(schedule, schedule).split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: {schedule}")
    now = (minute.minute, minute.hour, minute.day, minute.month, minute.isoweekday() % 7)
    hits = [_matches(field, value, bounds) for field, value, bounds in zip(fields, now, _RANGES, strict=True)]
    # When both days are restricted, either is enough: the rule of cron since the beginning.
    day = hits[2] or hits[4] if "*" not in (fields[2], fields[4]) else hits[2] and hits[4]
    return hits[0] and hits[1] and hits[3] and day


def _matches(field: str, value: int, bounds: tuple[int, int]) -> bool:
    return any(value in _values(part, bounds) for part in field.split(","))


def _values(part: str, bounds: tuple[int, int]) -> set[int]:
    body, _, step = part.partition("/")
    low, high = bounds
    if body not in ("*", "?"):
        first, dash, last = body.partition("-")
        low = int(first)
        high = int(last) if dash else (high if step else low)
    if not bounds[0] <= low <= high <= bounds[1]:
        raise ValueError(f"{part} is outside {bounds[0]}-{bounds[1]}")
    values = set(range(low, high + 1, int(step or 1)))
    return {number % 7 for number in values} if bounds == (0, 7) else values
