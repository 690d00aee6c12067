"""``opsbus new worker NAME``: the folder of a new worker, with a test that passes."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Write the beginnings of something new.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write the beginnings of something new."""


@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="The service token: 'billing' gives tools billing_...")],
    folder: Annotated[Path | None, typer.Option("--dir", help="Where to write it; ./NAME unless given.")] = None,
) -> None:
    """Write a worker: package, one typed tool, a test on a real bus, README and Dockerfile."""
    import shlex
    import sys

    from opsbus.commands.output import fail
    from opsbus.commands.paths import command_line, shown
    from opsbus.scaffold.names import BadNameError, names_of
    from opsbus.scaffold.write import FolderExistsError, write_worker

    try:
        names = names_of(name)
    except BadNameError as error:
        fail(str(error), error.hint)
    target = folder if folder is not None else Path(name)
    try:
        written = write_worker(names, target)
    except FolderExistsError as error:
        fail(str(error), "choose another name, or another folder with --dir")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror or error}")
    typer.echo(f"{target}/")
    for path in written:
        typer.echo(f"  {path}")
    place, python = shlex.quote(str(target)), shlex.quote(shown(Path(sys.executable)))
    typer.echo("\nNext:")
    typer.echo(f"  {python} -m pip install --no-deps --no-build-isolation -e {place}")
    typer.echo(f"  {python} -m pytest {place}")
    typer.echo(f"  {command_line()} up")
