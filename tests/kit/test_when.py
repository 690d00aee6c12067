"""Moments as callers write them: one grammar for every tool."""

from datetime import UTC, datetime, timedelta

import pytest

from opsbus import ErrorCode, ToolError
from opsbus.when import parse_when

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        (" now-1h ", NOW - timedelta(hours=1)),
        ("15m", NOW - timedelta(minutes=15)),
        ("-1h30m", NOW - timedelta(minutes=90)),
        ("now-2w", NOW - timedelta(days=14)),
        ("2026-08-01T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-08-01T12:00:00+02:00", NOW - timedelta(hours=2)),
        ("2026-08-01", datetime(2026, 8, 1, tzinfo=UTC)),
        (str(int(NOW.timestamp())), NOW),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert parse_when(text, "since", NOW) == expected


def test_a_moment_to_come_is_understood_where_it_makes_sense() -> None:
    assert parse_when("now+2d", "until", NOW, future=True) == NOW + timedelta(days=2)
    assert parse_when("now-2d", "until", NOW, future=True) == NOW - timedelta(days=2)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "1x", "1y", "now+1h", "now-", "999999w999999w", "12:00", "2026-13-01T00:00:00Z", "2026-99-01",
     "2026-08-01T10:00:00", "99999999999999", "now-1h\nnow"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ToolError) as refusal:
        parse_when(text, "since", NOW)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS
    assert "since" in refusal.value.message
    assert "RFC 3339" in refusal.value.hint
