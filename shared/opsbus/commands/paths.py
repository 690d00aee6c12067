"""How paths and commands are written so that they work when pasted."""

import shlex
import shutil
import sys
from pathlib import Path


def shown(path: Path) -> str:
    """The path, relative where it lies below the current folder."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)


def command_line(*, absolute: bool = False) -> str:
    """``opsbus`` as it must be typed here: by name when the shell finds this one, else by its path."""
    own = Path(sys.executable).with_name("opsbus")
    found = shutil.which("opsbus")
    if found is not None and Path(found).absolute() == own.absolute():
        return "opsbus"
    if own.exists():
        return shlex.quote(str(own.absolute()) if absolute else shown(own))
    return f"{shlex.quote(sys.executable)} -m opsbus"
