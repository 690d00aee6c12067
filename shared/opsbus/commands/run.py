"""``opsbus run SERVICE``: one service in this process, until it is told to stop."""

from typing import Annotated

import typer


def run(service: Annotated[str, typer.Argument(help="The service's name, as 'opsbus services' lists it.")]) -> None:
    """Run one service until SIGTERM or Ctrl-C."""
    from opsbus.commands.discover import SERVICES, BrokenEntryPointError, find, names, similar
    from opsbus.commands.output import fail
    from opsbus.service import Service

    entry = find(SERVICES, service)
    if entry is None:
        near = similar(SERVICES, service)
        hint = f"did you mean {' or '.join(near)}?" if near else f"installed: {', '.join(names(SERVICES)) or 'none'}"
        fail(f"no service '{service}' is installed", hint)
    try:
        found = entry.load(Service)
    except BrokenEntryPointError as error:
        fail(str(error), error.hint)
    found.main()
