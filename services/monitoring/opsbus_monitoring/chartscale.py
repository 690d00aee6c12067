"""Numbers of a chart: how far its axis reaches, where its ticks are, where its lines have gaps."""

import math
from collections.abc import Sequence
from typing import Any

from opsbus_monitoring.chartmodels import Chart, Points
from opsbus_monitoring.thresholds import Threshold
from opsbus_monitoring.units import Unit

FAR = 3.0
"""A threshold further away than this many times the data's extent is named and not drawn: the data would be flat."""


def floor_of(chart: Chart) -> float:
    """Where the area below a single line ends."""
    return max(0.0, extent(chart)[0])


def extent(chart: Chart) -> tuple[float, float]:
    """The least and the most on the axis of values: zero is on it, unless all is far from it."""
    known = [value for line in chart.lines for _, value in line.points if value is not None]
    least, most = min(known), max(known)
    marks = [line.value for line in near(chart.thresholds, known)]
    least, most = min([least, *marks]), max([most, *marks])
    if least >= 0 and least < 0.7 * most:
        least = 0.0
    span = (most - least) or abs(most) or 1.0
    bottom = least if least == 0 else least - 0.08 * span
    return bottom, most + 0.1 * span


def near(thresholds: Sequence[Threshold], known: Sequence[float]) -> list[Threshold]:
    """Thresholds that leave something of the data to be seen."""
    least, most = min(known), max(known)
    reach = FAR * max(most - least, abs(most), abs(least))
    return [line for line in thresholds if least - reach <= line.value <= most + reach or reach == 0]


def crossed(value: float, line: Threshold) -> bool:
    """Whether a value is on the wrong side of a line."""
    return bool(line.op) and (value > line.value if line.op.startswith(">") else value < line.value)


def ticks(unit: Unit, least: float, most: float) -> Any:
    """A locator of about six even steps."""
    from matplotlib.ticker import MaxNLocator, MultipleLocator

    if unit not in ("bytes", "Bps"):
        return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    # The even steps of bytes are powers of two.
    return MultipleLocator(2.0 ** math.ceil(math.log2((most - least) / 6)))


def with_gaps(points: Points, step_s: float) -> tuple[list[float], list[float]]:
    """Times and values, not-a-number where points are missing: a line is not drawn over what is not known."""
    times: list[float] = []
    values: list[float] = []
    before: float | None = None
    for when, value in points:
        if before is not None and step_s and when - before > 1.5 * step_s:
            times.append(moment(before + step_s))
            values.append(math.nan)
        times.append(moment(when))
        values.append(math.nan if value is None else value)
        before = when
    return times, values


def lonely(values: list[float]) -> list[int]:
    """Points without a neighbour: no line would show them."""

    def gap(index: int) -> bool:
        return not 0 <= index < len(values) or math.isnan(values[index])

    return [i for i, value in enumerate(values) if not math.isnan(value) and gap(i - 1) and gap(i + 1)]


def moment(when: float) -> float:
    """matplotlib's dates are days since 1970."""
    return when / 86_400
