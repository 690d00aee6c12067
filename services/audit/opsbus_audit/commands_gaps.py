"""``opsbus audit gaps``: the numbers that sources gave to events which the store does not have."""

import asyncio
import json
from itertools import groupby

import typer
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from opsbus.commands.output import fail
from opsbus.database import open_engine
from opsbus_audit.locate import PlatformError, store_url
from opsbus_audit.sources import Missing, missing

FOUND = 3
"""Exit code when something is missing, as of `verify`."""


def gaps(*, as_json: bool, database_url: str | None, folder: str) -> None:
    """Print what is missing; ends with code 3 when anything is."""
    hint = "name the store: --database-url sqlite:///file or postgresql://..., or OPSBUS_AUDIT_DATABASE_URL"
    try:
        found = asyncio.run(_missing(store_url(database_url, folder)))
    except (PlatformError, ValueError) as error:
        fail(str(error), hint)
    except (OperationalError, ProgrammingError) as error:
        fail(f"the store cannot be read: {str(error.orig).splitlines()[0][:200]}", "has an audit worker opened it yet?")
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        fail(f"the store cannot be read: {type(error).__name__}: {str(error)[:200]}", hint)
    if as_json:
        for one in found:
            facts = {"source": one.source, "first": one.first, "last": one.last, "since": one.since.isoformat()}
            typer.echo(json.dumps(facts))
    else:
        _show(found)
    if found:
        raise typer.Exit(FOUND)


async def _missing(url: str) -> list[Missing]:
    engine = open_engine(url, read_only=True)
    try:
        return await missing(engine)
    finally:
        await engine.dispose()


def _show(found: list[Missing]) -> None:
    if not found:
        typer.echo("no event is missing: every source's numbers are all there")
        return
    for source, runs in groupby(found, key=lambda one: one.source):
        these = list(runs)
        numbers = ", ".join(str(one.first) if one.first == one.last else f"{one.first}-{one.last}" for one in these)
        count = sum(one.events for one in these)
        since = min(one.since for one in these)
        typer.echo(f"{source}: {count} missing since {since:%Y-%m-%d %H:%M:%S} UTC: {numbers}")
    typer.echo(
        "  → What waits in an edge's spool still comes; what a process that died had in memory alone does not.",
        err=True,
    )
