"""Bars, one per series, of values at one moment."""

from typing import TYPE_CHECKING

from opsbus_monitoring.chartmodels import ALARM, COLORS, GRID, INK, NAME_CHARS, Chart, cut
from opsbus_monitoring.chartscale import crossed, near, ticks
from opsbus_monitoring.units import in_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_bars(axes: "Axes", chart: Chart) -> None:
    """The plot."""
    from matplotlib.ticker import FuncFormatter

    values = [line.points[-1][1] if line.points else None for line in chart.lines]
    numbers = [value if value is not None else 0.0 for value in values]
    places = list(range(len(numbers)))
    wrong = [any(crossed(number, line) for line in chart.thresholds) for number in numbers]
    axes.barh(places, numbers, color=[ALARM if bad else COLORS[0] for bad in wrong], height=0.62, zorder=3)
    axes.set_yticks(places, [cut(line.name, NAME_CHARS) for line in chart.lines])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    axes.set_ylim(len(numbers) - 0.4, -0.6)
    drawn = [0.0, *numbers, *(line.value for line in near(chart.thresholds, numbers))]
    span = (max(drawn) - min(drawn)) or 1.0
    axes.set_xlim(min(drawn) - (0.12 * span if min(drawn) < 0 else 0), max(drawn) + 0.12 * span)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, chart.unit)))
    axes.xaxis.set_major_locator(ticks(chart.unit, *axes.get_xlim()))
    axes.grid(axis="x", color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.spines["bottom"].set_visible(False)
    for place, value in zip(places, values, strict=True):
        below = value is not None and value < 0
        axes.annotate(
            in_unit(value, chart.unit),
            (value or 0.0, place),
            xytext=(-5 if below else 5, 0),
            textcoords="offset points",
            va="center",
            ha="right" if below else "left",
            fontsize=9,
            zorder=25,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    for line in near(chart.thresholds, numbers):
        axes.axvline(line.value, color=ALARM, linewidth=1.3, linestyle=(0, (5, 3)), zorder=20)
        axes.annotate(
            cut(f"{line.label} {line.op} {in_unit(line.value, chart.unit)}".strip(), 60),
            (line.value, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=ALARM,
        )
