"""Some modules of a large package without all that its ``__init__`` loads beside them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType


@contextmanager
def bare(*packages: str) -> Iterator[None]:
    """For as long as the block imports modules out of them, packages that only say where their modules are.

    Afterwards they are as ever: who imports one gets the whole of it, with the modules that are loaded by then. A
    package that is loaded already stays as it is.

    Args:
        packages: By their names, an outer one before those within it.
    """
    ours: list[str] = []
    try:
        for name in packages:
            spec = find_spec(name) if name not in sys.modules else None
            if spec is not None:
                package = sys.modules[name] = ModuleType(name)
                package.__path__ = list(spec.submodule_search_locations or ())
                ours.append(name)
                within, _, last = name.rpartition(".")
                if within:
                    setattr(sys.modules[within], last, package)
        yield
    finally:
        for name in ours:
            del sys.modules[name]
