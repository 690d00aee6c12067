"""What a new worker may be called, and the names that follow from it."""

import keyword
import re
from dataclasses import dataclass

from opsbus.commands.discover import COMMANDS, SERVICES, find
from opsbus_contracts.names import SERVICE_PATTERN, mcp_name
from opsbus_contracts.permissions import PLATFORM_IDENTITIES

_EXAMPLE_TOOL = "find_items"
_COMMANDS = ("up", "run", "provision", "doctor", "services", "tokens", "new", "version")


class BadNameError(ValueError):
    """A name that cannot be used; ``hint`` says which can."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Names:
    """Every spelling of a worker's name."""

    name: str
    """The service token: ``cost-report``."""
    package: str
    """``opsbus_cost_report``"""
    distribution: str
    """``opsbus-cost-report``"""
    title: str
    """``Cost report``"""
    class_name: str
    """``CostReport``"""
    env: str
    """``COST_REPORT``, as in OPSBUS_COST_REPORT_OWNER."""
    mcp: str
    """``cost_report``, as in the tool cost_report_find_items."""


def names_of(name: str) -> Names:
    """All spellings.

    Raises:
        BadNameError: the token rules, a reserved word or an installed service forbid it.
    """
    if not re.fullmatch(SERVICE_PATTERN, name) or not name.isprintable():
        suggestion = _suggest(name)
        hint = "a name has 1 to 31 lower-case letters, digits, - and _, and begins with a letter"
        raise BadNameError(f"'{name}' is no name for a worker", hint + (f": {suggestion}" if suggestion else ""))
    if name in PLATFORM_IDENTITIES or name in _COMMANDS:
        raise BadNameError(f"the name '{name}' is reserved", "it is an identity or a command of the platform")
    for group in (SERVICES, COMMANDS):
        entry = find(group, name)
        if entry is not None:
            raise BadNameError(f"'{name}' is installed already, by {entry.package}", "choose another name")
    words = [word for word in re.split(r"[-_]+", name) if word]
    snake = "_".join(words)
    package = f"opsbus_{snake}"
    if keyword.iskeyword(package):
        raise BadNameError(f"'{name}' is a word of Python", "choose another name")
    return Names(
        name=name,
        package=package,
        distribution=f"opsbus-{'-'.join(words)}",
        title=" ".join(words).capitalize(),
        class_name="".join(word.capitalize() for word in words),
        env=name.upper().replace("-", "_"),
        mcp=mcp_name(name, _EXAMPLE_TOOL).removesuffix(f"_{_EXAMPLE_TOOL}"),
    )


def _suggest(name: str) -> str:
    """The nearest allowed name."""
    word = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")
    word = re.sub(r"^[^a-z]+", "", word)[:31].rstrip("-_")
    return word if re.fullmatch(SERVICE_PATTERN, word) else ""
