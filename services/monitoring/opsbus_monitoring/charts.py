"""Pictures of series: lines over time, or bars at one moment, as PNG. Which series and lines to draw is the caller's.

matplotlib is loaded with the first picture; one picture is drawn at a time, for it is not made for threads.
"""

import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from io import BytesIO
from typing import TYPE_CHECKING, Any

from opsbus_monitoring.thresholds import Threshold
from opsbus_monitoring.units import WORDS, Unit, in_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
WIDTH_IN, PLOT_IN = 10.0, 4.1
ROW_IN = 0.21
COLORED_MAX = 10
"""Series with a colour and a row in the legend; the others are drawn in grey."""

NAME_CHARS = 64
TITLE_SIZES = ((76, 13.0), (96, 10.5), (116, 8.8))
"""Characters that fit into the width, and the size that they fit in."""

COLORS_MAX = 160
"""Of the palette."""

FAR = 3.0
"""A threshold further away than this many times the data's extent is named and not drawn: the data would be flat."""

COLORS = (
    "#3366cc", "#e07b00", "#2a9d5c", "#8e44ad", "#17a2b8", "#b8860b", "#d4589a", "#6b7a8f", "#7a5230", "#5f9e00",
)  # fmt: skip
INK, FAINT, GRID, ALARM = "#1f2933", "#6b7785", "#e4e8ec", "#d62839"
STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a label may hold a dollar sign
    "axes.edgecolor": "#c3cad1",
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Points = Sequence[tuple[float, float | None]]


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


_ONE_AT_A_TIME = threading.Lock()


def draw(chart: Chart) -> bytes:
    """The picture as PNG, about 1200 pixels wide. Takes a good part of a second: call it in a thread."""
    with _ONE_AT_A_TIME:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # a box is drawn in its place
        with mpl.rc_context(STYLE):
            bars = chart.start == chart.end
            rows = len(chart.lines)
            legend_in = 0.0 if bars else ROW_IN * (min(rows, COLORED_MAX) + 1 + (rows > COLORED_MAX)) + 0.22
            height = 1.5 + 0.34 * max(rows, 2) if bars else PLOT_IN + legend_in
            figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, facecolor="white")
            canvas = FigureCanvasAgg(figure)
            axes = figure.add_axes(_place(height, legend_in, chart, bars=bars))
            if bars:
                _bars(axes, chart)
            else:
                _lines(axes, chart)
                _legend(figure, chart, height)
            _heading(figure, chart, height)
            return _png(canvas)


