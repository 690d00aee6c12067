"""``python -m bench [suite ...]``: run suites, print their tables, keep their results."""

import argparse
import asyncio
import sys
import time
import traceback

from bench import chart, machine, plan, readme, report
from bench.plan import Plan
from bench.rivals import contextforge
from bench.suites import SUITES, Entry

BOUND_S = 600.0
"""A run of all takes no longer."""
_REST_S = 10.0
"""For the chart and the README."""


def main() -> int:
    """Run what was asked for, or everything. 1: a suite failed."""
    given = _arguments()
    all_of_them = not given.suite
    chosen = given.suite or [name for name, entry in SUITES.items() if not entry.apart]
    now = Plan(trial=given.trial, brief=all_of_them, only=given.only)
    if given.trial:
        now.rounds, now.round_s, now.brief = 1, 1, True
    now.rounds, now.round_s = given.rounds or now.rounds, given.seconds or now.round_s
    now.short_s = given.seconds or now.short_s
    plan.use(now)
    if "door" in chosen:
        _prepare()
    failed, left_out = _all(chosen, now, time.monotonic() + BOUND_S - _REST_S if all_of_them else None)
    for name in left_out:
        print(f"{name}: left out, there was no time for it: make bench ARGS={name}")
    if all_of_them:
        _brief()
    if now.passing:
        print("\nNothing of it was kept.")
    else:
        _publish(failed)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...",
        description="Run suites, print their tables, keep their results. Without a name: all, within ten minutes.",
        epilog="suites: " + ", ".join(SUITES),
    )
    parser.add_argument("suite", nargs="*", metavar="suite", help="a name makes it whole: as many events as are asked")
    parser.add_argument("--rounds", type=int, help="of load, default 3")
    parser.add_argument("--seconds", type=int, help="of a round of load, default 2")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="rows of door with this in their names; nothing is kept"
    )
    parser.add_argument("--trial", action="store_true", help="one round of 1 s each, nothing is kept: does it work?")
    given = parser.parse_args()
    for name in given.suite:
        if name not in SUITES:
            parser.error(f"there is no suite {name!r}; there are: {', '.join(SUITES)}")
    return given


def _prepare() -> None:
    """What is downloaded is downloaded before the clock runs."""
    if contextforge.made():
        return
    print(f"making the environment of {contextforge.PACKAGE}, once ...", file=sys.stderr, flush=True)
    try:
        contextforge.make()
    except contextforge.NotStartedError as error:
        print(f"{contextforge.PACKAGE}: {error}", file=sys.stderr)


def _all(chosen: list[str], now: Plan, ends: float | None) -> tuple[list[str], list[str]]:
    """Run suites one after the other.

    Returns:
        Those that failed, and those for which there was no time.
    """
    failed: list[str] = []
    left_out: list[str] = []
    for number, name in enumerate(chosen):
        entry = SUITES[name]
        left_s = ends - time.monotonic() if ends is not None else float("inf")
        if entry.takes_s > left_s:
            left_out.append(name)
            continue
        now.begin(name, entry.takes_s, sum(SUITES[other].takes_s for other in chosen[number + 1 :]))
        now.seconds = now.short_s if now.brief and entry.brief else now.round_s
        if not _one(name, entry, now, left_s):
            failed.append(name)
    return failed, left_out


def _one(name: str, entry: Entry, now: Plan, within_s: float) -> bool:
    """Run a suite and show it; False: it failed, and one line says why."""
    note = entry.brief if now.brief else ""
    began = time.monotonic()
    try:
        rows = asyncio.run(_within(entry, within_s))
    except KeyboardInterrupt:
        now.clear()
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the other suites go on
        now.clear()
        said = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, TimeoutError):
            said = said or f"something took too long, after {time.monotonic() - began:.0f} s"
        print(f"\n{name} failed: {said or type(error).__name__}", file=sys.stderr)
        if now.trial:
            traceback.print_exception(error)
        return False
    now.clear()
    report.show(entry.title, rows, note)
    print(f"  [{name}: {time.monotonic() - began:.0f} s]", flush=True)
    if not now.passing:
        report.keep(name, entry.title, rows, note)
    return True


async def _within(entry: Entry, seconds: float) -> list:  # type: ignore[type-arg]
    async with asyncio.timeout(seconds if seconds != float("inf") else None):
        return await entry.run()


def _brief() -> None:
    print("\nLess than when they are named (make bench ARGS=verify):")
    for name, entry in SUITES.items():
        if entry.brief or entry.apart:
            print(f"  {name}: {'runs when it is named alone' if entry.apart else entry.brief}")


def _publish(failed: list[str]) -> None:
    """The chart and the README, of what was measured last."""
    kept = {name: found for name in SUITES if (found := report.kept(name)) is not None}
    picture = chart.draw(kept, report.RESULTS / "bench.png")
    described = machine.one_line(machine.described())
    readme.write(described, kept.values(), f"results/{picture.name}" if picture is not None else "")
    print(f"\n{described}\nbench/README.md and bench/results/ are up to date" + (", but for " * bool(failed)), end="")
    print(", ".join(failed))


if __name__ == "__main__":
    sys.exit(main())
