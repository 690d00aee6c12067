"""How commands speak: answers on standard output, errors and warnings as one line on standard error."""

from typing import NoReturn

import typer


def fail(message: str, hint: str = "", code: int = 1) -> NoReturn:
    """End the command with an error: what is wrong, and what to do."""
    typer.echo(f"opsbus: {message}", err=True)
    if hint:
        typer.echo(f"  → {hint}", err=True)
    raise SystemExit(code)


def warn(message: str) -> None:
    """Something is wrong, and the command goes on."""
    typer.echo(f"opsbus: {message}", err=True)
