"""What rounds come to, and what is asked of a row: the arithmetic of the bench."""

import pytest

from bench.measure import Asked, Beside, Measure, Round, absent, measure, of_times


def row(per_s: float = 100.0, **more: object) -> Measure:
    facts = {"spread": 0.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "cpu_us": {"edge": 50.0}} | more
    return Measure("row", per_s, **facts)  # type: ignore[arg-type]


def test_a_row_is_the_median_and_how_far_the_rounds_lie_apart() -> None:
    rounds = [Round(per_s, p50, p50 * 2, p50 * 3, {"edge": cpu}) for per_s, p50, cpu in
              ((90.0, 1.0, 10.0), (100.0, 9.0, 30.0), (120.0, 2.0, 20.0))]  # fmt: skip
    found = measure("row", rounds)
    assert (found.per_s, found.p50_ms, found.p95_ms, found.p99_ms) == (100.0, 2.0, 4.0, 6.0)
    assert found.cpu_us == {"edge": 20.0}
    assert found.spread == pytest.approx(0.15)
    assert found.ratio is None


def test_the_ratio_is_to_the_yardstick_and_memory_is_the_most() -> None:
    half = measure("half", [Round(50.0, peak_mb={"edge": 80.0}), Round(50.0, peak_mb={"edge": 90.0})], row())
    assert half.ratio == 0.5
    assert half.peak_mb == {"edge": 90.0}


def test_single_questions() -> None:
    found = of_times([float(number) for number in range(1, 101)])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (50.5, 96.0, 100.0)
    assert found.per_s == pytest.approx(1_000 * 100 / 5_050)


@pytest.mark.parametrize(
    ("asked", "found", "met"),
    [
        (Asked(per_s=100), {}, True),
        (Asked(per_s=101), {}, False),
        (Asked(ratio=0.6), {"ratio": 0.6}, True),
        (Asked(ratio=0.6), {"ratio": 0.59}, False),
        (Asked(ratio=0.6), {}, False),
        (Asked(p95_ms=2.1), {}, True),
        (Asked(p95_ms=2.0), {}, False),
        (Asked(beside=(Beside("other", 50.0, 2.0),)), {}, True),
        (Asked(beside=(Beside("other", 50.0, 2.0), Beside("third", 51.0, 2.0))), {}, False),
        (Asked(p50_over=("other", 0.2, 1.0)), {}, True),
        (Asked(p50_over=("other", 0.0, 1.0)), {}, False),
        (Asked(tail=3.0), {}, True),
        (Asked(tail=2.9), {}, False),
        (Asked(tail=2.9), {"p50_ms": 0.0}, False),
        (Asked(cpu_grown=("first", "edge", 46.0, 0.1)), {}, True),
        (Asked(cpu_grown=("first", "edge", 45.0, 0.1)), {}, False),
        (Asked(cpu_grown=("first", "edge", 90.0, 0.1)), {}, True),
        (Asked(peak_mb=("edge", 120.0)), {"peak_mb": {"edge": 119.0}}, True),
        (Asked(peak_mb=("edge", 120.0)), {"peak_mb": {"edge": 121.0}}, False),
        (Asked(peak_mb=("edge", 120.0)), {"peak_mb": {"edge": 0.0}}, False),
    ],
)
def test_what_is_asked_is_met_or_not(asked: Asked, found: dict[str, object], met: bool) -> None:
    assert row(**found, asked=asked).met is met


def test_a_verdict_says_what_was_found() -> None:
    asked = Asked(beside=(Beside("8 proxy", 20.0, 200.0), Beside("1 relay", 160.0, 0.6)), tail=4)
    found = [(one.asked, one.found, one.met) for one in row(asked=asked).verdicts]
    assert found == [
        ("≥ 200 × “8 proxy”", "5.00 ×", False),
        ("≥ 0.6 × “1 relay”", "0.62 ×", True),
        ("p99 ≤ 4 × p50", "3.0 ×", True),
    ]


def test_what_is_asked_can_be_said_without_a_row() -> None:
    asked = Asked(per_s=1_000, p95_ms=100, cpu_grown=("first", "edge", 50.0, 0.1), peak_mb=("edge", 120.0))
    assert str(asked) == "≥ 1,000 per s, p95 < 100 ms, CPU of edge a call ≤ +10% of “first”, edge < 120 MB"


def test_nothing_asked_is_met_and_a_row_that_is_not_there_says_why() -> None:
    assert row().met
    gone = absent("9 ContextForge", "no network")
    assert gone.met
    assert gone.note == "no network"


def test_what_is_kept_of_a_row_has_its_verdicts() -> None:
    kept = row(asked=Asked(per_s=101)).as_json()
    assert kept["met"] is False
    assert kept["verdicts"] == [{"asked": "≥ 101 per s", "found": "100", "met": False}]
