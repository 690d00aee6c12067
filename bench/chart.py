"""Draws what was measured: the front doors beside each other, and how long a call takes with many clients."""

import textwrap
from pathlib import Path
from typing import Any

from bench import machine

_OURS, _OTHERS, _LIMIT = "#1f6feb", "#8c959f", "#57606a"
_INK, _GRID = "#1f2328", "#d8dee4"
_TITLE = "opsbus: calls per second through the front door"


def draw(kept: dict[str, dict[str, Any]], path: Path) -> Path | None:
    """Draw a picture.

    Args:
        kept: Suites by name, as report.kept gives them; without ``door`` there is nothing to draw.

    Returns:
        Where it is; None: nothing was drawn.
    """
    if "door" not in kept:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    doors = [row for row in kept["door"]["rows"] if row["per_s"] and not row["name"].startswith("0 ")]
    doors = [row for row in doors if not row["name"].endswith("one client")]
    clients = kept.get("clients", {}).get("rows", [])
    figure = Figure(figsize=(12, 6.6), dpi=120, layout=ConstrainedLayoutEngine(rect=(0.0, 0.075, 1.0, 0.86)))
    panels = figure.subplots(1, 2 if clients else 1, width_ratios=[1.7, 1] if clients else None, squeeze=False)[0]
    _bars(panels[0], doors)
    if clients:
        _curves(panels[1], clients)
    figure.suptitle(_TITLE, x=0.012, y=0.975, ha="left", fontsize=16, fontweight="bold", color=_INK)
    figure.text(0.012, 0.02, _foot(kept), fontsize=8.5, color=_LIMIT, va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _foot(kept: dict[str, dict[str, Any]]) -> str:
    where = machine.one_line(kept["door"]["machine"])
    said = f"{where}. Load by wrk on the same machine; median of the rounds after a warm-up; {kept['door']['at'][:10]}."
    return "\n".join(textwrap.wrap(said, 170))


def _bars(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = [row["name"] for row in rows]
    rates = [row["per_s"] for row in rows]
    spots = list(range(len(rows), 0, -1))
    colours = [_colour(name) for name in names]
    axes.barh(spots, rates, color=colours, height=0.72, xerr=[row["spread"] * row["per_s"] for row in rows],
              error_kw={"ecolor": _INK, "elinewidth": 0.8, "capsize": 2})  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 3, max(rates) * 6)
    axes.set_yticks(spots, names)
    for spot, row in zip(spots, rows, strict=True):
        cpu = sum(used for process, used in row["cpu_us"].items() if process != "wrk")
        shown = f"{row['per_s']:,.0f}   {cpu:,.0f} µs CPU"
        axes.text(row["per_s"] * (1.12 + row["spread"]), spot, shown, va="center", fontsize=8.5, color=_INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("calls per second (log scale; the thin line is the spread of the rounds)")
    axes.set_title(
        "64 clients; beside it the CPU of a call, of all processes but wrk", loc="left", fontsize=10, color=_INK
    )
    _plain(axes, "x")


def _curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    counts = [int(row["name"].split()[0].replace(",", "")) for row in rows]
    for key, label, shade in (("p99_ms", "p99", "#cf222e"), ("p95_ms", "p95", "#bf8700"), ("p50_ms", "p50", _OURS)):
        axes.plot(counts, [row[key] for row in rows], marker="o", markersize=4, color=shade, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("clients at once")
    axes.set_title("opsbus, everything on: milliseconds a call", loc="left", fontsize=10, color=_INK)
    axes.legend(frameon=False, loc="upper left")
    _plain(axes, "both")


def _colour(name: str) -> str:
    if "opsbus" in name or "…" in name:
        return _OURS if not name.startswith("3") else "#79b8ff"
    return _LIMIT if name.startswith("1") else _OTHERS


def _plain(axes: Any, grid: str) -> None:
    axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.xaxis.label.set_color(_INK)
