"""Why an expression gives nothing.

An unknown metric, a matcher that excludes all, a range too short, a join that fails.
"""

from opsbus.toolerror import near
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.expressions import LabelMatch, Selector, is_scalar, parse, selectors_of, sides
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.querymodels import Finding
from opsbus_monitoring.times import in_words

SELECTORS_MAX = 5
"""Selectors looked into; each costs a few small queries."""

LOOKBACK_S = 300.0
"""How far an instant query looks back. Prometheus' default."""

_COMPARISONS = (">", "<", ">=", "<=", "==", "!=")
_RATES = ("rate(", "irate(", "increase(", "delta(", "idelta(", "deriv(")


class Doctor:
    """Looks into one empty answer. ``window_s``: how long before ``at`` samples count."""

    def __init__(self, prometheus: Prometheus, at: float, window_s: float) -> None:
        self._prometheus = prometheus
        self._at = at
        self._window = in_words(max(round(window_s), round(LOOKBACK_S)))

    async def explain(self, expr: str) -> list[Finding]:
        """What was found; at least one finding. A question that fails is left out."""
        tree = parse(expr)
        if tree is None:
            return [Finding(reason="The expression gave nothing, and it could not be looked into.")]
        findings = []
        for selector in selectors_of(tree)[:SELECTORS_MAX]:
            finding = await self._selector(selector, expr)
            if finding is not None:
                findings.append(finding)
        return findings or [await self._operation(tree, expr)]

    async def _selector(self, selector: Selector, expr: str) -> Finding | None:
        """What is wrong with a selector; None when it has samples enough."""
        found = await self._samples(selector.text())
        if found:
            return await self._range(selector, found, expr)
        if selector.metric and not await self._samples(selector.metric):
            return await self._metric(selector.metric)
        return await self._matchers(selector)

    async def _metric(self, metric: str) -> Finding:
        try:
            names = await self._prometheus.label_values("__name__")
        except BackendError:
            names = []
        if metric in names:
            return Finding(
                reason=f"The metric {metric} has no samples in this range.",
                hint="It existed at another time: move start and end, or see whether its target is up.",
            )
        close = [*near(metric, names), *(name for name in names if metric in name)]
        return Finding(
            reason=f"There is no metric {metric}.",
            hint="Metric names are exact; counters end in _total, histograms in _bucket, _sum and _count.",
            did_you_mean=list(dict.fromkeys(close))[:5],
        )

    async def _matchers(self, selector: Selector) -> Finding:
        for match in selector.matches:
            if not selector.metric and match.op in ("!=", "!~"):
                continue
            if not await self._samples(selector.text((match,))):
                return await self._matcher(selector, match)
        return Finding(
            reason=f"Each matcher of {selector.text()} alone has series, all of them together have none.",
            hint="Leave matchers out one by one.",
        )

    async def _matcher(self, selector: Selector, match: LabelMatch) -> Finding:
        values: list[str] = []
        try:
            result = await self._prometheus.query(f"count by ({match.name}) ({selector.metric})", self._at)
            values = [series.labels.get(match.name, "") for series in result.series]
        except BackendError:
            if match.op == "=":
                values = await self._values(match.name)
        known = sorted(value for value in values if value)
        if not known:
            return Finding(
                reason=f"The matcher {match} excludes every series: {selector.metric} has no label {match.name}.",
                hint=f"See its labels with: group by (__name__) ({selector.metric}) or topk(1, {selector.metric}).",
            )
        close = near(match.value, known) or known[:5]
        return Finding(
            reason=f"The matcher {match} excludes every series of {selector.metric or 'all metrics'}.",
            hint=f"{match.name} is one of: {', '.join(known[:15])}{' ...' if len(known) > 15 else ''}.",
            did_you_mean=close,
        )

    async def _values(self, label: str) -> list[str]:
        try:
            return await self._prometheus.label_values(label)
        except BackendError:
            return []

    async def _range(self, selector: Selector, most: float, expr: str) -> Finding | None:
        """Whether the range in brackets holds enough samples."""
        if selector.range_s is None:
            return None
        inside = await self._samples(selector.text(), in_words(selector.range_s))
        needs_two = any(word in expr for word in _RATES)
        if inside >= (2 if needs_two else 1):
            return None
        every = self._seconds() / most
        return Finding(
            reason=f"[{in_words(selector.range_s)}] is shorter than two scrapes of {selector.text()}, "
            f"which come about every {every:.0f} s.",
            hint=f"Use at least [{in_words(float(max(60, round(every * 4 / 60) * 60)))}].",
        )

    async def _operation(self, tree: object, expr: str) -> Finding:
        """Every selector has samples: what is made of them has not."""
        parts = sides(tree)
        if parts is None:
            return Finding(
                reason="Every selector has samples, but what is computed from them has no result.",
                hint="Try the inner parts of the expression one by one.",
            )
        left, op, right = parts
        if op in _COMPARISONS and (is_scalar(left) or is_scalar(right)):
            return Finding(
                reason=f"No series passes the comparison {op} {right if is_scalar(right) else left}.",
                hint="That may be the answer: nothing is over the limit. Leave the comparison out to see the values.",
            )
        counts = [await self._count(side) for side in (left, right)]
        return Finding(
            reason=f"The left of {op} has {counts[0]} series, the right {counts[1]}, and no two have the same labels.",
            hint="Join on the labels they share, on(...) or ignoring(...), or aggregate both sides alike.",
        )

    async def _count(self, expr: str) -> int:
        try:
            result = await self._prometheus.query(f"count({expr})", self._at)
        except BackendError:
            return 0
        return int(result.series[0].points[-1][1] or 0) if result.series else 0

    async def _samples(self, selector: str, window: str | None = None) -> float:
        """The most samples a series of the selector has in the window; 0: none."""
        try:
            inside = f"count_over_time({selector}[{window or self._window}])"
            result = await self._prometheus.query(f"max({inside})", self._at)
        except BackendError:
            return 0.0
        return float(result.series[0].points[-1][1] or 0) if result.series else 0.0

    def _seconds(self) -> float:
        unit = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}[self._window[-1]]
        return float(self._window[:-1]) * unit
