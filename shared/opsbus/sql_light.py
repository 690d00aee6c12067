"""sqlalchemy.ext.asyncio without its sessions, which load the ORM: six megabytes. Import it before that package.

Who asks that package for a session gets it nevertheless.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_PACKAGE = "sqlalchemy.ext.asyncio"
_OF_SESSIONS = {
    "scoping": ("async_scoped_session",),
    "session": (
        "AsyncAttrs",
        "AsyncSession",
        "AsyncSessionTransaction",
        "async_object_session",
        "async_session",
        "async_sessionmaker",
        "close_all_sessions",
    ),
}


def _load() -> None:
    places = {f"{_PACKAGE}.{name}": names for name, names in _OF_SESSIONS.items()}
    for place, names in places.items():
        stand_in = sys.modules[place] = ModuleType(place)
        vars(stand_in).update(dict.fromkeys(names))
    try:
        package = import_module(_PACKAGE)
    finally:
        for place in places:
            del sys.modules[place]
    for module, names in _OF_SESSIONS.items():
        vars(package).pop(module, None)
        for name in names:
            delattr(package, name)

    def late(name: str) -> Any:
        for place, names in places.items():
            if name in names:
                return getattr(import_module(place), name)
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")

    vars(package)["__getattr__"] = late


if _PACKAGE not in sys.modules and "sqlalchemy.orm" not in sys.modules:
    _load()
