"""``opsbus audit hold``, ``retention`` and ``forget``: what is kept, what is let go. Only typer is imported here."""

from typing import Annotated

import typer

hold = typer.Typer(
    name="hold",
    help="Legal holds: what they cover is kept, whatever the retention policy says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="The store. Default: OPSBUS_AUDIT_DATABASE_URL, the running platform's, DATABASE_URL."
    ),
]
Folder = Annotated[str, typer.Option("--data", help="Data folder of `opsbus up`.", envvar="OPSBUS_DATA")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
By = Annotated[str, typer.Option(help="Who, as the record will say; the user of this machine unless given.")]


@hold.command()
def add(
    reason: Reason,
    actor: Annotated[str | None, typer.Option(help="Events of this caller; * stands for any characters.")] = None,
    tool: Annotated[str | None, typer.Option(help="Events of this tool: k8s_*.")] = None,
    service: Annotated[str | None, typer.Option(help="Events of this service.")] = None,
    stage: Annotated[str | None, typer.Option(help="Events of this step.")] = None,
    call: Annotated[str | None, typer.Option(help="Events of this call.")] = None,
    since: Annotated[str | None, typer.Option(help="Stored from then on: RFC 3339 or now-30d.")] = None,
    until: Annotated[str | None, typer.Option(help="Stored before then.")] = None,
    by: By = "",
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Place a hold. Without a criterion it covers everything."""
    from opsbus_audit import commands_kept

    covers = {"actor": actor, "tool": tool, "service": service, "stage": stage, "call": call}
    commands_kept.place(covers, since, until, reason, by, database_url, data)


@hold.command("list")
def list_(
    lifted: Annotated[bool, typer.Option(help="Also those that were lifted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Show the holds in force."""
    from opsbus_audit import commands_kept

    commands_kept.show(lifted, as_json, database_url, data)


@hold.command()
def lift(
    id: Annotated[str, typer.Argument(help="As 'opsbus audit hold list' shows it.")],
    reason: Reason,
    by: By = "",
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Lift a hold."""
    from opsbus_audit import commands_kept

    commands_kept.lift(id, reason, by, database_url, data)


def retention(database_url: Store = None, data: Folder = ".opsbus") -> None:
    """Show the retention policy and what it would let go of now. The worker applies it; this deletes nothing."""
    from opsbus_audit import commands_kept

    commands_kept.retention(database_url, data)


def forget(
    who: Annotated[str, typer.Argument(help="`sub` of the caller, exactly.")],
    reason: Reason,
    by: By = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Folder = ".opsbus",
) -> None:
    """Destroy the key of a person's data: their events stay, and nobody can tell whose they are. For ever."""
    from opsbus_audit import commands_forget

    commands_forget.forget(who, reason, by, yes, data)
