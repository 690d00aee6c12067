"""Lines over time, the thresholds across them, and the table of numbers below."""

import math
from datetime import UTC
from typing import TYPE_CHECKING, Any

from opsbus_monitoring.chartmodels import ALARM, COLORED_MAX, COLORS, FAINT, GRID, NAME_CHARS, PALE, ROW_IN, Chart, cut
from opsbus_monitoring.chartscale import extent, floor_of, lonely, moment, ticks, with_gaps
from opsbus_monitoring.units import WORDS, in_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_lines(axes: "Axes", chart: Chart) -> None:
    """The plot."""
    import matplotlib.dates
    from matplotlib.ticker import FuncFormatter

    dates: Any = matplotlib.dates
    for index, line in reversed(list(enumerate(chart.lines))):
        colored = index < COLORED_MAX
        color = COLORS[index % len(COLORS)] if colored else PALE
        times, values = with_gaps(line.points, chart.step_s)
        width, depth = (1.7, 3 + COLORED_MAX - index) if colored else (0.8, 2)
        axes.plot(times, values, color=color, linewidth=width, solid_joinstyle="round", zorder=depth)
        alone = lonely(values)
        if alone:
            axes.plot([times[i] for i in alone], [values[i] for i in alone], "o", color=color, ms=3, zorder=depth)
        if len(chart.lines) == 1:
            axes.fill_between(times, values, floor_of(chart), color=color, alpha=0.13, linewidth=0)
    axes.set_xlim(moment(chart.start), moment(chart.end))
    axes.set_ylim(*extent(chart))
    locator = dates.AutoDateLocator(tz=UTC, minticks=5, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, chart.unit)))
    axes.yaxis.set_major_locator(ticks(chart.unit, *axes.get_ylim()))
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.spines["left"].set_visible(False)
    if WORDS[chart.unit]:
        axes.set_title(WORDS[chart.unit], loc="left", fontsize=9, color=FAINT, pad=5)
    _thresholds(axes, chart)


def _thresholds(axes: "Axes", chart: Chart) -> None:
    least, most = axes.get_ylim()
    above = []
    for line in chart.thresholds:
        words = f"{line.label} " if line.label else ""
        said = f"{words}{line.op} {in_unit(line.value, chart.unit)}" if line.op else (
            f"{words}{in_unit(line.value, chart.unit)}"
        )  # fmt: skip
        if not least <= line.value <= most:
            above.append(f"{said} ({'above' if line.value > most else 'below'} the chart)")
            continue
        axes.axhline(line.value, color=ALARM, linewidth=1.3, linestyle=(0, (5, 3)), zorder=20)
        if line.op:
            edge = most if line.op.startswith(">") else least
            axes.axhspan(line.value, edge, color=ALARM, alpha=0.055, linewidth=0, zorder=1)
        room_above = (most - line.value) / (most - least) > 0.08
        axes.annotate(
            cut(said, 60),
            (0.006, line.value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3 if room_above else -3),
            textcoords="offset points",
            va="bottom" if room_above else "top",
            fontsize=8.5,
            color=ALARM,
            zorder=21,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )
    if above:
        axes.set_title(cut("threshold " + "; ".join(above), 120), loc="right", fontsize=8.5, color=ALARM, pad=5)


def draw_legend(figure: "Figure", chart: Chart, height: float) -> None:
    """A table below the plot: name, last, average, maximum."""
    shown = chart.lines[:COLORED_MAX]
    columns = (0.69, 0.78, 0.87, 0.965)
    top = (ROW_IN * (len(shown) + (len(chart.lines) > COLORED_MAX)) + 0.27) / height
    for x, word in zip(columns, ("min", "avg", "max", "last"), strict=True):
        figure.text(x, top, word, fontsize=8.5, color=FAINT, ha="right", va="center")
    for index, line in enumerate(shown):
        y = top - ROW_IN * (index + 1) / height
        known = [value for _, value in line.points if value is not None]
        figure.text(0.02, y, "■", fontsize=11, color=COLORS[index % len(COLORS)], va="center")
        figure.text(0.042, y, cut(line.name, NAME_CHARS), fontsize=9.5, va="center")
        numbers = (min(known), math.fsum(known) / len(known), max(known), known[-1]) if known else (None,) * 4
        for x, number in zip(columns, numbers, strict=True):
            bold = "bold" if x == columns[-1] else "normal"
            figure.text(x, y, in_unit(number, chart.unit), fontsize=9.5, ha="right", va="center", fontweight=bold)
    more = len(chart.lines) - len(shown)
    if more:
        y = top - ROW_IN * (len(shown) + 1) / height
        figure.text(0.02, y, "■", fontsize=11, color=PALE, va="center")
        figure.text(0.042, y, f"{more} more, smaller ones", fontsize=9.5, color=FAINT, va="center")
