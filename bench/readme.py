"""Writes what was measured into ``bench/README.md``, between two markers; the rest of it is written by people."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- measured: begin (written by make bench) -->"
END = "<!-- measured: end -->"


class MarkersError(Exception):
    """The markers are not there, each once and in order."""


def between(text: str, generated: str) -> str:
    """The text with what stands between the markers replaced.

    Raises:
        MarkersError: the markers are not there.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise MarkersError(f"bench/README.md needs the lines {BEGIN} and {END}, once each and in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{generated.strip()}\n{END}{rest.partition(END)[2]}"


def generated(machine: str, kept: Iterable[dict[str, Any]], chart: str = "") -> str:
    """What stands between the markers.

    Args:
        machine: Its description, in one line.
        kept: Of each suite, as report.kept gives it.
        chart: Name of the picture beside the README; empty: none.
    """
    parts = [f"Measured on {machine}."]
    if chart:
        parts.append(f"![Calls per second through each front door]({chart})")
    parts += ["\n".join(["```text", *one["table"], f"  [{one['at'][:10]}]", "```"]) for one in kept]
    return "\n\n".join(parts)


def write(machine: str, kept: Iterable[dict[str, Any]], chart: str = "", path: Path = README) -> None:
    """Bring the file up to date. Raises MarkersError."""
    path.write_text(between(path.read_text(encoding="utf-8"), generated(machine, kept, chart)), encoding="utf-8")
