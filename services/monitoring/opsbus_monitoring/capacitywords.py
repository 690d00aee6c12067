"""A capacity forecast in words: the summary an engineer would write, and the full report in Markdown."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opsbus_monitoring.foretold import Forecast, Verdict, in_days
from opsbus_monitoring.summary import rounded
from opsbus_monitoring.times import in_words

NAMED_MAX = 3
SERIES_MAX = 100
ORDER: tuple[Verdict, ...] = ("exceeded", "reaches", "unreliable", "later", "insufficient_data", "stable")
"""What needs a person first."""


@dataclass(frozen=True)
class Question:
    """What was asked. ``step_s``, ``history_s``, ``horizon_s``: seconds."""

    what: str
    expr: str
    threshold: float
    above: bool
    percentile: float
    horizon_s: float
    history_s: float
    step_s: float
    ratio: bool
    asked_at: datetime

    @property
    def limit(self) -> str:
        """The threshold, as written."""
        return f"{self.threshold * 100:.4g}%" if self.ratio else _plain(self.threshold)

    @property
    def of_a_day(self) -> str:
        """Which value of a day is planned for."""
        if self.percentile == 100:
            return "highest" if self.above else "lowest"
        return f"p{self.percentile:g}" if self.above else f"p{100 - self.percentile:g}"

    def shown(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return "-"
        return f"{value * 100:.1f}%" if self.ratio else _plain(value)

    def change(self, value: float) -> str:
        """A change, in points where the values are percent."""
        if not self.ratio:
            return _plain(value)
        points = f"{value * 100:.2g}"
        return f"{points} point" if points in ("1", "-1") else f"{points} points"


Outcome = tuple[str, Forecast]
"""A series' name, and what was found."""


def most_urgent_first(found: Sequence[tuple[dict[str, str], Forecast]]) -> list[tuple[dict[str, str], Forecast]]:
    """By verdict, then by the day, then by name."""

    def key(item: tuple[dict[str, str], Forecast]) -> tuple[int, float, float, str]:
        labels, one = item
        early = one.days_low if one.days_low is not None else float("inf")
        return ORDER.index(one.verdict), one.days if one.days is not None else early, early, str(sorted(labels.items()))

    return sorted(found, key=key)


def name_of(labels: dict[str, str], common: dict[str, str]) -> str:
    """What tells a series from its siblings: ``node-1 /data``; all labels when there is only one."""
    own = {key: value for key, value in labels.items() if key not in common and key != "__name__"}
    if not own:
        own = {key: value for key, value in labels.items() if key not in ("__name__", "job", "prometheus")}
    return ", ".join(f"{key}={value}" for key, value in own.items()) or labels.get("__name__", "the series")


def summary_of(question: Question, found: Sequence[Outcome]) -> str:
    """A few sentences, the most urgent first. ``found`` is in that order, not empty."""
    urgent = [item for item in found if item[1].verdict in ("exceeded", "reaches", "unreliable")]
    lines = [_headline(question, found)]
    lines += [_of_one(question, name, one) for name, one in (urgent or found)[:NAMED_MAX]]
    if len(urgent) > NAMED_MAX:
        more = len(urgent) - NAMED_MAX
        lines.append(f"{more} more {'needs' if more == 1 else 'need'} a look: see the rows.")
    return "\n".join(lines)


def assumptions_of(question: Question, found: Sequence[Outcome]) -> list[str]:
    """What the figures stand on."""
    step = in_words(question.step_s)
    told = [
        "Growth goes on in the straight line of the data used; no launch, clean-up or resize is known to the fit.",
        f"A day counts as over when its {question.of_a_day} value is {'above' if question.above else 'below'}"
        f" {question.limit}; the daily rhythm stays as it is, weekly and yearly ones are not modelled.",
        f"One value every {step}: shorter peaks are not seen.",
        "The interval is of 90% (a bootstrap over whole days, widened where the values held back lay outside).",
    ]
    if any(one.breaks for _, one in found):
        told.append("Where a series changed abruptly, only what came since was used.")
    return told


