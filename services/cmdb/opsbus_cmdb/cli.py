"""``opsbus cmdb``: the embedded store's inventory in and out as files. Only typer is imported here."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="cmdb",
    help="The CMDB's own store: import and export what it records.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="The store. Default: OPSBUS_CMDB_DATABASE_URL, the running platform's, DATABASE_URL."
    ),
]
Netbox = Annotated[str | None, typer.Option("--netbox", metavar="URL", help="A NetBox 4.x: https://netbox.example.")]
TokenFile = Annotated[Path | None, typer.Option(help="With --netbox: a file with its token.")]
Data = Annotated[Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'.")]


@app.command("import")
def import_(
    files: Annotated[
        list[Path] | None, typer.Argument(help="JSON, or CSV of assets, relationships or windows.")
    ] = None,
    netbox: Netbox = None,
    token_file: TokenFile = None,
    since: Annotated[str, typer.Option(help="With --netbox: only what changed since; RFC 3339 or now-1d.")] = "",
    cables: Annotated[bool, typer.Option(help="With --netbox: also who needs whom along the cables.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the history of what changes.")] = "",
    by: Annotated[str, typer.Option(help="Who, as the history will say; the user of this machine unless given.")] = "",
    prune: Annotated[
        bool, typer.Option(help="Take out relationships that the files' sources recorded and no longer list.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything and count, write nothing.")] = False,
    database_url: Store = None,
    data: Data = Path(".opsbus"),
) -> None:
    """Import assets, relationships and calendar windows: new ones are added, others brought up to date.

    Every mistake is told with its file and line, and then nothing is imported. What is replaced stays in the history.
    With --netbox they come from a NetBox 4.x; its token is that of NETBOX_TOKEN or of a file.
    """
    from opsbus.commands.output import fail
    from opsbus_cmdb.transfer import commands

    order = commands.Order(reason, by, prune, dry_run)
    if netbox is None:
        if not files:
            fail("there is nothing to import", "name files, or --netbox URL")
        if token_file or since or cables:
            fail("--token-file, --since and --cables go with --netbox")
        commands.import_files(files, order, database_url, data)
        return
    if files:
        fail("--netbox and files are two imports", "run them one after the other")
    from opsbus_cmdb.netbox import commands as netbox_commands

    source = netbox_commands.Source(netbox, token_file, since, cables)
    netbox_commands.import_netbox(source, order, database_url, data)


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="A new file: .json, or .csv with --kind.")] = None,
    kind: Annotated[str, typer.Option(help="Only these: assets, relationships or windows.")] = "",
    force: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
    netbox: Netbox = None,
    token_file: TokenFile = None,
    yes: Annotated[bool, typer.Option(help="With --netbox: do what the plan says.")] = False,
    create: Annotated[bool, typer.Option(help="With --netbox: also make virtual machines it does not have.")] = False,
    reason: Annotated[str, typer.Option(help="With --netbox: why; for its change log.")] = "",
    by: Annotated[str, typer.Option(help="With --netbox: who; the user of this machine unless given.")] = "",
    database_url: Store = None,
    data: Data = Path(".opsbus"),
) -> None:
    """Export what is recorded, as of one moment, in a form that `opsbus cmdb import` takes.

    With --netbox it goes to a NetBox 4.x: custom fields that are there, what it leaves empty, a lifecycle changed here.
    It shows what it would do; --yes does it.
    """
    from opsbus.commands.output import fail
    from opsbus_cmdb.transfer import commands

    if netbox is None:
        if file is None:
            fail("there is nowhere to export to", "name a file, or --netbox URL")
        if token_file or yes or create or reason or by:
            fail("--token-file, --yes, --create, --reason and --by go with --netbox")
        commands.export_file(file, kind, database_url, data, force=force)
        return
    if file or kind or force:
        fail("--netbox and a file are two exports", "run them one after the other")
    from opsbus_cmdb.netbox import commands as netbox_commands

    source = netbox_commands.Source(netbox, token_file)
    netbox_commands.export_netbox(source, netbox_commands.Doing(yes, create, by, reason), database_url, data)
