"""``opsbus tokens``: tokens of the platform that ``opsbus up`` runs, minted anew."""

from pathlib import Path
from typing import Annotated

import typer


def tokens(
    role: Annotated[str, typer.Option(help="This role alone: viewer, operator or admin; prints nothing else.")] = "",
    hours: Annotated[float, typer.Option(help="How long they are good.")] = 12.0,
    subject: Annotated[str, typer.Option(help="Who it is for, as the record will say; ROLE@lab unless given.")] = "",
    data: Annotated[Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'.")] = Path(".opsbus"),
) -> None:
    """Make tokens for the platform of this folder."""
    from opsbus.commands.output import fail
    from opsbus.identity import Signer
    from opsbus.up.folder import Folder
    from opsbus.up.labtokens import ROLES, mint

    if role and role not in ROLES:
        fail(f"there is no role '{role}'", f"roles: {', '.join(ROLES)}")
    key = Folder(data).keys / "lab-tokens.pem"
    try:
        signer = Signer.from_pem(key.read_bytes())
    except OSError as error:
        fail(f"{key} cannot be read: {error.strerror or error}", "'opsbus up' makes it; --data names another folder")
    except ValueError:
        fail(f"{key} holds no Ed25519 key", "remove it, and start 'opsbus up' anew")
    try:
        made = [mint(signer, name, hours * 3600, subject) for name in ([role] if role else ROLES)]
    except ValueError as error:
        fail(str(error))
    if role:
        typer.echo(made[0].token)
        return
    for token in made:
        typer.echo(f"{token.role:<9} {token.token}")
