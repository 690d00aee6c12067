"""What installed packages add: services (group ``opsbus.services``) and sub-commands (group ``opsbus.commands``).

A broken entry point is an error of its own and never another one's.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from opsbus.service import Service

SERVICES = "opsbus.services"
COMMANDS = "opsbus.commands"

T = TypeVar("T")


class BrokenEntryPointError(Exception):
    """An entry point that cannot be loaded; one line that names it, its package and the cause."""

    def __init__(self, entry: "Entry", cause: str, hint: str = "") -> None:
        super().__init__(f"{entry.group} '{entry.name}' of {entry.package} is broken: {cause}")
        self.hint = hint or "repair or uninstall that package; nothing else is touched"


@dataclass(frozen=True)
class Entry:
    """An entry point, not loaded yet."""

    group: str
    name: str
    package: str
    point: EntryPoint

    def load(self, kind: type[T]) -> T:
        """Import what it points at.

        Raises:
            BrokenEntryPointError: the import failed, or what was found is no ``kind``.
        """
        try:
            found = self.point.load()
        except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
            raise BrokenEntryPointError(self, _cause(error)) from error
        if not isinstance(found, kind):
            raise BrokenEntryPointError(self, f"{self.point.value} is a {type(found).__name__}, not a {kind.__name__}")
        return found


def _cause(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)
    place = f" ({where[-1].filename}:{where[-1].lineno})" if where else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{place}"


@cache
def _entries(group: str) -> dict[str, Entry]:
    """Entry points of a group by name; of two with one name the first on the path wins, as imports do."""
    found: dict[str, Entry] = {}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else "an unknown package"
        found.setdefault(point.name, Entry(group, point.name, package, point))
    return found


def names(group: str) -> list[str]:
    """The names in a group, sorted."""
    return sorted(_entries(group))


def find(group: str, name: str) -> Entry | None:
    """The entry point of a name."""
    return _entries(group).get(name)


def similar(group: str, name: str) -> list[str]:
    """Names near to a wrong one."""
    return get_close_matches(name, names(group), n=3, cutoff=0.5)


def all_services(only: Sequence[str] | None = None) -> "tuple[list[Service], list[BrokenEntryPointError]]":
    """The installed services in starting order, and the entry points that are broken. Imports all of them.

    Args:
        only: These names alone; one that nobody has is passed over.
    """
    from opsbus.service import Service

    found: list[Service] = []
    broken: list[BrokenEntryPointError] = []
    for name in names(SERVICES):
        if only and name not in only:
            continue
        entry = _entries(SERVICES)[name]
        try:
            service = entry.load(Service)
        except BrokenEntryPointError as error:
            broken.append(error)
            continue
        if service.name != name:
            broken.append(BrokenEntryPointError(entry, f"the service calls itself '{service.name}'"))
            continue
        found.append(service)
    return sorted(found, key=lambda service: (service.order, service.name)), broken
