"""Rules that hide by place: ``k8s_*: spec.env.*.value``. Which values are hidden by their names or looks: elsewhere."""

from fnmatch import fnmatchcase
from typing import NamedTuple

PARTS_MAX = 32
State = tuple[tuple[str, ...], ...]
"""What is left of each rule that may still match below a place."""


class PathRule(NamedTuple):
    """Hides what is at ``parts`` in the arguments of tools that ``tool`` matches.

    A part is a name, ``*`` for any one name or place in a list, or ``**`` for any number of them.
    """

    tool: str
    parts: tuple[str, ...]


def path_rule(given: str) -> PathRule:
    """Read ``[tool glob:]path``.

    Raises:
        ValueError: it says what is wrong.
    """
    tool, colon, path = given.rpartition(":")
    tool, path = tool.strip(), path.strip()
    if colon and not tool:
        raise ValueError(f"{given!r} names no tool before the colon; leave the colon out to mean every tool")
    parts = tuple(path.split("."))
    if not all(part.strip() for part in parts):
        raise ValueError(f"{given!r} has an empty part; a path reads like spec.env.*.value")
    if len(parts) > PARTS_MAX:
        raise ValueError(f"{given!r} has {len(parts)} parts, {PARTS_MAX} are allowed")
    if parts[-1] == "**":
        raise ValueError(f"{given!r} ends in **; name what is hidden, or * for all of a place")
    return PathRule(tool or "*", parts)


def rules_for(tool: str, rules: tuple[PathRule, ...]) -> State:
    """The rules that count for a tool, at the top of its arguments."""
    return tuple(dict.fromkeys(rule.parts for rule in rules if fnmatchcase(tool, rule.tool)))


def below(state: State, name: str) -> tuple[State, bool]:
    """The rules that may match under ``name``, and whether one of them hides all that is there."""
    left: list[tuple[str, ...]] = []
    waiting = list(state)
    while waiting:
        parts = waiting.pop()
        first, rest = parts[0], parts[1:]
        if first == "**":
            left.append(parts)
            waiting.append(rest)  # ** stands for nothing too
        elif first in ("*", name):
            if not rest:
                return (), True
            left.append(rest)
    return tuple(left), False
