"""What ``opsbus audit hold`` and ``retention`` do. A change is recorded first; without a record it is not made."""

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

import typer
from nats import errors
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus.commands.output import fail
from opsbus.database import open_engine
from opsbus.nats_client import ConnectError, close, connect
from opsbus.platform_audit import NotRecordedError, record_once
from opsbus.settings import SettingsError, load
from opsbus.toolerror import ToolError
from opsbus.when import parse_when
from opsbus_audit.locate import IDENTITY, PlatformError, bus_settings, store_url
from opsbus_audit.retention import holds
from opsbus_audit.retention.let_go import plan
from opsbus_audit.settings import AuditSettings
from opsbus_contracts.audit import PlatformStage

T = TypeVar("T")
_CONNECT_TIMEOUT_S = 6.0


def place(
    covers: dict[str, str | None],
    since: str | None,
    until: str | None,
    reason: str,
    by: str,
    database_url: str | None,
    folder: str,
) -> None:
    """Place a hold and show it."""
    given = {name: value for name, value in covers.items() if value}
    for name, text in (("since", since), ("until", until)):
        if text:
            try:
                given[name] = parse_when(text, name).isoformat()
            except ToolError as error:
                fail(f"--{name}: {error.message}", error.hint)

    async def work(engine: AsyncEngine) -> holds.Hold:
        # One transaction around the record: what it does not take is not kept either.
        async with engine.begin() as connection:
            placed = await holds.place(connection, reason, by or getpass.getuser(), given)
            await _record("placed", placed, reason, by, folder)
            return placed

    placed = _run(work, database_url, folder)
    typer.echo(f"hold {placed.id} placed on {_said(placed)}")


def lift(id: str, reason: str, by: str, database_url: str | None, folder: str) -> None:
    """Lift a hold."""

    async def work(engine: AsyncEngine) -> holds.Hold:
        async with engine.begin() as connection:
            lifted = await holds.lift(connection, id, reason, by or getpass.getuser())
            await _record("lifted", lifted, reason, by, folder)
            return lifted

    lifted = _run(work, database_url, folder)
    typer.echo(f"hold {lifted.id} lifted: {_said(lifted)}")


def show(lifted: bool, as_json: bool, database_url: str | None, folder: str) -> None:
    """Show the holds."""

    async def work(engine: AsyncEngine) -> list[holds.Hold]:
        async with engine.connect() as connection:
            return await holds.holds(connection, lifted=lifted)

    found = _run(work, database_url, folder)
    for one in found:
        if as_json:
            typer.echo(json.dumps(asdict(one), default=str))
            continue
        state = f"  lifted {one.lifted_at:%Y-%m-%d} by {one.lifted_by}: {one.lifted_reason}" if one.lifted_at else ""
        typer.echo(f"{one.id}  {one.placed_at:%Y-%m-%d %H:%M}  {one.placed_by:<16} {_said(one)}  - {one.reason}{state}")
    if not found and not as_json:
        typer.echo("no hold is in force")


def retention(database_url: str | None, folder: str) -> None:
    """Show the policy and what it comes to now."""
    try:
        rules = load(AuditSettings, "audit").retention
    except SettingsError as error:
        fail(str(error))
    if not rules:
        typer.echo("no retention policy: everything is kept for ever (OPSBUS_AUDIT_RETENTION)")
        return
    due = _run(lambda engine: plan(engine, rules), database_url, folder)
    for number, (rule, count) in enumerate(due.by_rule, 1):
        typer.echo(f"{number:>3}  {rule.said():<60} {count:>12,} due")
    typer.echo(f"     {due.events:,} events are due; {due.held:,} more are past their time and held")


async def _record(change: str, hold: holds.Hold, reason: str, by: str, folder: str) -> None:
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        client = await connect(bus_settings(folder), IDENTITY, name="opsbus-audit-hold")
    try:
        await record_once(
            client.jetstream(),
            IDENTITY,
            PlatformStage.HOLD_CHANGED,
            actor=by or getpass.getuser(),
            target=f"hold/{hold.id}",
            reason=reason,
            details={"change": change, "covers": hold.covers},
        )
    finally:
        await close(client)


def _run(work: Callable[[AsyncEngine], Awaitable[T]], database_url: str | None, folder: str) -> T:
    async def with_engine(url: str) -> Any:
        engine = open_engine(url)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        found: T = asyncio.run(with_engine(store_url(database_url, folder)))
    except (PlatformError, holds.HoldError, SettingsError, ConnectError) as error:
        fail(str(error))
    except (NotRecordedError, TimeoutError, errors.Error) as error:
        fail(f"nothing was changed: the record cannot take it ({error or type(error).__name__})", "is the bus there?")
    except (SQLAlchemyError, OSError, ValueError) as error:
        fail(f"the store cannot be used ({type(error).__name__})", "--database-url names it; has the worker run once?")
    return found


def _said(hold: holds.Hold) -> str:
    return " ".join(f"{name}={value}" for name, value in hold.covers.items()) or "everything"
