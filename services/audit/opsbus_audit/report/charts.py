"""Charts as inline SVG, without a library and without a script: bars, and days stacked by outcome. Everything that is
put in is escaped here."""

from collections.abc import Sequence
from datetime import datetime
from html import escape

OUTCOMES = ("success", "failure", "denied", "unknown", "cancelled")
_ROW = 26
_LABEL = 230
_WIDTH = 760
_BARS = 420
_HEIGHT = 180
_LABEL_CHARS = 32


def bars(title: str, rows: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars, the largest first.

    Args:
        rows: Name, number, and the class of its colour (``success``, ``denied``, ...; empty: the plain one).
    """
    if not rows:
        return ""
    most = max(number for _, number, _ in rows) or 1
    height = _ROW * len(rows) + 8
    told = "; ".join(f"{name or '(none)'}: {number}" for name, number, _ in rows)
    parts = [_head(title, told, _WIDTH, height)]
    for at, (name, number, kind) in enumerate(rows):
        y = at * _ROW + 4
        width = max(2, round(number / most * _BARS))
        shown = name if len(name) <= _LABEL_CHARS else f"{name[: _LABEL_CHARS - 1]}…"
        parts.append(
            f'<text x="{_LABEL - 10}" y="{y + 15}" text-anchor="end">{escape(shown or "(none)")}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="{_kind(kind)}" x="{_LABEL}" y="{y + 2}" width="{width}" height="{_ROW - 8}" rx="3"/>'
            f'<text class="n" x="{_LABEL + width + 8}" y="{y + 15}">{number:,}</text>'
        )
    return "".join([*parts, "</svg>"])


def days(title: str, found: Sequence[tuple[datetime, dict[str, int]]]) -> str:
    """A column for each day, stacked by outcome."""
    if not found:
        return ""
    most = max((sum(counts.values()) for _, counts in found), default=1) or 1
    total = sum(sum(counts.values()) for _, counts in found)
    told = f"{total} calls on {len(found)} days; the most on one day: {most}"
    parts = [_head(title, told, _WIDTH, _HEIGHT + 40)]
    step = (_WIDTH - 60) / len(found)
    width = max(1.0, min(46.0, step * 0.8))
    every = max(1, round(len(found) / 8))
    parts.append(f'<line class="axis" x1="50" x2="{_WIDTH - 10}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>')
    parts.append(f'<text class="n" x="44" y="14" text-anchor="end">{most:,}</text>')
    parts.append(f'<text class="n" x="44" y="{_HEIGHT}" text-anchor="end">0</text>')
    for at, (day, counts) in enumerate(found):
        x, y = 50 + at * step + (step - width) / 2, float(_HEIGHT)
        shown = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts.get(name))
        parts.append(f"<g><title>{day:%Y-%m-%d}: {escape(shown or 'none')}</title>")
        for name in OUTCOMES:
            if number := counts.get(name, 0):
                height = max(1.0, number / most * (_HEIGHT - 10))
                y -= height
                parts.append(
                    f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
                )
        parts.append("</g>")
        if at % every == 0:
            parts.append(
                f'<text class="n" x="{x + width / 2:.1f}" y="{_HEIGHT + 18}" text-anchor="middle">{day:%d %b}</text>'
            )
    return "".join([*parts, "</svg>"])


def _head(title: str, told: str, width: int, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(f"{title}. {told}", quote=True)}"'
        ' xmlns="http://www.w3.org/2000/svg">'
    )


def _kind(kind: str) -> str:
    return kind if kind in OUTCOMES else "plain"
