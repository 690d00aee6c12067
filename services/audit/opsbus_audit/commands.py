"""What the sub-commands do: check the options, find bus or store, print. Following the stream is follow.py's matter."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TypeVar

import typer
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.js import errors as js_errors
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import Settings, ToolError
from opsbus.commands.output import fail
from opsbus.database import open_engine
from opsbus.nats_client import ConnectError, close, connect, without_password
from opsbus.personal import Persons, PersonsError
from opsbus.platform_audit import NotRecordedError
from opsbus.settings import SettingsError, load
from opsbus.toolerror import near
from opsbus.when import parse_when
from opsbus_audit.access import asked
from opsbus_audit.follow import follow as follow_stream
from opsbus_audit.locate import IDENTITY, PlatformError, bus_settings, store_url
from opsbus_audit.log_read import Reading, recorded
from opsbus_audit.persons import also_by_pseudonym, reveal
from opsbus_audit.record import Outcome
from opsbus_audit.search import Entry, Question, search
from opsbus_audit.settings import AuditSettings
from opsbus_audit.timeline import line
from opsbus_contracts import Stage
from opsbus_contracts.audit import PlatformStage

T = TypeVar("T")

_PAGE = 500
_CONNECT_S = 10.0


@dataclass(frozen=True)
class Filter:
    """What the user wants to see; None: anything."""

    actor: str | None = None
    tool: str | None = None
    service: str | None = None
    stage: str | None = None
    call: str | None = None
    outcome: str | None = None

    def given(self) -> dict[str, str]:
        """Only what was given, as facts for the record."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self) -> None:
        """End the command when a value of a closed list is not on it."""
        _one_of("--stage", self.stage, [stage.value for stage in (*Stage, *PlatformStage)])
        _one_of("--outcome", self.outcome, [outcome.value for outcome in Outcome])

    def lets_through(self, entry: Entry) -> bool:
        """Whether a live event is wanted. A call may be given by the start of its id, as the timeline shows it."""
        if self.call is not None and not entry.call.startswith(self.call):
            return False
        pairs = (
            (self.actor, entry.actor),
            (self.tool, entry.tool),
            (self.service, entry.service),
            (self.stage, entry.stage),
        )
        return all(wanted is None or wanted == found for wanted, found in pairs)


def tail(wanted: Filter, *, since: str | None, follow: bool, as_json: bool, folder: str) -> None:
    """Print the stream's events as they come, until Ctrl-C."""
    wanted.check()
    start = _moment(since, "--since")
    try:
        settings = bus_settings(folder)
    except (PlatformError, SettingsError) as error:
        fail(str(error), "start the platform (opsbus up), or set NATS_URL and OPSBUS_NATS_SEED_FILE (identity auditor)")

    facts = {"what": "tail", "question": wanted.given() | ({"since": start.isoformat()} if start else {})}

    async def show() -> None:
        async with (
            _connected(settings, "opsbus-audit-tail") as client,
            recorded(client, facts | {"source": "stream", "follow": follow}) as reading,
        ):
            async for entry in follow_stream(client, start=start, to_end=not follow):
                if wanted.lets_through(entry):
                    _print(entry, as_json)
                    reading.events += 1

    try:
        _run(show())
    except (ConnectError, SettingsError) as error:
        fail(str(error), "the seed file must be the one of the identity `auditor`")
    except NotRecordedError as error:
        fail(f"nothing was read: {error}", "reading the record is recorded first; is the bus provisioned?")
    except js_errors.NotFoundError:
        fail("there is no stream AUDIT on this bus", "create it: opsbus provision")
    except (TimeoutError, nats_errors.Error, OSError) as error:
        fail(
            f"the bus at {without_password(settings.nats_url)} does not answer ({type(error).__name__})",
            "is the platform up, and may this identity read the stream AUDIT?",
        )


