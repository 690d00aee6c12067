"""``opsbus up``: the whole platform on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The edge's port; 8080 unless taken.")] = None,
    data: Annotated[
        Path, typer.Option(envvar="OPSBUS_DATA", help="Folder for keys, logs and what the platform stores.")
    ] = Path(".opsbus"),
    only: Annotated[str, typer.Option(help="Start these services alone, separated by commas.")] = "",
    once_ready: Annotated[
        str, typer.Option(metavar="COMMAND", help="When all is ready run this, then stop with its exit code.")
    ] = "",
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
) -> None:
    """Run the whole platform here: bus, workers, edge, and a sandbox for the systems you did not name."""
    import asyncio
    import os

    from rich.console import Console

    from opsbus.commands.output import fail
    from opsbus.up.runner import Options, StartError, run_platform

    names = tuple(name.strip() for name in only.split(",") if name.strip())
    options = Options(folder=data, port=port, only=names, once_ready=once_ready)
    console = Console(no_color=no_color, highlight=False, markup=False, emoji=False)
    try:
        code = asyncio.run(run_platform(options, console, dict(os.environ)))
    except StartError as error:
        fail(str(error), error.hint)
    raise typer.Exit(code)
