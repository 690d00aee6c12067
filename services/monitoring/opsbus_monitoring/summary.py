"""A series in a few numbers: extremes, average, percentile, trend and a sparkline. Pure functions; gaps are None."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Summary:
    """What is left of a series. Values are None when there is no number at all."""

    last: float | None
    least: float | None
    most: float | None
    average: float | None
    p95: float | None
    slope_per_hour: float | None
    sparkline: str
    points: int
    missing: int


def summarize(points: Points, start: float, end: float, step_s: float) -> Summary:
    """A series over a range. ``missing``: moments of the grid with no number."""
    values = on_grid(points, start, end, step_s)
    known = [value for value in values if value is not None]
    if not known:
        return Summary(None, None, None, None, None, None, "", 0, len(values))
    return Summary(
        last=rounded(known[-1]),
        least=rounded(min(known)),
        most=rounded(max(known)),
        average=rounded(math.fsum(known) / len(known)),
        p95=rounded(percentile(known, 0.95)),
        slope_per_hour=slope(points),
        sparkline=sparkline(values),
        points=len(known),
        missing=len(values) - len(known),
    )


def on_grid(points: Points, start: float, end: float, step_s: float) -> list[float | None]:
    """The value at each step of the range; None where Prometheus gave none."""
    count = math.floor((end - start) / step_s + 1e-6) + 1
    values: list[float | None] = [None] * count
    for when, value in points:
        index = round((when - start) / step_s)
        if 0 <= index < count:
            values[index] = value
    return values


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was really there."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(points: Points) -> float | None:
    """Change per hour of the line through the points (least squares); None for fewer than two."""
    known = [(when, value) for when, value in points if value is not None]
    if len(known) < 2:
        return None
    middle_t = math.fsum(t for t, _ in known) / len(known)
    middle_v = math.fsum(v for _, v in known) / len(known)
    spread = math.fsum((t - middle_t) ** 2 for t, _ in known)
    if spread == 0:
        return None
    return rounded(math.fsum((t - middle_t) * (v - middle_v) for t, v in known) / spread * 3_600)


def sparkline(values: Sequence[float | None], width: int = SPARK_WIDTH) -> str:
    """The course of a series in so many characters at most; a gap is a space."""
    size = len(values) / min(width, len(values)) if values else 1
    buckets = []
    for index in range(min(width, len(values))):
        part = [v for v in values[math.floor(index * size) : math.floor((index + 1) * size)] if v is not None]
        buckets.append(math.fsum(part) / len(part) if part else None)
    known = [bucket for bucket in buckets if bucket is not None]
    if not known:
        return ""
    least, span = min(known), max(known) - min(known)
    if span <= abs(least) * 1e-9:
        return "".join(" " if bucket is None else SPARKS[3] for bucket in buckets)
    top = len(SPARKS) - 1
    return "".join(" " if bucket is None else SPARKS[round((bucket - least) / span * top)] for bucket in buckets)


def rounded(value: float | None) -> float | None:
    """Six significant digits, ten of large numbers (times, bytes); None stays, infinities become None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}" if abs(value) < 1e6 else f"{value:.10g}")
