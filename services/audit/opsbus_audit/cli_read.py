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


def shadow(
    worker: Annotated[str, typer.Option("--worker", help="Service whose candidate gets the calls: k8s.")],
    since: Annotated[str, typer.Option(help="Calls from then on: RFC 3339 or now-1d.")] = "1d",
    until: Until = None,
    tool: Tool = None,
    actor: Actor = None,
    most: Annotated[int, typer.Option("--max", min=1, max=100_000, help="Calls at most, the oldest first.")] = 1_000,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Calls at the same time.")] = 4,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, max=300, help="A call, at most. Seconds.")] = 30.0,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Field that may differ, wherever it stands; may be given again.")
    ] = None,
    edge: Annotated[
        str | None,
        typer.Option(
            help="Edge that asks the version in service, with OPSBUS_TOKEN; none: outcomes are compared alone."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key the candidate believes; made in the data folder if missing.")
    ] = None,
    source: From = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON.")] = False,
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Send recorded read-only calls again, to a candidate (`opsbus run NAME --shadow`), and report what is different.

    Calls that may change something are never sent. Exit code 3: there are differences.
    """
    from opsbus_audit import access
    from opsbus_audit.shadow import command

    question = access.question_of(tool=tool, actor=actor, since=since, until=until)
    command.shadow_run(
        question,
        service=worker,
        edge=edge,
        most=most,
        at_once=at_once,
        timeout_s=timeout_s,
        ignore=ignore or [],
        key_file=key,
        source=access.choice(access.Source, source, "--from"),
        as_json=as_json,
        database_url=database_url,
        folder=data,
    )


def report(
    out: Annotated[Path, typer.Option(help="The HTML file to make.")],
    since: Annotated[str, typer.Option(help="From then on: RFC 3339 or now-30d.")] = "30d",
    until: Annotated[str, typer.Option(help="Until then.")] = "now",
    key: Annotated[
        list[str] | None, typer.Option(help="Verifier key of the log, or a file with it. Default: the data folder's.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over a file that is there.")] = False,
    database_url: Store = None,
    data: Folder = ".opsbus",
) -> None:
    """Write a readable page for a period: calls, denials, writes with their reasons. Making it is recorded."""
    from opsbus_audit import access
    from opsbus_audit.report import command

    question = access.question_of(since=since, until=until)
    if question.since is not None and question.until is not None:
        command.report(
            question.since, question.until, out, key=key or [], force=force, database_url=database_url, folder=data
        )
