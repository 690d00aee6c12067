"""Tables that fit a terminal, results that are kept, the README's measured part, the picture."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import chart, door, machine, readme, report
from bench.measure import Asked, Beside, Measure, absent
from bench.suites import SUITES

ROUGH = {"door": 60.0, "behind": 30.0, "nats": 9.0, "wrk": 8.0}


def rows() -> list[Measure]:
    relay = Measure("1 bare relay", 15_234.0, 0.02, 4.1, 6.2, 9.9, ROUGH, 1.0, peak_mb={"door": 52.3})
    asked = Asked(beside=(Beside(relay.name, relay.per_s, 0.6),), tail=4.0)
    whole = Measure("2 opsbus, everything on", 4_321.5, 0.11, 14.2, 26.0, 139.9, ROUGH, 0.28, asked=asked,
                    peak_mb={"door": 101.0})  # fmt: skip
    proxy = Measure("8 FastMCP proxy", 21.4, 0.2, 2_900.0, 3_100.0, 3_300.0, {"door": 40_000.0, "wrk": 90.0}, 0.0)
    return [relay, whole, proxy, absent("9 ContextForge", "not measured: no network")]


def test_a_table_is_for_a_person_at_a_terminal() -> None:
    lines = report.table("The front door", rows())
    assert all(len(line) <= report.WIDTH for line in lines), max(lines, key=len)
    assert lines[0] == "The front door"
    assert lines[1].split() == ["per", "s", "±", "ratio", "p50", "ms", "p95", "p99", "µs", "door", "behind", "nats",
                                "wrk", "MB"]  # fmt: skip
    assert "15,234" in lines[2]
    assert "21.4" in lines[4]
    assert "3,300" in lines[4]
    assert "  9 ContextForge: not measured: no network" in lines
    assert "  NOT MET  2 opsbus, everything on: ≥ 0.6 × “1 bare relay”: 0.28 ×" in lines
    assert "  NOT MET  2 opsbus, everything on: p99 ≤ 4 × p50: 9.9 ×" in lines


def test_the_names_of_the_doors_fit() -> None:
    most = Measure("", 15_234.0, 0.02, 2_100.0, 6.2, 9.9, ROUGH, 1.0, peak_mb={"door": 252.3})
    slow = Measure("", 1.0, 0.99, 2_100.0, 6_200.0, 9_900.0, {"door": 40_000.0}, 0.01)
    lines = report.table("", [*(replace(most, name=one.name) for one in door.DOORS), slow])
    for one in door.DOORS:
        assert any(one.name in line for line in lines), one.name
    assert max(map(len, lines)) <= report.WIDTH


def test_columns_that_nobody_fills_are_not_there() -> None:
    bare = [Measure("bare", 10_000.0, 0.0, 0.0, 0.0, 0.0, {})]
    assert report.table("", bare)[1].split() == ["per", "s"]


def test_the_load_comes_last_whoever_is_first() -> None:
    alone = Measure("trivial", 1.0, 0.0, 0.0, 0.0, 0.0, {"door": 1.0, "nats": 2.0, "wrk": 3.0})
    heading = report.table("", [alone, *rows()])[1].split()
    assert heading[heading.index("door") :] == ["door", "behind", "nats", "wrk", "MB"]


def test_what_is_asked_of_many_rows_is_said_once() -> None:
    many = [Measure(f"row {number}", 1.0, 0.0, 5.0, 5.0, 5.0, {}, asked=Asked(p95_ms=100)) for number in range(8)]
    assert report.table("", many)[-1] == "  met      all 8 rows of which it is asked: p95 < 100 ms"
    slow = Measure("slow", 1.0, 0.0, 5.0, 150.0, 5.0, {}, asked=Asked(p95_ms=100))
    assert report.table("", [*many, slow])[-1] == "  NOT MET  slow: p95 < 100 ms: 150.0 ms"


def test_results_are_kept_and_found_again(tmp_path: Path) -> None:
    path = report.keep("door", "The front door", rows(), "a note", tmp_path)
    assert json.loads(path.read_text())["rows"][1]["met"] is False
    kept = report.kept("door", tmp_path)
    assert kept is not None
    assert kept["table"] == report.table("The front door", rows(), "a note")
    assert report.kept("gate", tmp_path) is None


def test_results_of_an_older_bench_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "door.json").write_text('{"suite": "door", "rows": []}')
    assert report.kept("door", tmp_path) is None


def test_the_readme_has_the_tables_between_its_markers(tmp_path: Path) -> None:
    report.keep("door", "The front door", rows(), folder=tmp_path)
    path = tmp_path / "README.md"
    path.write_text(f"# Bench\n\nwords\n\n{readme.BEGIN}\nold figures\n{readme.END}\n\nmore words\n")
    kept = report.kept("door", tmp_path)
    assert kept is not None
    for _ in range(2):
        readme.write("2 × a CPU", [kept], "results/bench.png", path)
    text = path.read_text()
    assert text.startswith("# Bench\n\nwords\n\n")
    assert text.endswith(f"{readme.END}\n\nmore words\n")
    assert "old figures" not in text
    assert text.count("The front door") == 1
    assert "Measured on 2 × a CPU." in text
    assert "(results/bench.png)" in text


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}\n{readme.BEGIN}", 2 * f"{readme.BEGIN}{readme.END}"])
def test_a_readme_without_its_markers_is_left_as_it_is(text: str) -> None:
    with pytest.raises(readme.MarkersError, match="once each"):
        readme.between(text, "figures")


def test_the_readme_that_is_there_can_be_written() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert "some figures" in readme.between(text, "some figures")
    for name in SUITES:
        assert f"`{name}`" in text, f"the README says nothing of the suite {name}"


def test_the_machine_is_described_without_its_name() -> None:
    said = machine.one_line(machine.described())
    assert machine.platform.node() not in said
    assert "/" not in said
    assert "Python 3." in said


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    clients = [
        Measure(f"{count:,} clients", 4_000.0, 0.0, count / 4, count / 3, count / 2, {}) for count in (1, 8, 1_000)
    ]
    report.keep("door", "The front door", rows(), folder=tmp_path)
    report.keep("clients", "Clients", clients, folder=tmp_path)
    kept = {name: found for name in ("door", "clients") if (found := report.kept(name, tmp_path))}
    picture = chart.draw(kept, tmp_path / "bench.png")
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert chart.draw({}, tmp_path / "none.png") is None
