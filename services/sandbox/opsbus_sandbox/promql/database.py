"""Series in memory: appended in time order, bounded in age. Where samples come from is not known here."""

from __future__ import annotations

import math
import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Labels = dict[str, str]

STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
"""Marks that a series ended, as in Prometheus: a NaN of its own."""


def is_stale(value: float) -> bool:
    """Whether the value is the staleness marker, not just any NaN."""
    return value != value and struct.pack("<d", value) == struct.pack("<Q", STALE_BITS)


@dataclass(frozen=True)
class Matcher:
    """``name op value`` with op one of ``=``, ``!=``, ``=~``, ``!~``; regular expressions are anchored."""

    name: str
    op: str
    value: str
    accepts: Callable[[str], bool] = field(compare=False)


def matcher(name: str, op: str, value: str) -> Matcher:
    """A Matcher.

    Raises:
        re.error: the regular expression is wrong.
    """
    if op in ("=", "!="):
        return Matcher(name, op, value, (lambda v: v == value) if op == "=" else (lambda v: v != value))
    pattern = re.compile(f"(?:{value})", re.DOTALL)
    if op == "=~":
        return Matcher(name, op, value, lambda v: pattern.fullmatch(v) is not None)
    return Matcher(name, op, value, lambda v: pattern.fullmatch(v) is None)


class Series:
    """One labelled series; times are Unix seconds."""

    __slots__ = ("labels", "times", "values")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.times = array("d")
        self.values = array("d")

    def at(self, when: float, lookback_s: float) -> float | None:
        """The newest value within ``lookback_s`` before ``when``; None when there is none or the series ended."""
        index = bisect_right(self.times, when) - 1
        if index < 0 or self.times[index] <= when - lookback_s or is_stale(self.values[index]):
            return None
        return self.values[index]

    def window(self, start: float, end: float) -> tuple[array[float], array[float]]:
        """Times and values in ``(start, end]`` without markers."""
        low, high = bisect_right(self.times, start), bisect_right(self.times, end)
        times, values = self.times[low:high], self.values[low:high]
        if any(math.isnan(value) for value in values):
            kept = [(t, v) for t, v in zip(times, values, strict=True) if not is_stale(v)]
            return array("d", [t for t, _ in kept]), array("d", [v for _, v in kept])
        return times, values


class Database:
    """All series, found by labels."""

    def __init__(self, retention_s: float = 8 * 3600.0) -> None:
        self.retention_s = retention_s
        self._series: dict[tuple[tuple[str, str], ...], Series] = {}
        self._by_name: dict[str, list[Series]] = {}

    def __len__(self) -> int:
        return len(self._series)

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series.values())

    def append(self, labels: Labels, when: float, value: float) -> None:
        """Add a sample; one that is not newer than the series' last is ignored."""
        key = tuple(sorted(labels.items()))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(dict(key))
            self._by_name.setdefault(labels.get("__name__", ""), []).append(series)
        if series.times and when <= series.times[-1]:
            return
        series.times.append(when)
        series.values.append(value)

    def expire(self, now: float) -> None:
        """Let go what is older than the retention."""
        oldest = now - self.retention_s
        for key, series in list(self._series.items()):
            if not series.times or series.times[-1] < oldest:
                del self._series[key]
                self._by_name[series.labels.get("__name__", "")].remove(series)
                continue
            cut = bisect_left(series.times, oldest)
            if cut > len(series.times) // 4:
                del series.times[:cut]
                del series.values[:cut]

    def select(self, matchers: Iterable[Matcher], start: float, end: float) -> list[Series]:
        """Series with a sample in ``[start, end]`` whose labels all matchers accept; an absent label reads as empty."""
        wanted = list(matchers)
        names = [m.value for m in wanted if m.name == "__name__" and m.op == "="]
        pool = self._by_name.get(names[0], []) if names else list(self._series.values())
        return [
            series
            for series in pool
            if series.times
            and series.times[-1] >= start
            and series.times[0] <= end
            and all(m.accepts(series.labels.get(m.name, "")) for m in wanted)
        ]
