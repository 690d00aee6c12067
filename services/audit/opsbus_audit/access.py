"""Reading the record from a terminal: bus and store opened for reading, and the reading itself recorded first. Without
a record of it, nothing is read."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.js import errors as js_errors
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import ToolError
from opsbus.commands.output import fail
from opsbus.database import open_engine
from opsbus.nats_client import ConnectError, close, connect
from opsbus.platform_audit import NotRecordedError
from opsbus.settings import SettingsError
from opsbus.toolerror import near
from opsbus.when import parse_when
from opsbus_audit.locate import IDENTITY, PlatformError, bus_settings, store_url
from opsbus_audit.log_read import Reading, recorded
from opsbus_audit.reading import Batch, from_both, from_store, from_stream
from opsbus_audit.record import Outcome
from opsbus_audit.search import Question
from opsbus_contracts.audit import PlatformStage

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_CONNECT_S = 6.0
_STORE_HINT = "name the store: --database-url sqlite:///file or postgresql://..., or OPSBUS_AUDIT_DATABASE_URL"


class Source(StrEnum):
    """Where events are read."""

    AUTO = "auto"
    """The stream, and from the store what the stream no longer has."""
    STREAM = "stream"
    STORE = "store"


@dataclass
class Access:
    """Bus and store, open."""

    client: Client
    engine: AsyncEngine | None
    source: Source
    refused: list[Exception] = field(default_factory=list)
    """What the connection reported: a denied publish says nothing else."""
    reading: Reading = field(default_factory=Reading)

    async def events(self, question: Question, *, follow: bool = False) -> AsyncIterator[Batch]:
        """Events that match, the oldest first; they are counted for the record."""
        async for batch in self._events(question, follow):
            self.reading.events += len(batch)
            yield batch

    def _events(self, question: Question, follow: bool) -> AsyncIterator[Batch]:
        if self.source is Source.STORE and self.engine is not None:
            return from_store(self.engine, question)
        if self.source is Source.STREAM:
            return from_stream(self.client, question, follow=follow)
        return from_both(self.engine, self.client, question, follow=follow)


@asynccontextmanager
async def opened(
    stage: PlatformStage,
    question: Question,
    *,
    source: Source,
    folder: str,
    database_url: str | None,
    **details: Any,
) -> AsyncIterator[Access]:
    """Open both, and record that the record is read.

    Raises:
        PlatformError, SettingsError, ConnectError, NotRecordedError, TimeoutError, OSError, nats.errors.Error
    """
    async with AsyncExitStack() as stack:
        engine = _engine(source, folder, database_url)
        if engine is not None:
            stack.push_async_callback(engine.dispose)
        refused: list[Exception] = []
        async with asyncio.timeout(_CONNECT_S):
            client = await connect(bus_settings(folder), IDENTITY, name="opsbus-audit-read", on_error=refused.append)
        stack.push_async_callback(close, client)
        facts = {"question": asked(question), "source": source.value, **details}
        reading = await stack.enter_async_context(recorded(client, facts, stage))
        yield Access(client, engine, source, refused, reading)


def _engine(source: Source, folder: str, database_url: str | None) -> AsyncEngine | None:
    if source is Source.STREAM:
        return None
    try:
        # A statement of a report looks at a whole period; whoever waits for it may press Ctrl-C.
        return open_engine(store_url(database_url, folder), timeout_s=600.0, read_only=True)
    except PlatformError:
        if source is Source.STORE:
            raise
        return None


def asked(question: Question) -> dict[str, Any]:
    """A question as facts for the record: only what was given."""
    given = {name: value for name, value in asdict(question).items() if value not in (None, "")}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}


def run(work: Coroutine[Any, Any, T]) -> T | None:
    """Run a command's work to its end, or until Ctrl-C or a closed pipe ends it; what goes wrong is told in a line."""
    try:
        with suppress(KeyboardInterrupt, BrokenPipeError):
            return asyncio.run(work)
    except (PlatformError, SettingsError, ConnectError) as error:
        fail(str(error), "start the platform (opsbus up), or set NATS_URL and OPSBUS_NATS_SEED_FILE (identity auditor)")
    except NotRecordedError as error:
        fail(f"nothing was read: {error}", "reading the record is recorded first; is the bus up and provisioned?")
    except js_errors.NotFoundError:
        fail("there is no stream AUDIT on this bus", "create it: opsbus provision")
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        fail(f"the store cannot be read: {type(cause).__name__}: {str(cause).splitlines()[0][:200]}", _STORE_HINT)
    except (TimeoutError, nats_errors.Error) as error:
        fail(f"the bus does not answer ({type(error).__name__})", "is the platform up, and is this its auditor's seed?")
    except (ValueError, OSError) as error:
        fail(str(error)[:300])
    return None


def question_of(
    *, stage: str | None = None, outcome: str | None = None, since: str | None, until: str | None, **exact: Any
) -> Question:
    """The options of a command as a question; what is wrong in them ends the command."""
    if outcome is not None:
        choice(Outcome, outcome, "--outcome")
    begin, end = moment(since, "--since"), moment(until, "--until")
    if begin and end and begin > end:
        fail("--since is after --until", "swap them")
    return Question(stage=stage, outcome=outcome, since=begin, until=end, **exact)


def choice(kind: type[E], given: str, option: str) -> E:
    """A word of a closed list; any other ends the command."""
    valid = [item.value for item in kind]
    if given not in valid:
        close_to = near(given, valid)
        hint = f"did you mean {close_to[0]}?" if close_to else f"there are: {', '.join(valid)}"
        fail(f"{option} {given!r} is not known", hint)
    return kind(given)


def moment(given: str | None, option: str) -> datetime | None:
    """A moment as typed; a wrong one ends the command."""
    if given is None:
        return None
    try:
        return parse_when(given, option)
    except ToolError as error:
        fail(error.message, error.hint)
