"""Metrics by name: parts of histograms put together, words found in names and help. No request is made here."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from opsbus_monitoring.metricmodels import MetricRow, MetricType

HELP_CHARS = 300
FAMILIES_MAX = 15
_PARTS: dict[str, tuple[str, ...]] = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("", "_sum", "_count"),
}
_BUILT_IN = {
    "up": {"type": "gauge", "help": "1: the last scrape of the target succeeded, 0: it failed."},
    "ALERTS": {"type": "gauge", "help": "1 for every alert that is pending or fires (alertstate)."},
}
"""What Prometheus writes itself, and no target describes."""

_TYPES = ("counter", "gauge", "histogram", "summary")
_WORD = re.compile(r"[a-z0-9]+")
_LIKE: dict[str, tuple[str, ...]] = {
    "latency": ("duration", "latenc"),
    "response": ("duration", "latenc"),
    "memory": ("mem", "working", "rss"),
    "disk": ("filesystem", "volume"),
    "traffic": ("requests", "receive", "transmit"),
    "network": ("net", "receive", "transmit"),
    "error": ("errors", "failed", "failures"),
    "saturation": ("queue", "throttled"),
}
"""What people say, and how metrics spell it."""


@dataclass(frozen=True)
class Metric:
    """A metric as people think of it: ``series`` are the names to query."""

    name: str
    type: MetricType
    help: str
    unit: str
    series: tuple[str, ...]

    def row(self) -> MetricRow:
        """Without the number of series."""
        return MetricRow(
            name=self.name,
            type=self.type,
            help=self.help[:HELP_CHARS] or None,
            unit=self.unit or None,
            parts=list(self.series) if self.series != (self.name,) else None,
        )


def metrics_of(names: Iterable[str], metadata: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
    """The metrics behind the names of series, by name."""
    left = set(names)
    found = []
    for base, facts in metadata.items():
        suffixes = _PARTS.get(str(facts.get("type")), ())
        parts = tuple(base + suffix for suffix in suffixes if base + suffix in left)
        if parts:
            found.append(_metric(base, facts, parts))
            left.difference_update(parts)
    for name in left:
        # OpenMetrics names a counter without its _total.
        facts = metadata.get(name) or metadata.get(name.removesuffix("_total")) or _BUILT_IN.get(name, {})
        found.append(_metric(name, facts, (name,)))
    return sorted(found, key=lambda metric: metric.name)


def _metric(name: str, facts: Mapping[str, Any], parts: tuple[str, ...]) -> Metric:
    kind = str(facts.get("type"))
    if kind not in _TYPES:
        kind = "counter" if name.endswith("_total") else "unknown"
    return Metric(name, cast(MetricType, kind), str(facts.get("help") or ""), str(facts.get("unit") or ""), parts)


def search(metrics: Iterable[Metric], query: str) -> tuple[list[tuple[int, Metric]], bool]:
    """Metrics with a rank (0 is best), and whether each of them has all words of the query.

    A query with ``*`` is a pattern of the whole name.
    """
    text = query.strip().lower()
    if not text:
        return [(0, metric) for metric in metrics], True
    if "*" in text:
        return [(0, metric) for metric in metrics if fnmatchcase(metric.name.lower(), text)], True
    words = _WORD.findall(text)
    known = [(metric, [_where(word, metric) for word in words]) for metric in metrics]
    whole = [(_rank(found, metric, text), metric) for metric, found in known if None not in found]
    if whole:
        return whole, True
    least = min((found.count(None) for _, found in known), default=len(words))
    if least == len(words):
        return [], False
    return [(_rank(found, metric, text), metric) for metric, found in known if found.count(None) == least], False


def unknown_words(metrics: Iterable[Metric], query: str) -> list[str]:
    """Words of a query that no metric has."""
    known = list(metrics)
    return [w for w in _WORD.findall(query.lower()) if all(_where(w, metric) is None for metric in known)]


def _where(word: str, metric: Metric) -> int | None:
    """0: a word of the name, 1: part of the name, 2: of what it is also called, 3: of the help; None: nowhere."""
    name = " ".join((metric.name, *metric.series)).lower()
    stem = word[:-1] if word.endswith("s") and len(word) > 3 else word
    if word in re.split(r"[_: ]", name):
        return 0
    if stem in name:
        return 1
    if any(other in name for other in _LIKE.get(stem, ())):
        return 2
    return 3 if stem in metric.help.lower() else None


def _rank(found: list[int | None], metric: Metric, text: str) -> int:
    if metric.name.lower() == text or text in metric.series:
        return 0
    return 1 + min(8, sum(place or 0 for place in found))


def families(metrics: Iterable[Metric]) -> dict[str, int]:
    """First word of the name to how many, the most first."""
    counts = Counter(re.split(r"[_:]", metric.name, maxsplit=1)[0] for metric in metrics)
    return dict(counts.most_common(FAMILIES_MAX))
