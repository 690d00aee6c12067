"""The log file of a process: begun anew with each run, bounded, and its last lines."""

import os
import shutil
from pathlib import Path

LOG_BYTES_MAX = 32 * 1024 * 1024
"""A log file that grew beyond this is moved aside; the one moved before it is gone."""

TAIL_BYTES = 64_000


def fresh(log: Path) -> None:
    """Begin a new file; the one of the run before stays beside it as ``.1``."""
    if log.exists():
        log.replace(_aside(log))


def bound(log: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Move what is written so far aside when it is too much; its writer goes on (it appends). Whether it was too much.

    What is written between copy and cut is lost, which a log can bear.
    """
    try:
        if log.stat().st_size <= bytes_max:
            return False
        shutil.copy2(log, _aside(log))
        os.truncate(log, 0)
    except FileNotFoundError:
        return False
    return True


def tail(log: Path, lines: int, start: int = 0) -> list[str]:
    """The last lines from the offset ``start`` on, read without taking in the whole file."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _aside(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
