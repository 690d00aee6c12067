"""Whether somebody may do something: permission globs, denials, and grants under conditions on a call's arguments.

Edge and worker decide with this one module, so that they decide alike. Which role has which permissions is the edge's
policy; what an identity carries is contracts' identity.py.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from opsbus_contracts.identity import Grant

DIMENSIONS = ("cluster", "namespace", "environment", "service")
"""What a condition can be about. Which argument says it: ``touched``."""
VALUES_MAX = 1_000
"""More values of one dimension than this in one call fit no condition."""

Touched = Mapping[str, tuple[str, ...]]
"""What a call touches, by dimension; a dimension that the call does not state is missing."""


class Decision(NamedTuple):
    """Whether, and why."""

    permitted: bool
    by: str
    """The glob or grant that decided, as ``said`` writes it; empty: nothing covers what is needed."""
    possible: tuple[Grant, ...] = ()
    """When refused: grants whose conditions the call does not meet."""


def decide(permissions: tuple[str, ...], grants: Sequence[Grant], needed: str, touches: Touched) -> Decision:
    """Decide on a call.

    A denial wins. One under a condition counts as soon as one value fits each of its dimensions, and where the call
    does not say what it touches. An allowance under a condition needs every value of every dimension to fit, and the
    call to say what it touches: whatever is not known speaks against the call.
    """
    permitted, by = deciding(permissions, needed)
    if by.startswith("!") or not grants:
        return Decision(permitted, by)
    fitting = [grant for grant in grants if _pattern(grant.permission).fullmatch(needed)]
    for grant in fitting:
        if grant.effect == "deny" and all(_denies(globs, touches.get(name)) for name, globs in grant.where.items()):
            return Decision(False, said(grant))
    if permitted:
        return Decision(True, by)
    allowing = [grant for grant in fitting if grant.effect == "allow"]
    for grant in allowing:
        if all(_allows(globs, touches.get(name)) for name, globs in grant.where.items()):
            return Decision(True, said(grant))
    return Decision(False, "", tuple(allowing))


def may(permissions: tuple[str, ...], grants: Sequence[Grant], needed: str) -> bool:
    """Whether some call that needs this would be permitted: what a list shows."""
    permitted, by = deciding(permissions, needed)
    if permitted or by:
        return permitted
    return any(grant.effect == "allow" and _pattern(grant.permission).fullmatch(needed) for grant in grants)


@lru_cache(maxsize=16_384)
def deciding(permissions: tuple[str, ...], needed: str) -> tuple[bool, str]:
    """``(permitted, the glob that decided)`` without conditions; the glob is empty when none covers ``needed``."""
    for glob in permissions:
        if glob.startswith("!") and _pattern(glob[1:]).fullmatch(needed):
            return False, glob
    for glob in permissions:
        if not glob.startswith("!") and _pattern(glob).fullmatch(needed):
            return True, glob
    return False, ""


def touched(arguments: Any, scope: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What a call touches, out of its arguments as they came.

    Args:
        arguments: The arguments object; anything else states nothing.
        scope: Argument by dimension, of the tool. Else ``namespace`` and ``namespaces`` say the namespaces, and so on.
    """
    if not isinstance(arguments, dict):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for dimension in DIMENSIONS:
        named = scope.get(dimension)
        names = (named,) if named else (dimension, f"{dimension}s")
        values = [arguments[name] for name in names if arguments.get(name) is not None]
        stated = _stated(values)
        if stated:
            found[dimension] = stated
    return found


def said(grant: Grant) -> str:
    """``k8s:scale where namespace in *-staging, development``; a denial begins with ``!``."""
    mark = "!" if grant.effect == "deny" else ""
    conditions = " and ".join(f"{name} in {', '.join(globs)}" for name, globs in sorted(grant.where.items()))
    return f"{mark}{grant.permission} where {conditions}"


def fits(globs: Sequence[str], value: str) -> bool:
    """Whether a glob covers the whole value, letter by letter: no case, no look-alike is taken for another."""
    return any(_pattern(glob).fullmatch(value) is not None for glob in globs)


def _stated(values: list[Any]) -> tuple[str, ...]:
    """Names out of arguments; empty when one of them is none: then it is not known what is touched."""
    found: list[str] = []
    for value in values:
        items = value if isinstance(value, list) else [value]
        if not items or len(items) > VALUES_MAX or not all(isinstance(item, str) and item for item in items):
            return ()
        found += items
    return tuple(dict.fromkeys(found))


def _allows(globs: Sequence[str], values: tuple[str, ...] | None) -> bool:
    return bool(values) and all(fits(globs, value) for value in values or ())


def _denies(globs: Sequence[str], values: tuple[str, ...] | None) -> bool:
    return not values or any(fits(globs, value) for value in values)


@lru_cache(maxsize=16_384)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in glob.split("*")), re.DOTALL)
