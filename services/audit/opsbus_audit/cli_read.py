"""``opsbus audit replay``, ``export``, ``report`` and ``shadow``. Only typer is imported here."""

from pathlib import Path
from typing import Annotated

import typer

Actor = Annotated[str | None, typer.Option(help="Only this caller (`sub`).")]
Tool = Annotated[str | None, typer.Option(help="Only this tool: k8s_scale_deployment.")]
Service = Annotated[str | None, typer.Option(help="Only calls of this service: k8s.")]
Stage = Annotated[str | None, typer.Option(help="Only this step: requested, completed, denied, key_changed, ...")]
Call = Annotated[str | None, typer.Option(help="Only this call id; from the stream its first letters will do.")]
OutcomeOption = Annotated[
    str | None, typer.Option("--outcome", help="open, success, failure, denied, unknown or cancelled.")
]
Since = Annotated[str | None, typer.Option(help="From then on: RFC 3339 or now-1d.")]
Until = Annotated[str | None, typer.Option(help="Until then.")]
First = Annotated[int | None, typer.Option("--from-seq", min=1, help="From this number of the stream on.")]
Last = Annotated[int | None, typer.Option("--to-seq", min=1, help="Until this number of the stream.")]
From = Annotated[
    str, typer.Option("--from", help="stream, store, or auto: the stream, and what is older from the store.")
]
Store = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="The store. Default: OPSBUS_AUDIT_DATABASE_URL, the running platform's, DATABASE_URL."
    ),
]
Folder = Annotated[str, typer.Option("--data", help="Data folder of `opsbus up`.", envvar="OPSBUS_DATA")]


def replay(
    actor: Actor = None,
    tool: Tool = None,
    service: Service = None,
    stage: Stage = None,
    call: Call = None,
    outcome: OutcomeOption = None,
    since: Since = None,
    until: Until = None,
    first: First = None,
    last: Last = None,
    form: Annotated[str, typer.Option("--format", help="timeline, ndjson or cloudevents.")] = "timeline",
    speed: Annotated[str, typer.Option(help="1x: in the time it took; 10x; max: as fast as it goes.")] = "max",
    to: Annotated[
        str | None, typer.Option(help="Publish onto replay.<service>.<recorded subject> instead of writing.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on with what comes.")] = False,
    source: From = "auto",
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Replay the record in order, as the identity `auditor`. Reading it is recorded."""
    from opsbus_audit import access
    from opsbus_audit.replay import command
    from opsbus_audit.replay.forms import Form

    question = access.question_of(
        actor=actor, tool=tool, service=service, stage=stage, call=call, outcome=outcome,
        since=since, until=until, first=first, last=last,
    )  # fmt: skip
    command.replay(
        question,
        form=access.choice(Form, form, "--format"),
        speed=speed,
        to=to,
        follow=follow,
        source=access.choice(access.Source, source, "--from"),
        database_url=database_url,
        folder=data,
    )


def export(
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")],
    actor: Actor = None,
    tool: Tool = None,
    service: Service = None,
    stage: Stage = None,
    call: Call = None,
    outcome: OutcomeOption = None,
    since: Since = None,
    until: Until = None,
    first: First = None,
    last: Last = None,
    forms: Annotated[
        str, typer.Option(help="csv, ocsf, parquet, separated by commas; all. The exact bytes are always there.")
    ] = "all",
    sign_key: Annotated[
        Path | None,
        typer.Option(help="Ed25519 key in PEM that signs the manifest; made in the data folder if missing."),
    ] = None,
    source: From = "auto",
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Export the record into a folder, with a signed manifest. Exporting is recorded."""
    from opsbus_audit import access
    from opsbus_audit.export import command

    question = access.question_of(
        actor=actor, tool=tool, service=service, stage=stage, call=call, outcome=outcome,
        since=since, until=until, first=first, last=last,
    )  # fmt: skip
    command.export(
        question,
        out=out,
        forms=forms,
        key_file=sign_key,
        source=access.choice(access.Source, source, "--from"),
        database_url=database_url,
        folder=data,
    )
