"""``opsbus audit``: look at the record from a terminal. Only typer is imported here, so that ``opsbus --help`` stays
quick."""

from typing import Annotated

import typer

from opsbus_audit import cli_kept, cli_proof, cli_read

app = typer.Typer(
    name="audit",
    help="Look at the record: follow it live, or search what is stored.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cli_kept.hold)
app.command("retention")(cli_kept.retention)
app.command("forget")(cli_kept.forget)
app.command("replay")(cli_read.replay)
app.command("export")(cli_read.export)
app.command("shadow")(cli_read.shadow)
app.command("report")(cli_read.report)
app.command("verify")(cli_proof.verify)
app.command("gaps")(cli_proof.gaps)
app.command("key")(cli_proof.key)
app.command("witness")(cli_proof.witness)

Actor = Annotated[str | None, typer.Option(help="Only this caller (`sub`).")]
Tool = Annotated[str | None, typer.Option(help="Only this tool: k8s_scale_deployment.")]
Service = Annotated[str | None, typer.Option(help="Only calls of this service: k8s.")]
Stage = Annotated[str | None, typer.Option(help="Only this step: requested, completed, denied, ...")]
Call = Annotated[str | None, typer.Option(help="Only this call id, or the start of one.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Folder = Annotated[str, typer.Option("--data", help="Data folder of `opsbus up`.", envvar="OPSBUS_DATA")]


@app.command()
def tail(
    actor: Actor = None,
    tool: Tool = None,
    service: Service = None,
    stage: Stage = None,
    call: Call = None,
    since: Annotated[
        str | None, typer.Option(help="Begin there: RFC 3339 or now-10m. Default: what comes next.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Wait for what comes; without: stop at the end.")] = True,
    as_json: AsJson = False,
    data: Folder = ".opsbus",
) -> None:
    """Follow the audit stream live, as the identity `auditor`."""
    from opsbus_audit import commands

    commands.tail(
        commands.Filter(actor=actor, tool=tool, service=service, stage=stage, call=call),
        since=since,
        follow=follow,
        as_json=as_json,
        folder=data,
    )


@app.command()
def search(
    text: Annotated[
        str, typer.Argument(help="Words that must all occur: reason, arguments, message, tool, actor.")
    ] = "",
    actor: Actor = None,
    tool: Tool = None,
    service: Service = None,
    stage: Stage = None,
    call: Annotated[str | None, typer.Option(help="Only this call id.")] = None,
    outcome: Annotated[str | None, typer.Option(help="open, success, failure, denied, unknown or cancelled.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 or now-1h.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 or now-5m.")] = None,
    unreadable: Annotated[bool, typer.Option(help="Only events whose bytes are no audit event.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Events at most, the newest first.")] = 50,
    as_json: AsJson = False,
    database_url: Annotated[
        str | None,
        typer.Option(help="The store. Default: OPSBUS_AUDIT_DATABASE_URL, the running platform's, DATABASE_URL."),
    ] = None,
    data: Folder = ".opsbus",
) -> None:
    """Search the stored record, newest first. Opens the store for reading only."""
    from opsbus_audit import commands

    commands.search_store(
        commands.Filter(actor=actor, tool=tool, service=service, stage=stage, call=call, outcome=outcome),
        text=text,
        since=since,
        until=until,
        unreadable=unreadable,
        limit=limit,
        as_json=as_json,
        database_url=database_url,
        folder=data,
    )
