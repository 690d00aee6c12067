"""``opsbus audit verify``, ``gaps``, ``witness`` and ``key``. Only typer is imported here."""

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


def gaps(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each run of missing numbers.")] = False,
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """List events that their sources numbered and that the store does not have.

    Exit codes: 0 nothing is missing; 3 something is; 1 the store could not be read.
    """
    from opsbus_audit import commands_gaps

    commands_gaps.gaps(as_json=as_json, database_url=database_url, folder=data)


def key(
    data: Folder = ".opsbus",
) -> None:
    """Print the verifier key of this platform's record: give it to whoever shall verify, by a way you trust."""
    from opsbus_audit.proof import command

    command.key(data)


def witness(
    source: Annotated[
        str | None, typer.Argument(help="File or URL of checkpoints. Without: the bus, as the identity `witness`.")
    ] = None,
    state: Annotated[Path, typer.Option(help="The witness's own memory.")] = Path("opsbus-witness.txt"),
    key: Keys = None,
    sign_key: Annotated[
        Path | None, typer.Option(help="Ed25519 key, PEM, to cosign with (C2SP cosignature/v1); none: only watch.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the witness in its cosignatures.")] = "opsbus/witness",
    follow: Annotated[bool, typer.Option(help="Go on watching; without: stop at the end.")] = True,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, help="Between two looks at a file or URL, seconds.")
    ] = 10.0,
    data: Folder = ".opsbus",
) -> None:
    """Watch from outside that the record only ever grows: keep its checkpoints, cosign them, cry out at a fork.

    Exit codes: 0 it ended well; 3 the record has two pasts; 1 it could not watch.
    """
    from opsbus_audit.proof import watch

    watch.witness(
        source,
        state=state,
        keys=key or [],
        sign_key=sign_key,
        name=name,
        follow=follow,
        every_s=every_s,
        folder=data,
    )
