"""``python -m opsbus``, and the command ``opsbus``."""

import os
import sys


def main() -> None:
    """A service's process, which lives long, without what reads the options of commands; else the commands (cli.py)."""
    try:
        if len(sys.argv) == 3 and sys.argv[1] == "run" and _run(sys.argv[2]):
            return
    except KeyboardInterrupt:
        sys.exit(130)
    from opsbus import cli

    cli.main()


def _run(name: str) -> bool:
    """False: there is no such service, or it cannot be loaded, which ``opsbus run`` says better."""
    from opsbus.commands.discover import SERVICES, BrokenEntryPointError, find
    from opsbus.service import Service

    entry = find(SERVICES, name)
    if entry is None:
        return False
    try:
        found = entry.load(Service)
    except BrokenEntryPointError:
        return False
    try:
        found.main()
    except Exception as error:
        if os.environ.get("OPSBUS_DEBUG"):
            raise
        from opsbus import cli

        cli.failed(error)
    return True


if __name__ == "__main__":
    main()
