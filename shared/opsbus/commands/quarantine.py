"""``opsbus quarantine``: the kill switch. Doing it: quarantine_store.py; holding to it: edges and workers."""

from pathlib import Path
from typing import Annotated

import typer

from opsbus.commands.keeper import KEEPER, guarded, keeper, span, user
from opsbus_contracts.access import Quarantine, QuarantineKind

app = typer.Typer(
    no_args_is_help=True,
    help="The kill switch: shut out a caller, an API key, a tool, a worker or a service, on every edge and worker.",
)

FOR_MAX_S = 366 * 86_400

Kind = Annotated[QuarantineKind, typer.Argument(help="caller, key, tool, worker (an instance) or service.")]
Target = Annotated[str, typer.Argument(help="sub of a caller, id of a key, MCP name of a tool, instance, service.")]
Reason = Annotated[str, typer.Option(help="Why; callers and the record are told.")]
By = Annotated[str, typer.Option("--by", help="Who does this, for the record; the user of this shell unless given.")]
Data = Annotated[
    Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
]
DATA = Path(".opsbus")


@app.command()
def add(
    kind: Kind,
    target: Target,
    reason: Reason,
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 12h, 7d; without: until it is lifted.")] = "",
    by: By = "",
    data: Data = DATA,
) -> None:
    """Shut something out at once; its running calls end."""
    from opsbus.platform_audit import PlatformAudit
    from opsbus.quarantine_store import QuarantineStore

    for_s = span(for_, "--for", FOR_MAX_S) if for_ else None

    async def work() -> Quarantine:
        async with keeper(data) as js:
            return await QuarantineStore(js, PlatformAudit(js, KEEPER), by or user()).add(kind, target, reason, for_s)

    made = guarded(work)
    typer.echo(f"{made.kind.value} {made.target} is quarantined {_until(made)}")
    typer.echo(f"→ opsbus quarantine lift {made.kind.value} {made.target} --reason ...   lets it in again", err=True)


@app.command()
def lift(kind: Kind, target: Target, reason: Reason, by: By = "", data: Data = DATA) -> None:
    """Let something in again."""
    from opsbus.platform_audit import PlatformAudit
    from opsbus.quarantine_store import QuarantineStore

    async def work() -> Quarantine:
        async with keeper(data) as js:
            return await QuarantineStore(js, PlatformAudit(js, KEEPER), by or user()).lift(kind, target, reason)

    held = guarded(work)
    typer.echo(f"{held.kind.value} {held.target} is let in again (it was out for: {held.reason})")


@app.command("list")
def list_quarantines(
    json: Annotated[bool, typer.Option("--json", help="A JSON list, for programs.")] = False, data: Data = DATA
) -> None:
    """Show what is shut out."""
    from opsbus.platform_audit import PlatformAudit
    from opsbus.quarantine import is_in_force
    from opsbus.quarantine_store import QuarantineStore

    async def work() -> list[Quarantine]:
        async with keeper(data) as js:
            return await QuarantineStore(js, PlatformAudit(js, KEEPER), user()).all()

    found = [one for one in guarded(work) if is_in_force(one)]
    if json:
        import orjson

        typer.echo(orjson.dumps([one.model_dump(mode="json") for one in found], option=orjson.OPT_INDENT_2).decode())
        return
    for one in found:
        typer.echo(f"{one.kind.value:<8} {one.target}  {_until(one)}  by {one.by}: {one.reason}")
    if not found:
        typer.echo("nothing is quarantined")


def _until(one: Quarantine) -> str:
    from datetime import UTC, datetime

    if not one.expires_ms:
        return "until it is lifted"
    return f"until {datetime.fromtimestamp(one.expires_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
