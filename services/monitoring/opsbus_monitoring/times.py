"""Durations as callers write them, and steps as Prometheus takes them. Moments are the kit's."""

import re

from opsbus import ErrorCode, ToolError
from opsbus.when import seconds_of

_DURATION = re.compile(r"(?:\d{1,6}[smhdw])+")

STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
"""Steps that divide minutes, hours and days evenly. Seconds."""


def parse_step(text: str) -> float:
    """``30s``, ``5m``, or plain seconds.

    Raises:
        ToolError: ``invalid_arguments``.
    """
    given = text.strip()
    if _DURATION.fullmatch(given):
        seconds = float(seconds_of(given))
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
