"""``opsbus audit verify``, ``witness`` and ``key``. Only typer is imported here."""

from pathlib import Path
from typing import Annotated

import typer

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        help="Verifier key of the log (name+hash+base64), or a file with it; may be given again.",
        envvar="OPSBUS_AUDIT_VERIFIER_KEY",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="The store. Default: OPSBUS_AUDIT_DATABASE_URL, the running platform's, DATABASE_URL."
    ),
]
Folder = Annotated[str, typer.Option("--data", help="Data folder of `opsbus up`.", envvar="OPSBUS_DATA")]


def verify(
    export: Annotated[Path | None, typer.Argument(help="An export to check. Without: what the platform holds.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Only the stream.")] = False,
    store: Annotated[bool, typer.Option("--store", help="Only the store.")] = False,
    key: Keys = None,
    export_key: Annotated[
        Path | None, typer.Option(help="Public key, PEM, of who made the export: checks the manifest's signature.")
    ] = None,
    processes: Annotated[int, typer.Option(min=0, max=64, help="That hash; 0: one a processor.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each that was checked.")] = False,
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Prove that the record is what was recorded; name the first event that is not.

    Exit codes: 0 all is as recorded and signed; 3 something was altered, is missing, reordered, duplicated or invented;
    4 nothing is wrong, and part of an export is not under a checkpoint; 1 it could not be checked.
    """
    from opsbus_audit.proof import command

    command.verify(
        export,
        stream=stream,
        store=store,
        keys=key or [],
        export_key=export_key,
        processes=processes,
        as_json=as_json,
        database_url=database_url,
        folder=data,
    )


def key(
    data: Folder = ".opsbus",
) -> None:
    """Print the verifier key of this platform's record: give it to whoever shall verify, by a way you trust."""
    from opsbus_audit.proof import command

    command.key(data)