def search_store(
    wanted: Filter,
    *,
    text: str,
    since: str | None,
    until: str | None,
    unreadable: bool,
    limit: int,
    as_json: bool,
    database_url: str | None,
    folder: str,
) -> None:
    """Print what the store has, newest first."""
    wanted.check()
    question = Question(
        actor=wanted.actor,
        tool=wanted.tool,
        service=wanted.service,
        stage=wanted.stage,
        call=wanted.call,
        outcome=wanted.outcome,
        since=_moment(since, "--since"),
        until=_moment(until, "--until"),
        text=text,
        unreadable=True if unreadable else None,
    )
    hint = "name the store: --database-url sqlite:///file or postgresql://..., or OPSBUS_AUDIT_DATABASE_URL"
    try:
        must = load(AuditSettings, "audit").require_log_read
        shown = _run(_search(store_url(database_url, folder), question, limit, as_json, folder, must))
    except SettingsError as error:
        fail(str(error))
    except _NoBusError as error:
        fail(f"nothing was read: {error}", "OPSBUS_AUDIT_REQUIRE_LOG_READ wants a bus that records it: opsbus up")
    except NotRecordedError as error:
        fail(f"nothing was read: {error}", "reading the record is recorded first; is the bus provisioned?")
    except PersonsError as error:
        fail(str(error), "is the bus well? 'opsbus doctor' looks")
    except (PlatformError, ValueError) as error:
        fail(str(error), hint)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        fail(f"the store cannot be read: {type(cause).__name__}: {str(cause).splitlines()[0][:200]}", hint)
    if shown == 0:
        typer.echo("nothing matches", err=True)


class _NoBusError(Exception):
    """No bus is there for the auditor; one line."""


async def _search(url: str, question: Question, limit: int, as_json: bool, folder: str, must: bool) -> int:
    engine = open_engine(url, read_only=True)
    try:
        async with AsyncExitStack() as stack:
            facts = {"what": "search", "question": asked(question), "source": "store", "at_most": limit}
            try:
                client = await stack.enter_async_context(_connected(bus_settings(folder), "opsbus-audit-search"))
            except (PlatformError, ConnectError, SettingsError, TimeoutError, nats_errors.Error, OSError) as error:
                # A store may be looked at without a bus, by whoever has its password: the record cannot prevent that.
                if must:
                    raise _NoBusError(f"no bus to record it ({error or type(error).__name__})") from None
                typer.echo(f"! this reading is not recorded: no bus ({error or type(error).__name__})", err=True)
                return await _show(engine, question, limit, as_json, None, Reading())
            reading = await stack.enter_async_context(recorded(client, facts))
            return await _show(engine, question, limit, as_json, Persons(client.jetstream(timeout=3.0)), reading)
    finally:
        await engine.dispose()


async def _show(
    engine: AsyncEngine, question: Question, limit: int, as_json: bool, persons: Persons | None, reading: Reading
) -> int:
    """``persons``: the keys of personal data, where there is a bus."""
    cursor: str | None = None
    told = ""
    question = await also_by_pseudonym(persons, question)
    while reading.events < limit:
        found = await search(engine, question, min(_PAGE, limit - reading.events), cursor)
        sealed = await reveal(persons, found.entries)
        if sealed and sealed != told:
            typer.echo(told := sealed, err=True)
        for entry in found.entries:
            _print(entry, as_json)
        reading.events += len(found.entries)
        if not found.more:
            break
        cursor = found.cursors[-1]
    return reading.events


@asynccontextmanager
async def _connected(settings: Settings, name: str) -> AsyncIterator[Client]:
    async with asyncio.timeout(_CONNECT_S):
        client = await connect(settings, IDENTITY, name=name)
    try:
        yield client
    finally:
        await close(client)


def _run(work: Coroutine[None, None, T]) -> T | None:
    """Run to the end, or until Ctrl-C or a closed pipe ends it, which is no error."""
    with suppress(KeyboardInterrupt, BrokenPipeError):
        return asyncio.run(work)
    return None


def _print(entry: Entry, as_json: bool) -> None:
    typer.echo(entry.model_dump_json() if as_json else line(entry))


def _one_of(option: str, given: str | None, valid: list[str]) -> None:
    if given is not None and given not in valid:
        close = near(given, valid)
        fail(
            f"{option} {given!r} is not known",
            f"did you mean {close[0]}?" if close else f"there are: {', '.join(valid)}",
        )


def _moment(given: str | None, option: str) -> datetime | None:
    if given is None:
        return None
    try:
        return parse_when(given, option)
    except ToolError as error:
        fail(error.message, error.hint)