def _png(canvas: Any) -> bytes:
    """A quarter of the bytes, by a palette of the colours that are in the picture."""
    from PIL import Image

    canvas.draw()
    picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba().tobytes())
    small = picture.convert("RGB").quantize(COLORS_MAX, dither=Image.Dither.NONE)
    out = BytesIO()
    small.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _place(height: float, legend_in: float, chart: Chart, *, bars: bool) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the plot, as shares of the figure."""
    bottom = (0.45 if bars else legend_in + 0.42) / height
    top = 1 - 0.85 / height
    if not bars:
        return 0.085, bottom, 0.88, top - bottom
    widest = max((len(_cut(line.name, NAME_CHARS)) for line in chart.lines), default=0)
    left = min(0.5, 0.03 + widest * 0.0078)
    return left, bottom, 0.9 - left, top - bottom


def _heading(figure: "Figure", chart: Chart, height: float) -> None:
    title = _cut(chart.title, TITLE_SIZES[-1][0])
    size = next(points for most, points in TITLE_SIZES if len(title) <= most)
    figure.text(0.018, 1 - 0.22 / height, title, fontsize=size, fontweight="bold", va="center")
    figure.text(0.018, 1 - 0.5 / height, chart.subtitle, fontsize=9.5, color=FAINT, va="center")


def _lines(axes: "Axes", chart: Chart) -> None:
    import matplotlib.dates
    from matplotlib.ticker import FuncFormatter

    dates: Any = matplotlib.dates
    for index, line in reversed(list(enumerate(chart.lines))):
        colored = index < COLORED_MAX
        color = COLORS[index % len(COLORS)] if colored else "#c9d0d6"
        times, values = _with_gaps(line.points, chart.step_s)
        width, depth = (1.7, 3 + COLORED_MAX - index) if colored else (0.8, 2)
        axes.plot(times, values, color=color, linewidth=width, solid_joinstyle="round", zorder=depth)
        alone = _lonely(values)
        if alone:
            axes.plot([times[i] for i in alone], [values[i] for i in alone], "o", color=color, ms=3, zorder=depth)
        if len(chart.lines) == 1:
            axes.fill_between(times, values, axes_floor(chart), color=color, alpha=0.13, linewidth=0)
    axes.set_xlim(_moment(chart.start), _moment(chart.end))
    axes.set_ylim(*_extent(chart))
    locator = dates.AutoDateLocator(tz=UTC, minticks=5, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, chart.unit)))
    axes.yaxis.set_major_locator(_ticks(chart.unit, *axes.get_ylim()))
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    axes.spines["left"].set_visible(False)
    if WORDS[chart.unit]:
        axes.set_title(WORDS[chart.unit], loc="left", fontsize=9, color=FAINT, pad=5)
    _draw_thresholds(axes, chart)


def _draw_thresholds(axes: "Axes", chart: Chart) -> None:
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
            _cut(said, 60),
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
        axes.set_title(_cut("threshold " + "; ".join(above), 120), loc="right", fontsize=8.5, color=ALARM, pad=5)


def _legend(figure: "Figure", chart: Chart, height: float) -> None:
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
        figure.text(0.042, y, _cut(line.name, NAME_CHARS), fontsize=9.5, va="center")
        numbers = (min(known), math.fsum(known) / len(known), max(known), known[-1]) if known else (None,) * 4
        for x, number in zip(columns, numbers, strict=True):
            bold = "bold" if x == columns[-1] else "normal"
            figure.text(x, y, in_unit(number, chart.unit), fontsize=9.5, ha="right", va="center", fontweight=bold)
    more = len(chart.lines) - len(shown)
    if more:
        y = top - ROW_IN * (len(shown) + 1) / height
        figure.text(0.02, y, "■", fontsize=11, color="#c9d0d6", va="center")
        figure.text(0.042, y, f"{more} more, smaller ones", fontsize=9.5, color=FAINT, va="center")


def _bars(axes: "Axes", chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter

    values = [line.points[-1][1] if line.points else None for line in chart.lines]
    numbers = [value if value is not None else 0.0 for value in values]
    places = list(range(len(numbers)))
    wrong = [any(_crossed(number, line) for line in chart.thresholds) for number in numbers]
    axes.barh(places, numbers, color=[ALARM if bad else COLORS[0] for bad in wrong], height=0.62, zorder=3)
    axes.set_yticks(places, [_cut(line.name, NAME_CHARS) for line in chart.lines])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    axes.set_ylim(len(numbers) - 0.4, -0.6)
    drawn = [0.0, *numbers, *(line.value for line in _near(chart.thresholds, numbers))]
    span = (max(drawn) - min(drawn)) or 1.0
    axes.set_xlim(min(drawn) - (0.12 * span if min(drawn) < 0 else 0), max(drawn) + 0.12 * span)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, chart.unit)))
    axes.xaxis.set_major_locator(_ticks(chart.unit, *axes.get_xlim()))
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
    for line in _near(chart.thresholds, numbers):
        axes.axvline(line.value, color=ALARM, linewidth=1.3, linestyle=(0, (5, 3)), zorder=20)
        axes.annotate(
            _cut(f"{line.label} {line.op} {in_unit(line.value, chart.unit)}".strip(), 60),
            (line.value, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=ALARM,
        )


def axes_floor(chart: Chart) -> float:
    """Where the area below a single line ends."""
    return max(0.0, _extent(chart)[0])


def _extent(chart: Chart) -> tuple[float, float]:
    """The least and the most on the axis of values: zero is on it, unless all is far from it."""
    known = [value for line in chart.lines for _, value in line.points if value is not None]
    least, most = min(known), max(known)
    near = [line.value for line in _near(chart.thresholds, known)]
    least, most = min([least, *near]), max([most, *near])
    if least >= 0 and least < 0.7 * most:
        least = 0.0
    span = (most - least) or abs(most) or 1.0
    bottom = least if least == 0 else least - 0.08 * span
    return bottom, most + 0.1 * span


def _near(thresholds: Sequence[Threshold], known: Sequence[float]) -> list[Threshold]:
    """Thresholds that leave something of the data to be seen."""
    least, most = min(known), max(known)
    reach = FAR * max(most - least, abs(most), abs(least))
    return [line for line in thresholds if least - reach <= line.value <= most + reach or reach == 0]


def _crossed(value: float, line: Threshold) -> bool:
    return bool(line.op) and (value > line.value if line.op.startswith(">") else value < line.value)


def _ticks(unit: Unit, least: float, most: float) -> Any:
    from matplotlib.ticker import MaxNLocator, MultipleLocator

    if unit not in ("bytes", "Bps"):
        return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    # The even steps of bytes are powers of two.
    return MultipleLocator(2.0 ** math.ceil(math.log2((most - least) / 6)))


def _with_gaps(points: Points, step_s: float) -> tuple[list[float], list[float]]:
    """Times and values, not-a-number where points are missing: a line is not drawn over what is not known."""
    times: list[float] = []
    values: list[float] = []
    before: float | None = None
    for when, value in points:
        if before is not None and step_s and when - before > 1.5 * step_s:
            times.append(_moment(before + step_s))
            values.append(math.nan)
        times.append(_moment(when))
        values.append(math.nan if value is None else value)
        before = when
    return times, values


def _lonely(values: list[float]) -> list[int]:
    """Points without a neighbour: no line would show them."""

    def gap(index: int) -> bool:
        return not 0 <= index < len(values) or math.isnan(values[index])

    return [i for i, value in enumerate(values) if not math.isnan(value) and gap(i - 1) and gap(i + 1)]


def _moment(when: float) -> float:
    """matplotlib's dates are days since 1970."""
    return when / 86_400


def _cut(text: str, most: int) -> str:
    plain = "".join(char if char.isprintable() else " " for char in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= most else f"{plain[: most * 2 // 3]}…{plain[-(most // 3 - 1) :]}"
