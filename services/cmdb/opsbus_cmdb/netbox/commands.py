"""What ``opsbus cmdb import --netbox`` does at a terminal: read NetBox, merge, import, say what was skipped and why."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus.commands.output import fail, warn
from opsbus.when import parse_when
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.export import Done, Plan, carry_out, plan
from opsbus_cmdb.netbox.merge import Merged, merge, recorded
from opsbus_cmdb.netbox.pull import Pulled, pull
from opsbus_cmdb.netbox.token import CA_FILE, read_token
from opsbus_cmdb.transfer import commands
from opsbus_cmdb.transfer.apply import Import, Outcome, Told
from opsbus_cmdb.transfer.read import TransferError

_SHOWN = 50
PATIENCE = 6
"""Tries of a request: an import may wait for a NetBox that restarts."""


@dataclass(frozen=True)
class Source:
    """Which NetBox, and how to get in."""

    url: str
    token_file: Path | None = None
    since: str = ""
    cables: bool = False

    def open(self) -> NetBox:
        """A NetBox to open with ``async with``.

        Raises:
            ValueError: the address or the token is none.
        """
        ca = os.environ.get(CA_FILE, "").strip()
        token = read_token(self.token_file)
        return NetBox(self.url, token, timeout_s=60, ca_file=Path(ca) if ca else None, patience=PATIENCE)


@dataclass(frozen=True)
class Doing:
    """How an export is meant."""

    yes: bool = False
    create: bool = False
    by: str = ""
    reason: str = ""


def import_netbox(source: Source, order: commands.Order, database_url: str | None, data: Path) -> None:
    """Import, or say what is wrong."""
    wanted = Import(
        actor=(order.by or commands.this_user())[:256],
        reason=order.reason or f"imported from NetBox ({urlsplit(source.url).hostname})"[:1_000],
        prune=order.prune,
    )

    async def work(engine: AsyncEngine) -> tuple[Pulled, Merged, Outcome]:
        netbox = source.open()
        if netbox.plain:
            warn(f"{netbox.where} is plain HTTP: anyone on the way can read the token")
        with commands.progress() as told:
            return await import_from(engine, netbox, wanted, told, source, dry_run=order.dry_run)

    try:
        pulled, merged, outcome = commands.run_on_store(work, database_url, data)
    except TransferError as error:
        commands.refuse(error)
    typer.echo(f"NetBox {pulled.version} at {urlsplit(source.url).hostname}")
    commands.tell(outcome)
    for line in skipped(pulled, merged, prune=order.prune):
        typer.echo(line)
    typer.echo("dry run: nothing was written" if order.dry_run else "imported")


async def import_from(
    engine: AsyncEngine, netbox: NetBox, order: Import, told: Told, source: Source, *, dry_run: bool = False
) -> tuple[Pulled, Merged, Outcome]:
    """Read a NetBox and import it into a database of the newest schema, all or nothing.

    Raises:
        ToolError: NetBox does not answer as it should; nothing was written.
        TransferError: a line cannot be imported; nothing was written.
        ValueError: --since is no time, or --prune cannot be done with it.
    """
    since = parse_when(source.since, "--since", datetime.now(UTC)) if source.since else None
    if since and order.prune:
        raise ValueError("--prune needs everything: what did not change since is not gone; leave --since out")
    async with netbox:
        pulled = await pull(netbox, told, since=since, cables=source.cables)
    if order.prune and pulled.refused:
        raise ValueError(f"--prune needs everything, and the token may not read {', '.join(pulled.refused)}")
    merged = merge(pulled, await recorded(engine, netbox.where), netbox.where, retire=order.prune)
    outcome = await commands.import_into(engine, merged.given, order, told, dry_run=dry_run)
    return pulled, merged, outcome


def export_netbox(source: Source, doing: Doing, database_url: str | None, data: Path) -> None:
    """Show what an export would do; with ``yes`` do it."""

    async def work(engine: AsyncEngine) -> tuple[Plan, Done | None]:
        netbox = source.open()
        async with netbox:
            with commands.progress() as told:
                made = await plan(engine, netbox, told, create=doing.create)
                if not doing.yes:
                    return made, None
                message = f"opsbus cmdb export by {doing.by or commands.this_user()}: {doing.reason or 'no reason'}"
                return made, await carry_out(engine, netbox, made, message, told)

    made, done = commands.run_on_store(work, database_url, data)
    for step in made.steps[:_SHOWN]:
        typer.echo(f"{'make  ' if step.id is None else 'change'} {step.ref}")
        for line in step.told:
            typer.echo(f"         {line}")
    if len(made.steps) > _SHOWN:
        typer.echo(f"... and {len(made.steps) - _SHOWN:,} more")
    for why, count in sorted(made.skipped.items()):
        typer.echo(f"left out {count:,} {why}")
    if made.linked:
        typer.echo(f"link     {len(made.linked):,} virtual machines that NetBox has already")
    if done is None:
        todo = made.steps or made.linked
        typer.echo(
            "nothing was written: --yes does it" if todo else f"nothing to do: {made.same:,} are as they are here"
        )
        return
    for line in done.failed:
        typer.echo(f"failed   {line}", err=True)
    typer.echo(f"{done.changed:,} changed, {done.made:,} made, {made.same:,} the same")
    if done.failed:
        fail(f"{len(done.failed)} could not be written", "what was written stays; plan again to see what is left")


def skipped(pulled: Pulled, merged: Merged, *, prune: bool) -> list[str]:
    """What was left out and why, a line each."""
    lines = [f"left out       {name}: the token may not read them" for name in pulled.refused]
    lines += [f"left out       {count:,} {why}" for why, count in sorted(merged.skipped.items())]
    lines += [f"note           {note}" for note in (*pulled.warnings, *merged.notes)]
    if merged.gone:
        how = "retired" if prune else "left as they are; --prune retires them"
        lines.append(f"gone           {merged.gone:,} recorded from this NetBox are no longer in it: {how}")
    return lines
