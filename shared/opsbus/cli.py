"""The command ``opsbus``: its own sub-commands and those that installed packages add (group ``opsbus.commands``).

Each sub-command is a file in ``opsbus/commands``; nothing heavy is imported before one of them runs.
"""

import os
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from opsbus.commands import (
    backup,
    doctor,
    encrypt,
    keys,
    new,
    provision,
    quarantine,
    run,
    services,
    tokens,
    up,
    version,
)
from opsbus.commands.discover import COMMANDS, BrokenEntryPointError, find, names
from opsbus.commands.output import fail, warn


class _Group(TyperGroup):
    """Our own commands, then those of other packages, imported only when they are asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._added: dict[str, Any] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in names(COMMANDS) if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command for the list of all; a broken one is named and left out."""
        try:
            return self._command(ctx, cmd_name)
        except BrokenEntryPointError as error:
            warn(str(error))
            self._added[cmd_name] = None
            return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command the user named; a broken one ends here."""
        try:
            self._command(ctx, args[0])
        except BrokenEntryPointError as error:
            fail(str(error), error.hint)
        return super().resolve_command(ctx, args)

    def _command(self, ctx: Any, name: str) -> Any:
        own = super().get_command(ctx, name)
        if own is not None or name in self._added:
            return own or self._added[name]
        entry = find(COMMANDS, name)
        if entry is None:
            return None
        command = typer.main.get_command(entry.load(typer.Typer))
        command.name = name
        self._added[name] = command
        return command


app = typer.Typer(
    name="opsbus",
    cls=_Group,
    help="Operate a company's systems over one bus: run the platform, look at it, extend it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("up")(up.up)
app.command("run")(run.run)
app.command("provision")(provision.provision)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("doctor")(doctor.doctor)
app.command("services")(services.services)
app.command("tokens")(tokens.tokens)
app.command("encrypt")(encrypt.encrypt)
app.add_typer(new.app, name="new")
app.add_typer(keys.app, name="keys")
app.add_typer(quarantine.app, name="quarantine")
app.command("version")(version.version)


def main() -> None:
    """The commands: a mistake of ours ends in one line, not in a traceback."""
    try:
        app(prog_name="opsbus")
    except Exception as error:
        if os.environ.get("OPSBUS_DEBUG"):
            raise
        failed(error)


def failed(error: Exception) -> NoReturn:
    """End with one line about a mistake of ours."""
    fail(f"{type(error).__name__}: {error}", "OPSBUS_DEBUG=1 shows where it comes from")
