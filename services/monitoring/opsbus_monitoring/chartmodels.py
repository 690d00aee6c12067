"""What a chart is made of: its series and lines, its colours, and how long its words may be."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from opsbus_monitoring.thresholds import Threshold
from opsbus_monitoring.units import Unit

Points = Sequence[tuple[float, float | None]]

COLORED_MAX = 10
"""Series with a colour and a row in the legend; the others are drawn in grey."""

ROW_IN = 0.21
"""Of the legend."""

NAME_CHARS = 64

COLORS = (
    "#3366cc", "#e07b00", "#2a9d5c", "#8e44ad", "#17a2b8", "#b8860b", "#d4589a", "#6b7a8f", "#7a5230", "#5f9e00",
)  # fmt: skip
INK, FAINT, GRID, ALARM = "#1f2933", "#6b7785", "#e4e8ec", "#d62839"
PALE = "#c9d0d6"


@dataclass(frozen=True)
class Line:
    """One series. ``points``: Unix seconds and values, None where there is none."""

    name: str
    points: Points


@dataclass(frozen=True)
class Chart:
    """What is to be seen. ``start`` and ``end`` are Unix seconds; equal for bars at one moment."""

    title: str
    subtitle: str
    unit: Unit
    lines: Sequence[Line]
    start: float
    end: float
    step_s: float = 0.0
    thresholds: Sequence[Threshold] = field(default_factory=tuple)


def cut(text: str, most: int) -> str:
    """On one line, the middle left out when it is long."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= most else f"{plain[: most * 2 // 3]}…{plain[-(most // 3 - 1) :]}"
