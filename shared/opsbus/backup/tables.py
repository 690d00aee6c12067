"""A store's tables into a file and back, the same for SQLite and PostgreSQL: one JSON object a line, gzip. A dump of
the one can be restored into the other."""

import base64
import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import MetaData, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.backup.stores import Store

ROWS_AT_ONCE = 500
"""A statement's rows; PostgreSQL's protocol takes 32,767 parameters, so that wide tables get fewer."""

_PARAMETERS_MAX = 30_000


class DumpError(Exception):
    """A dump cannot be written or restored; in one line why."""


async def dump(engine: AsyncEngine, metadata: MetaData, file: Path, on_row: Callable[[], None]) -> dict[str, int]:
    """Write every row of every table, as of one moment.

    Returns:
        Rows by table.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, OSError: the store cannot be read or the file not written.
    """
    counts: dict[str, int] = {}
    with gzip.open(file, "wb", compresslevel=6) as out:
        async with engine.connect() as connection:
            await _one_moment(connection)
            for table in metadata.sorted_tables:
                counts[table.name] = 0
                key = list(table.primary_key.columns)
                rows = await connection.stream(select(table).order_by(*key), execution_options={"yield_per": 1_000})
                async for row in rows.mappings():
                    line = {"table": table.name, "row": {str(name): _plain(value) for name, value in row.items()}}
                    out.write(orjson.dumps(line) + b"\n")
                    counts[table.name] += 1
                    on_row()
    return counts


async def restore_rows(engine: AsyncEngine, store: Store, file: Path, on_row: Callable[[], None]) -> dict[str, int]:
    """Write the rows of a dump into a store's empty tables, all or none.

    Raises:
        DumpError: a table has rows, or the dump names tables or columns that there are not.
        sqlalchemy.exc.SQLAlchemyError, OSError: the store cannot be written or the file not read.
    """
    metadata = store.metadata
    counts = dict.fromkeys((table.name for table in metadata.sorted_tables), 0)
    async with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if (await connection.execute(select(func.count()).select_from(table))).scalar_one():
                raise DumpError(f"the table {table.name} has rows; restore into an empty store")
        for table, rows in _batches(metadata, file):
            if store.before_rows is not None:
                await store.before_rows(connection, table, rows)
            await connection.execute(insert(table), rows)
            counts[table.name] += len(rows)
            for _ in rows:
                on_row()
        await _next_numbers(connection, metadata)
    return counts


async def _one_moment(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    else:
        await connection.execute(text("BEGIN"))


async def _next_numbers(connection: AsyncConnection, metadata: MetaData) -> None:
    """Sequences of PostgreSQL do not notice rows that came with a number."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            named = {"table": table.name, "column": column.name}
            name = (
                await connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named)
            ).scalar_one()
            if name:
                highest = select(func.max(column)).scalar_subquery()
                await connection.execute(select(func.setval(name, func.coalesce(highest, 1))))


def _batches(metadata: MetaData, file: Path) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    rows: list[dict[str, Any]] = []
    current: Table | None = None
    with gzip.open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = orjson.loads(line)
                table = metadata.tables[found["table"]]
                row = {name: _value(value) for name, value in found["row"].items()}
            except (ValueError, KeyError, TypeError) as error:
                raise DumpError(f"{file.name} line {number} is no row of this store: {error!r}") from None
            unknown = row.keys() - table.columns.keys()
            if unknown:
                raise DumpError(f"{file.name} line {number}: {table.name} has no column {sorted(unknown)[0]!r}")
            if rows and (current is not table or len(rows) >= min(ROWS_AT_ONCE, _PARAMETERS_MAX // len(row))):
                yield current, rows  # type: ignore[misc]  # rows are there, so there is a table
                rows = []
            current = table
            rows.append(row)
    if rows and current is not None:
        yield current, rows


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return {"$time": value.astimezone(UTC).isoformat()}
    if isinstance(value, dict | list):
        return {"$json": value}
    return value


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    match next(iter(value.items())):
        case ("$bytes", text_):
            return base64.b64decode(text_)
        case ("$time", text_):
            return datetime.fromisoformat(text_)
        case ("$json", inner):
            return inner
    raise ValueError("an unknown kind of value")
