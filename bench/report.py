"""Shows a suite's rows at the terminal, within 100 columns, and keeps them as JSON."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.measure import Measure

RESULTS = Path(__file__).parent / "results"
WIDTH = 100
_INDENT = 2
_LAST = ("nats", "wrk")
"""Processes whose columns come last."""
_APART = ("per s", "p50 ms", "µs", "MB")
"""Headings, or their beginnings, that stand two spaces from what is before them."""


def show(title: str, rows: list[Measure], note: str = "") -> None:
    """Print a table."""
    print()
    print("\n".join(table(title, rows, note)))
    sys.stdout.flush()


def table(title: str, rows: list[Measure], note: str = "") -> list[str]:
    """The lines of a table: a row for each measure, what else was found, and what is asked.

    Columns that no row has anything for are left out.
    """
    lines = [title, *([f"({note})"] if note else [])]
    lines += [" " * _INDENT + line for line in _aligned(_columns(rows))]
    notes = [f"  {row.name}: {row.note}" for row in rows if row.note]
    asked = [
        f"  {'met    ' if one.met else 'NOT MET'}  {row.name}: {one.asked}: {one.found}"
        for row in rows
        for one in row.verdicts
    ]
    if _same_for_all(rows):
        some = next(row for row in rows if row.asked is not None)
        missed = [line for line in asked if "NOT MET" in line]
        asked = missed or [f"  met      all {len(asked)} rows of which it is asked: {some.asked}"]
    return [*lines, *notes, *asked]


def _same_for_all(rows: list[Measure]) -> bool:
    """Whether the same one thing is asked of many rows, which is said once."""
    asked = [str(row.asked) for row in rows if row.asked is not None]
    return len(asked) > 5 and len(set(asked)) == 1


def _columns(rows: list[Measure]) -> list[list[str]]:
    """Cells by column, the heading first."""

    def column(heading: str, cell: Any) -> list[str]:
        return [heading, *(cell(row) for row in rows)]

    found = [
        column("", lambda row: row.name),
        column("per s", lambda row: _number(row.per_s)),
        column("±", lambda row: f"{row.spread:.0%}" if row.spread else ""),
        column("ratio", lambda row: "" if row.ratio is None else f"{row.ratio:.2f}"),
        column("p50 ms", lambda row: _ms(row.p50_ms)),
        column("p95", lambda row: _ms(row.p95_ms)),
        column("p99", lambda row: _ms(row.p99_ms)),
    ]
    processes = sorted(dict.fromkeys(name for row in rows for name in row.cpu_us), key=_place)
    for number, name in enumerate(processes):
        heading = f"µs {name}" if not number else name
        found.append(column(heading, lambda row, name=name: f"{row.cpu_us[name]:,.0f}" if name in row.cpu_us else ""))
    found.append(column("MB", _mb))
    return [cells for cells in found if any(cells[1:])]


def _place(process: str) -> int:
    """Ours, the server, the load; all others in between as they come."""
    return _LAST.index(process) + 1 if process in _LAST else 0


def _mb(row: Measure) -> str:
    most = next(iter(row.peak_mb.values()), row.memory_mb)
    return f"{most:,.0f}" if most else ""


def _number(rate: float) -> str:
    if not rate:
        return "–"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _ms(time: float) -> str:
    """Three digits: 0.43, 4.10, 14.2, 140."""
    if not time:
        return ""
    return f"{time:.2f}" if time < 9.995 else f"{time:.1f}" if time < 99.95 else f"{time:,.0f}"


def _aligned(columns: list[list[str]]) -> list[str]:
    names, *figures = columns
    wide = [("  " if cells[0].startswith(_APART) else " ", max(map(len, cells)), cells) for cells in figures]
    room = WIDTH - _INDENT - sum(len(space) + width for space, width, _ in wide)
    width = min(max(map(len, names)), room)
    lines = []
    for number, name in enumerate(names):
        shown = [space + cells[number].rjust(its) for space, its, cells in wide]
        lines.append((name[:width].ljust(width) + "".join(shown)).rstrip())
    return lines


def keep(suite: str, title: str, rows: list[Measure], note: str = "", folder: Path = RESULTS) -> Path:
    """Write a suite's rows to ``bench/results/<suite>.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}.json"
    facts = {
        "suite": suite,
        "title": title,
        "note": note,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.described(),
        "table": table(title, rows, note),
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def kept(suite: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """What was kept of a suite; None: it has not been run."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{suite}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if "table" in found else None
