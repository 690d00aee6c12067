"""Units of numbers on a chart: guessed from an expression, and written as people read them."""

import math
import re
from typing import Literal, get_args

Unit = Literal["short", "s", "bytes", "percent", "percentunit", "reqps", "Bps"]
"""Grafana's names: percentunit is 0 to 1, percent 0 to 100, reqps and Bps are per second."""

UNITS: tuple[Unit, ...] = get_args(Unit)
WORDS: dict[Unit, str] = {
    "short": "",
    "s": "seconds",
    "bytes": "bytes",
    "percent": "percent",
    "percentunit": "percent",
    "reqps": "per second",
    "Bps": "bytes per second",
}
"""Beside the axis."""

_RATE = re.compile(r"\b(?:rate|irate|deriv|idelta)\s*\(")
_QUOTED = re.compile(r"""\"(?:[^"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'""")
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()")
_SHARE = re.compile(r"_ratio\b")
_THOUSANDS = ("", "k", "M", "G", "T", "P")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def guess_unit(expr: str) -> Unit:
    """What an expression most likely gives, by the names of its metrics; ``short`` when they do not tell."""
    plain = _LABELS.sub(" ", _QUOTED.sub("", expr))
    whole = " ".join(_NAME.findall(plain))
    if _SHARE.search(whole) or _is_share(plain):
        return "percentunit"
    rate = bool(_RATE.search(plain))
    if "histogram_quantile" in plain and "_bucket" in plain:
        return "bytes" if "_bytes_bucket" in plain else "s" if "_seconds_bucket" in plain else "short"
    if re.search(r"_seconds_sum\b.*/.*_seconds_count\b", plain, re.DOTALL):
        return "s"
    if re.search(r"_bytes(?:_total)?\b", whole):
        return "Bps" if rate else "bytes"
    if re.search(r"_seconds_total\b", whole):
        return "short" if rate else "s"
    if rate:
        return "reqps"
    return "s" if re.search(r"_seconds\b", whole) else "short"


def _is_share(plain: str) -> bool:
    """``x / x``: the same metric above and below, and nothing in it that makes another unit of it."""
    above, slash, below = plain.partition("/")
    if not slash or "/" in below or re.search(r"_(?:sum|count)\b", plain) or re.search(r"\*\s*100\b", plain):
        return False
    pattern = r"[a-zA-Z_:][a-zA-Z0-9_:]*_(?:total|bytes|seconds|replicas\w*)\b"
    up, down = re.findall(pattern, above), re.findall(pattern, below)
    kinds = [{name.rsplit("_", 1)[-1] for name in part} for part in (up, down)]
    return bool(up) and bool(down) and kinds[0] == kinds[1]


def in_unit(value: float | None, unit: Unit) -> str:
    """A number as people read it: ``1.5 GiB``, ``250 ms``, ``4.2%``; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{_digits(value * 100)}%"
    if unit == "percent":
        return f"{_digits(value)}%"
    if unit == "s":
        return _seconds(value)
    if unit in ("bytes", "Bps"):
        return _scaled(value, 1024.0, _BINARY, " ") + ("/s" if unit == "Bps" else "")
    return _scaled(value, 1000.0, _THOUSANDS, "") + ("/s" if unit == "reqps" else "")


def _scaled(value: float, base: float, names: tuple[str, ...], gap: str) -> str:
    size, power = abs(value), 0
    while size >= base * 0.9995 and power < len(names) - 1:
        size, power = size / base, power + 1
    return f"{_digits(math.copysign(size, value))}{gap}{names[power]}".strip()


def _seconds(value: float) -> str:
    size = abs(value)
    for length, name in _TIMES:
        if size >= length:
            return f"{_digits(value / length)} {name}"
    if size >= 1 or size == 0:
        return f"{_digits(value)} s"
    return f"{_digits(value * 1e3)} ms" if size >= 1e-3 else f"{_digits(value * 1e6)} µs"


def _digits(value: float) -> str:
    """Three significant digits, no trailing zeros."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) < 100 else 0
    text = f"{value:.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