def report_of(question: Question, summary: str, found: Sequence[Outcome], warnings: Sequence[str]) -> str:
    """The full report, Markdown."""
    counts = Counter(one.verdict for _, one in found)
    lines = [
        f"# Capacity: {question.what}",
        "",
        f"{question.asked_at:%Y-%m-%d %H:%M} UTC. `{question.expr}` against {question.limit}"
        f" ({'upper' if question.above else 'lower'} threshold), the {question.of_a_day} value of a day,"
        f" {in_words(question.horizon_s)} ahead, from {in_words(question.history_s)} of history"
        f" (one value every {in_words(question.step_s)}).",
        "",
        summary,
        "",
        "| verdict | series |",
        "|---|---|",
        *(f"| {verdict} | {counts[verdict]} |" for verdict in ORDER if counts[verdict]),
        "",
        "| series | verdict | now | change a day | days to threshold (90%) | fit error | coverage |",
        "|---|---|---|---|---|---|---|",
        *(_table_row(question, name, one) for name, one in found),
        "",
        "## Assumptions",
        "",
        *(f"- {text}" for text in assumptions_of(question, found)),
        *(f"- {text}" for text in warnings),
    ]
    for name, one in found[:SERIES_MAX]:
        lines += ["", f"## {_cell(name)}", "", _of_one(question, name, one), "", *_details(question, one)]
    return "\n".join(lines) + "\n"


def _headline(question: Question, found: Sequence[Outcome]) -> str:
    counts = Counter(one.verdict for _, one in found)
    within = in_words(question.horizon_s)
    side = "over" if question.above else "under"
    said: list[tuple[Verdict, Callable[[int], str]]] = [
        ("exceeded", lambda n: f"{n} {_be(n)} {side} it already"),
        ("reaches", lambda n: f"{n} {'reaches' if n == 1 else 'reach'} it within {within}"),
        ("later", lambda n: f"{n} {'moves' if n == 1 else 'move'} towards it, too slowly for that time"),
        ("stable", lambda n: f"{n} {'shows' if n == 1 else 'show'} no trend towards it"),
        ("unreliable", lambda n: f"{n} could not be forecast (the check on held-back values failed)"),
        ("insufficient_data", lambda n: f"{n} {'has' if n == 1 else 'have'} too little data"),
    ]
    parts = [say(counts[verdict]) for verdict, say in said if counts[verdict]]
    return f"{question.what}, {question.limit} threshold, {len(found)} series: {'; '.join(parts)}."


def _of_one(question: Question, name: str, one: Forecast) -> str:
    if one.verdict == "insufficient_data":
        return f"{name}: no forecast: {one.why}."
    now = f"{question.of_a_day} {question.shown(one.planned_now)}"
    if one.verdict == "exceeded":
        side = "over" if question.above else "under"
        return f"{name} is {side} {question.limit} already ({now} of a day; newest {question.shown(one.last)})."
    if one.verdict == "unreliable":
        return f"{name}: no forecast: {one.why}. It is at {now} now; over all its history it {_moves(question, one)}."
    return " ".join([_course(question, name, one, now), _checked(question, one), *_changed(one)]).strip()


def _course(question: Question, name: str, one: Forecast, now: str) -> str:
    ahead = in_days(one.horizon_days)
    if one.verdict == "reaches" and one.days is not None:
        when = question.asked_at + timedelta(days=one.days)
        interval = (
            f"{_days(one.days_low)} to {_days(one.days_high)} days"
            if one.days_high is not None
            else (f"{_days(one.days_low)} days at the earliest, no later bound within {ahead}")
        )
        return (
            f"{name} reaches {question.limit} in about {in_days(one.days)} (90% interval: {interval}), around"
            f" {when:%Y-%m-%d}. It is at {now} and {_moves(question, one)}{_rhythm(question, one)}."
        )
    early = f" In the worst case of the interval it is {in_days(one.days_low)}." if one.days_low is not None else ""
    if one.verdict == "later":
        return (
            f"{name} does not reach {question.limit} within {ahead}: it is at {now} and {_moves(question, one)}.{early}"
        )
    return f"{name} is at {now}, with no trend towards {question.limit} that stands out of its own noise.{early}"


