"""Shows a suite's rows at the terminal and keeps them as JSON."""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Measure

RESULTS = Path(__file__).parent / "results"


def show(title: str, rows: list[Measure]) -> None:
    """Print a table."""
    width = max(len(row.name) for row in rows)
    print(f"\n{title}")
    print(f"  {'':<{width}}  {'per s':>9}  {'±':>4}  {'ratio':>6}  {'p50':>8}  {'p95':>8}  {'p99':>8}  CPU each")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        times = "  ".join(f"{time:>5.2f} ms" if time else " " * 8 for time in (row.p50_ms, row.p95_ms, row.p99_ms))
        cpu = "  ".join(f"{name} {used:.0f} µs" for name, used in row.cpu_us.items())
        spread = f"{row.spread:.0%}" if row.spread else ""
        more = [cpu, f"{row.memory_mb:,.0f} MB at most" if row.memory_mb else "", _asked(row)]
        shown = f"  {row.name:<{width}}  {row.per_s:>9,.0f}  {spread:>4}  {ratio:>6}  {times}"
        print("  ".join([shown, *filter(None, more)]).rstrip())
    sys.stdout.flush()


def _asked(row: Measure) -> str:
    return "" if row.asked is None else f"asked: {row.asked}: {'yes' if row.met else 'NO'}"


def keep(suite: str, rows: list[Measure]) -> Path:
    """Write a suite's rows to ``bench/results/<suite>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{suite}.json"
    facts = {
        "suite": suite,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path
