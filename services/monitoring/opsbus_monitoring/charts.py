"""Pictures of series: lines over time, or bars at one moment, as PNG. Which series and lines to draw is the caller's.

matplotlib is loaded with the first picture; one picture is drawn at a time, for it is not made for threads.
"""

import threading
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

from opsbus_monitoring.chartbars import draw_bars
from opsbus_monitoring.chartlines import draw_legend, draw_lines
from opsbus_monitoring.chartmodels import COLORED_MAX, FAINT, INK, NAME_CHARS, ROW_IN, Chart, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
WIDTH_IN, PLOT_IN = 10.0, 4.1
TITLE_SIZES = ((76, 13.0), (96, 10.5), (116, 8.8))
"""Characters that fit into the width, and the size that they fit in."""

COLORS_MAX = 160
"""Of the palette."""

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
                draw_bars(axes, chart)
            else:
                draw_lines(axes, chart)
                draw_legend(figure, chart, height)
            _heading(figure, chart, height)
            try:
                return _png(canvas)
            finally:
                figure.clear()  # its parts refer to each other: without this they stay until the next big collection


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
    widest = max((len(cut(line.name, NAME_CHARS)) for line in chart.lines), default=0)
    left = min(0.5, 0.03 + widest * 0.0078)
    return left, bottom, 0.9 - left, top - bottom


def _heading(figure: "Figure", chart: Chart, height: float) -> None:
    title = cut(chart.title, TITLE_SIZES[-1][0])
    size = next(points for most, points in TITLE_SIZES if len(title) <= most)
    figure.text(0.018, 1 - 0.22 / height, title, fontsize=size, fontweight="bold", va="center")
    figure.text(0.018, 1 - 0.5 / height, chart.subtitle, fontsize=9.5, color=FAINT, va="center")