def _moves(question: Question, one: Forecast) -> str:
    slope = one.slope or 0.0
    return f"{'grows' if slope > 0 else 'falls'} by {question.change(abs(slope))} a day"


def _rhythm(question: Question, one: Forecast) -> str:
    if one.seasonal < 0.2 or not one.swing:
        return ""
    return f", with a daily swing of {question.change(one.swing)}"


def _checked(question: Question, one: Forecast) -> str:
    if one.check is None:
        return ""
    text = (
        f"Checked on the last {in_days(one.check.held_back_days)}, held back: off by"
        f" {question.change(one.check.mean_error)} on average, {one.check.inside:.0%} within the band for 90%."
    )
    if one.check.widening > 1.2:
        text += f" The interval was widened {one.check.widening:.1f} times for it."
    return text


def _changed(one: Forecast) -> list[str]:
    notes = [f"Note: {note}." for note in one.notes]
    if one.breaks:
        notes.insert(0, f"It changed abruptly {in_days(-one.breaks[-1].day)} ago; only what came since counts here.")
    return notes


def _details(question: Question, one: Forecast) -> list[str]:
    facts = [
        f"- History: {in_days(one.span_days)}, {one.points} values, coverage {one.coverage:.0%}, longest gap"
        f" {in_days(one.gap_days)}; used: {in_days(one.used_days)}.",
    ]
    for change in one.breaks:
        moment = question.asked_at + timedelta(days=change.day)
        facts.append(f"- Abrupt change at {moment:%Y-%m-%d %H:%M} UTC, by {question.change(change.jump)}.")
    if one.slope is not None and one.slope_low is not None and one.slope_high is not None:
        facts.append(
            f"- Trend: {question.change(one.slope)} a day (90%: {question.change(one.slope_low)} to"
            f" {question.change(one.slope_high)}); daily season: swing {question.change(one.swing or 0.0)}, explains"
            f" {one.seasonal:.0%} of what is around the trend; left open: standard deviation"
            f" {question.change(one.sigma or 0.0)}."
        )
    if one.check:
        facts.append(
            f"- Held back {in_days(one.check.held_back_days)}: mean error {question.change(one.check.mean_error)}, bias"
            f' {question.change(one.check.bias)}, error of "it stays as it was"'
            f" {question.change(one.check.naive_error)}, within the band {one.check.inside:.0%}, widening"
            f" {one.check.widening:.2f}."
        )
    if one.verdict in ("reaches", "later"):
        beyond = one.days if one.days is not None else one.horizon_days
        shown = [(day, value) for day, value in one.ahead if day <= beyond]
        facts += ["", f"| day | {question.of_a_day} |", "|---|---|"]
        facts += [
            f"| {question.asked_at + timedelta(days=ahead):%Y-%m-%d} | {question.shown(value)} |"
            for ahead, value in shown
        ]
    return facts


def _table_row(question: Question, name: str, one: Forecast) -> str:
    days = "-"
    if one.days is not None:
        days = f"{_days(one.days)} ({_days(one.days_low)} to {_days(one.days_high)})"
    slope = question.change(one.slope) if one.slope is not None else "-"
    error = question.change(one.check.mean_error) if one.check else "-"
    cells = [_cell(name), one.verdict, question.shown(one.planned_now), slope, days, error, f"{one.coverage:.0%}"]
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Label values are anybody's: none of them may end a cell or a line."""
    return " ".join(text.replace("|", "\\|").split())


def _days(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _plain(value: float) -> str:
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{rounded(float(f'{value:.3g}')):g}"


def as_utc(moment: float) -> datetime:
    """Unix seconds as a moment."""
    return datetime.fromtimestamp(moment, UTC)
