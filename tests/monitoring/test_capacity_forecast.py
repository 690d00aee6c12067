"""Forecasts of series whose answer is known: flat, linear, seasonal, broken, with gaps, resets and NaN."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsbus_monitoring.forecast import forecast
from opsbus_monitoring.foretold import Forecast
from opsbus_monitoring.history import Floats, History, history_of
from opsbus_monitoring.trend import find_break

END = 1_800_000_000.0
STEP_S = 1_800.0
Course = Callable[[Floats], Floats]


def series(
    course: Course, days: float = 14, noise: float = 0.0, memory: float = 0.0, seed: int = 1, step_s: float = STEP_S
) -> History:
    """A course over days that end at 0, with noise of a given deviation, each value remembering the one before."""
    count = int(days * 86_400 / step_s) + 1
    start = END - (count - 1) * step_s
    moments = (start + step_s * np.arange(count) - END) / 86_400
    fresh = np.random.default_rng(seed).normal(0, 1, count)
    noisy = fresh.copy()
    for index in range(1, count if memory else 0):
        noisy[index] = memory * noisy[index - 1] + fresh[index] * math.sqrt(1 - memory**2)
    values = np.asarray(course(moments), dtype=np.float64) + noise * noisy
    points = [(start + step_s * index, float(value)) for index, value in enumerate(values)]
    return history_of([(when, value if math.isfinite(value) else None) for when, value in points], start, END, step_s)


def line(level: float, slope: float) -> Course:
    return lambda days: level + slope * days


def judged(history: History, threshold: float = 90.0, horizon: float = 30.0, **options: float) -> Forecast:
    return forecast(history, threshold, horizon_days=horizon, percentile=options.pop("percentile", 50.0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0.0, 50.0, 1e12, -3.0])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_flat_series_is_stable(level: float, noise: float) -> None:
    found = judged(series(line(level, 0), noise=noise * max(1.0, abs(level))), threshold=level * 2 + 10)
    assert (found.verdict, found.days) == ("stable", None)


@pytest.mark.parametrize("slope", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_line_reaches_the_threshold_when_it_does(slope: float, noise: float) -> None:
    found = judged(series(line(70, slope), noise=noise))
    assert found.verdict == "reaches"
    assert found.days == pytest.approx(20 / slope, rel=0.08)
    assert found.days_low is not None
    assert found.days_high is not None
    assert found.days_low <= found.days <= found.days_high
    assert found.days_high - found.days_low < 0.25 * found.days
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.breaks == []


def test_a_line_that_falls_away_or_is_too_slow_does_not_reach_it() -> None:
    assert judged(series(line(70, -1), noise=0.5)).verdict == "stable"
    slow = judged(series(line(50, 0.2), noise=0.5))
    assert (slow.verdict, slow.days) == ("later", None)


def test_a_lower_threshold_is_the_mirror_of_an_upper_one() -> None:
    up = judged(series(line(70, 1), noise=1))
    down = judged(History(*(lambda h: (h.days, -h.values, h.end, h.step_days))(series(line(70, 1), noise=1))),
                  threshold=-90, above=False)  # fmt: skip
    assert down.verdict == up.verdict == "reaches"
    assert (down.days, down.days_low, down.days_high) == (up.days, up.days_low, up.days_high)
    assert (down.slope, down.planned_now) == (pytest.approx(-(up.slope or 0)), pytest.approx(-(up.planned_now or 0)))


@settings(max_examples=15, deadline=None)
@given(
    level=st.floats(20, 60),
    slope=st.floats(0.8, 3),
    swing=st.floats(0, 8),
    phase=st.floats(0, 1),
    scale=st.sampled_from([1e-3, 1.0, 1e9]),
)
def test_a_seasonal_line_is_found_at_any_scale(
    level: float, slope: float, swing: float, phase: float, scale: float
) -> None:
    course = lambda days: scale * (level + slope * days + swing * np.sin(2 * np.pi * (days + phase)))  # noqa: E731
    median = judged(series(course, noise=0.2 * scale), threshold=scale * 90, horizon=40)
    assert median.slope == pytest.approx(slope * scale, rel=0.1)
    expected = (90 - level) / slope
    if expected < 36:
        assert median.verdict == "reaches"
        assert median.days == pytest.approx(expected, rel=0.1, abs=0.5)
    if expected > 46:
        assert median.verdict == "later"
    # The peaks of the day are there sooner than its middle.
    peaks = judged(series(course, noise=0.2 * scale), threshold=scale * 90, horizon=40, percentile=100)
    assert (peaks.planned_now or 0) >= (median.planned_now or 0) + 0.9 * swing * scale


def test_the_season_is_not_taken_for_a_trend() -> None:
    found = judged(series(lambda days: 50 + 20 * np.sin(2 * np.pi * days), days=3.4, noise=0.5), threshold=90)
    assert found.verdict == "stable"
    assert found.swing == pytest.approx(40, rel=0.1)
    assert found.seasonal > 0.9


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_nine_of_ten_intervals_hold_the_truth(memory: float) -> None:
    held = 0
    for seed in range(24):
        course = lambda days: 70 + days + 3 * np.sin(2 * np.pi * days)  # noqa: E731
        found = judged(series(course, noise=2, memory=memory, seed=seed), horizon=40)
        assert found.verdict == "reaches"
        assert found.days_low is not None
        held += found.days_low <= 20 <= (found.days_high or math.inf)
    assert held >= 18


def test_only_what_came_after_a_step_counts() -> None:
    found = judged(series(lambda days: np.where(days < -6, 80.0, 50.0) + 2 * days, noise=1), horizon=18)
    assert found.verdict == "later" or found.days == pytest.approx(20, rel=0.1)
    assert len(found.breaks) == 1
    assert found.breaks[0].day == pytest.approx(-6, abs=0.1)
    assert found.breaks[0].jump == pytest.approx(-30, abs=2)
    assert found.slope == pytest.approx(2, rel=0.1)
    assert found.used_days < 6.1 < found.span_days


def test_a_step_of_a_falling_series_is_told_in_its_own_direction() -> None:
    found = judged(
        series(lambda days: np.where(days < -6, 20.0, 60.0) - days, noise=1), threshold=10, above=False, horizon=18
    )
    assert found.breaks[0].jump == pytest.approx(40, abs=2)


@pytest.mark.parametrize("ago", [0.25, 1.0, 2.5])
def test_a_fresh_step_is_too_little_to_judge_by(ago: float) -> None:
    found = judged(series(lambda days: np.where(days < -ago, 80.0, 40.0) + 0 * days, noise=1))
    assert found.verdict == "insufficient_data"
    assert "changed abruptly" in found.why
    assert (found.days, found.slope) == (None, None)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_breaks(seed: int) -> None:
    assert find_break(series(line(50, 1), noise=3, memory=0.8, seed=seed)) is None


def test_a_bend_is_told_and_no_break() -> None:
    history = series(lambda days: 10 + 0.15 * (days + 14) ** 2, noise=0.3)
    assert find_break(history) is None
    found = judged(history)
    # Straight on it takes 14 days, which is over what the data reach; bending on, nine.
    assert found.verdict == "later"
    assert found.days_low == pytest.approx(math.sqrt(80 / 0.15) - 14, rel=0.05)
    assert any("sooner" in note for note in found.notes)


@pytest.mark.parametrize("days", [0.1, 1.0, 2.5])
def test_a_short_history_is_said_and_not_guessed_from(days: float) -> None:
    found = judged(series(line(70, 1), days=days))
    assert (found.verdict, found.days, found.slope) == ("insufficient_data", None, None)
    assert "at least 3 days" in found.why


def test_nothing_at_all() -> None:
    found = judged(series(lambda days: days * math.nan))
    assert (found.verdict, found.points, found.coverage) == ("insufficient_data", 0, 0.0)
    assert "no value" in found.why


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 0.25))
def test_scattered_gaps_do_not_move_the_answer(seed: int, share: float) -> None:
    whole = series(line(70, 1), noise=1)
    kept = np.random.default_rng(seed).random(whole.days.size) >= share
    kept[[0, -1]] = True
    found = judged(History(whole.days[kept], whole.values[kept], whole.end, whole.step_days))
    assert found.verdict == "reaches"
    assert found.days == pytest.approx(20, rel=0.1)
    assert found.coverage == pytest.approx(float(np.mean(kept)), abs=0.01)


def test_too_many_gaps_are_said() -> None:
    def holey(days: Floats) -> Floats:
        return np.where(np.arange(days.size) % 2 == 0, 70 + days, np.nan)

    found = judged(series(holey))
    assert found.verdict == "insufficient_data"
    assert "50%" in found.why


def test_one_long_gap_is_said() -> None:
    found = judged(series(lambda days: np.where((days > -9) & (days < -5.1), np.nan, 70 + days)))
    assert found.verdict == "insufficient_data"
    assert "gap of 3.9 days" in found.why


def test_a_series_that_ended_is_said() -> None:
    found = judged(series(lambda days: np.where(days > -1, np.nan, 70 + days)))
    assert found.verdict == "insufficient_data"
    assert "has ended" in found.why


def test_infinities_and_nan_are_gaps() -> None:
    def odd(days: Floats) -> Floats:
        values = 70 + days
        values[::7] = np.nan
        values[3::11] = np.inf
        return np.asarray(values)

    found = judged(series(odd))
    assert found.verdict == "reaches"
    assert found.days == pytest.approx(20, rel=0.01)
    raw = history_of([(END - 1_800, math.inf), (END, math.nan)], END - 1_800, END, STEP_S)
    assert raw.values.size == 0


@pytest.mark.parametrize("per_day", [20, 55])
def test_counter_resets_are_seen(per_day: int) -> None:
    found = judged(series(lambda days: (days * per_day) % 100))
    assert (found.verdict, found.days) == ("insufficient_data", None)
    assert "rate()" in found.why


def test_one_reset_is_a_break_and_the_line_since_counts() -> None:
    found = judged(series(lambda days: np.where(days < -8, 60.0, 30.0) + 5 * days, noise=0), threshold=90, horizon=20)
    assert found.verdict == "reaches"
    assert found.days == pytest.approx(12, rel=0.02)


def test_what_is_over_already_is_told_as_that() -> None:
    assert judged(series(line(95, 0), noise=1)).verdict == "exceeded"
    # The peaks are over, the middle of the day is not.
    course = lambda days: 80 + 15 * np.sin(2 * np.pi * days)  # noqa: E731
    assert judged(series(course, noise=0.5), percentile=95).verdict == "exceeded"
    assert judged(series(course, noise=0.5), percentile=50).verdict == "stable"


def test_no_forecast_looks_further_than_three_times_its_data() -> None:
    found = judged(series(line(70, 0.5), days=4, noise=0.1), horizon=365)
    assert found.verdict == "later"
    assert found.horizon_days == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("threshold", [45, 60])
def test_growth_that_accelerates_is_not_promised_more_time_than_there_is(noise: float, threshold: float) -> None:
    found = judged(series(lambda days: 10 + 0.15 * (days + 14) ** 2, noise=noise), threshold=threshold)
    truth = math.sqrt((threshold - 10) / 0.15) - 14
    assert found.verdict == "reaches"
    assert any("trend has changed" in note for note in found.notes)
    assert any("straight line" in note for note in found.notes)
    assert found.used_days < 7.1
    assert found.days_low is not None
    assert found.days_low <= truth * 1.1 <= (found.days or 0) * 1.1


def test_a_trend_that_turned_fails_its_check() -> None:
    # It grew for weeks and has been falling for the last ones, smoothly, so that there is no break to cut at.
    found = judged(
        series(lambda days: 70 + 15 * np.cos(2 * np.pi * (days + 9) / 18), days=14, noise=0.2), threshold=100
    )
    assert found.verdict in ("unreliable", "stable", "insufficient_data")
    assert found.days is None


def test_weekdays_that_differ_are_noted() -> None:
    weekday = lambda days: np.floor(END / 86_400 + days) % 7  # noqa: E731
    found = judged(series(lambda days: np.where(weekday(days) >= 5, 30.0, 50.0), days=28, noise=1))
    assert any("weekdays differ" in note for note in found.notes)
    assert found.days is None


def test_the_same_data_give_the_same_answer() -> None:
    assert judged(series(line(70, 1), noise=2)) == judged(series(line(70, 1), noise=2))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(-1e15, 1e15), st.just(math.nan), st.just(math.inf)), min_size=0, max_size=250
    ),
    threshold=st.floats(-1e15, 1e15),
    above=st.booleans(),
    percentile=st.floats(50, 100),
)
def test_no_series_breaks_it(values: list[float | None], threshold: float, above: bool, percentile: float) -> None:
    start = END - 250 * STEP_S
    points = [(start + index * STEP_S, value) for index, value in enumerate(values)]
    found = forecast(
        history_of(points, start, END, STEP_S), threshold, horizon_days=30, percentile=percentile, above=above
    )
    if found.days is not None:
        assert 0 <= found.days <= 30
        assert found.days_low is None or found.days_low <= found.days
        assert found.days_high is None or found.days_high >= found.days
    if found.verdict in ("insufficient_data", "unreliable"):
        assert found.why
        assert found.days is None
