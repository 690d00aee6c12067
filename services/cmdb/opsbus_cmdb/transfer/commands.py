"""What ``opsbus cmdb import`` and ``export`` do at a terminal: find the store, show progress, word the outcome."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar, get_args

import typer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import ToolError
from opsbus.backup.stores import store_url
from opsbus.commands.output import fail
from opsbus.database import open_engine
from opsbus_cmdb.migrations.upgrade import migrate
from opsbus_cmdb.transfer.apply import Import, Outcome, Told, apply
from opsbus_cmdb.transfer.read import Given, TransferError, read_files
from opsbus_cmdb.transfer.records import Kind
from opsbus_cmdb.transfer.write import write_csv, write_json

T = TypeVar("T")
KINDS: tuple[Kind, ...] = get_args(Kind)
_STATEMENT_S = 300.0


@dataclass(frozen=True)
class Order:
    """What was asked for at the terminal."""

    reason: str
    by: str
    prune: bool
    dry_run: bool


def import_files(files: list[Path], order: Order, database_url: str | None, data: Path) -> None:
    """Import, or say what is wrong and where."""
    wanted = Import(
        actor=(order.by or this_user())[:256],
        reason=order.reason or f"imported from {', '.join(path.name for path in files)}"[:1_000],
        prune=order.prune,
    )

    async def work(engine: AsyncEngine) -> Outcome:
        with progress() as told:
            return await import_into(engine, given, wanted, told, dry_run=order.dry_run)

    try:
        given = read_files(files)
        outcome = run_on_store(work, database_url, data)
    except TransferError as error:
        refuse(error)
    except OSError as error:
        fail(f"{error.filename or 'a file'} cannot be read: {error.strerror or error}")
    tell(outcome)
    typer.echo("dry run: nothing was written" if order.dry_run else "imported")


def tell(outcome: Outcome) -> None:
    """A line for each kind: how many were new, changed, the same, taken out."""
    for kind in KINDS:
        counted = ((name, getattr(outcome, name).get(kind, 0)) for name in ("new", "changed", "same", "gone"))
        shown = ", ".join(f"{amount:,} {name}" for name, amount in counted if amount)
        if shown:
            typer.echo(f"{kind:<14} {shown}")


async def import_into(
    engine: AsyncEngine, given: Given, order: Import, told: Told, *, dry_run: bool = False
) -> Outcome:
    """Import into a database of the newest schema, all or nothing.

    Raises:
        TransferError: a line names what there is not.
        sqlalchemy.exc.SQLAlchemyError, OSError: the database did not take it; nothing was written.
    """
    async with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # From the first look on nobody else writes. Python's driver would begin at the first write.
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        outcome = await apply(connection, given, order, told)
        if dry_run:
            await connection.rollback()
            return outcome
        await connection.commit()
    async with engine.connect() as connection:
        # The planner judges by what it knew before so many rows came.
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await free.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
    return outcome


def export_file(file: Path, kind: str, database_url: str | None, data: Path, *, force: bool) -> None:
    """Export into a file that appears when it is whole."""
    form = file.suffix.lower()
    if kind and kind not in KINDS:
        fail(f"there is no kind {kind!r}", f"one of {', '.join(KINDS)}")
    if form not in {".csv", ".json"}:
        fail(f"{file} ends neither in .csv nor in .json")
    if form == ".csv" and not kind:
        fail("a CSV file holds one kind of record", f"add --kind {'|'.join(KINDS)}, or export to .json")
    if file.exists() and not force:
        fail(f"{file} is there already", "name a new file, or add --force")

    kinds = [known for known in KINDS if kind in ("", known)]

    async def work(engine: AsyncEngine) -> dict[str, int]:
        with partial.open("w", encoding="utf-8", newline="") as out, progress() as told:
            async with engine.connect() as connection:
                if form == ".csv":
                    return {kinds[0]: await write_csv(connection, out, kinds[0], told)}
                return await write_json(connection, out, kinds, told)

    partial = file.with_name(file.name + ".partial")
    try:
        counts = run_on_store(work, database_url, data)
        partial.replace(file)
    except OSError as error:
        fail(f"{error.filename or file} cannot be written: {error.strerror or error}")
    finally:
        partial.unlink(missing_ok=True)
    typer.echo(f"{', '.join(f'{amount:,} {name}' for name, amount in counts.items())} into {file}")


def run_on_store(work: Callable[[AsyncEngine], Awaitable[T]], database_url: str | None, data: Path) -> T:
    """Do something with the store that the options name, its schema the newest; a failure ends the command."""
    url = database_url or store_url("cmdb", data)
    if url is None:
        fail(
            "it is not known where the CMDB's store is", "give --database-url, or --data with the folder of 'opsbus up'"
        )

    async def run() -> T:
        async with _opened(url) as engine:
            return await work(engine)

    try:
        return asyncio.run(run())
    except ToolError as error:
        fail(error.message, error.hint)
    except ValueError as error:
        fail(str(error))
    except SQLAlchemyError as error:
        fail(f"the database did not take it ({type(error).__name__}); nothing was written", "is it up, and not locked?")


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, _STATEMENT_S, foreign_keys=True)
    try:
        await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


def refuse(error: TransferError) -> NoReturn:
    """End the command with every mistake."""
    for mistake in error.mistakes:
        typer.echo(str(mistake), err=True)
    count = f"more than {len(error.mistakes)}" if error.more else str(len(error.mistakes))
    fail(f"{count} mistakes: nothing was imported", "correct the lines named above and import again")


def this_user() -> str:
    """Who imports, unless it is said."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


@contextmanager
def progress() -> Iterator[Told]:
    """A line for each kind, on a terminal; silent in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TextColumn("{task.completed:>12,.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        lines = {}

        def told(part: str, amount: int) -> None:
            if part not in lines:
                lines[part] = bar.add_task(part, total=None)
            bar.advance(lines[part], amount)

        yield told
