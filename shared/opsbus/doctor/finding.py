"""A finding: one line of the doctor's report."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was seen, and what to do when it is not well."""

    level: Level
    subject: str
    detail: str
    hint: str = ""


def ok(subject: str, detail: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, detail)


def warn(subject: str, detail: str, hint: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(Level.WARN, subject, detail, hint)


def fail(subject: str, detail: str, hint: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, subject, detail, hint)
