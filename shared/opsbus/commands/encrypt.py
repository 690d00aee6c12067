"""``opsbus encrypt``: a value for a settings file or a variable that only the holder of the key can read."""

from pathlib import Path
from typing import Annotated

import typer


def encrypt(
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="FILE", help="Make a key in a new file instead.")
    ] = None,
) -> None:
    """Encrypt a setting's value: it is asked for without echo, or read from standard input.

    The key is in the file that OPSBUS_SETTINGS_KEY_FILE names. What is printed (enc:...) goes where the value would.
    """
    from opsbus.commands.output import fail
    from opsbus.secret_values import KEY_FILE, SecretValueError, key, write_key
    from opsbus.secret_values import encrypt as encrypted

    if new_key is not None:
        try:
            write_key(new_key)
        except FileExistsError:
            fail(f"{new_key} is there already", "without it, what it has encrypted cannot be read; name another file")
        except OSError as error:
            fail(f"{new_key} cannot be written: {error.strerror or error}")
        typer.echo(f"{new_key} holds a new key; keep it from others, and name it in {KEY_FILE}", err=True)
        return
    try:
        key()
        typer.echo(encrypted(_value()))
    except SecretValueError as error:
        fail(str(error))


def _value() -> str:
    import getpass
    import sys

    from opsbus.commands.output import fail

    try:
        value = getpass.getpass("Value: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    except (EOFError, KeyboardInterrupt):
        raise typer.Exit(130) from None
    if not value:
        fail("there is no value", code=2)
    return value
