"""The store into files that can be imported again: JSON with everything, CSV with one kind of record."""

import csv
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from enum import Enum
from typing import Any, TextIO

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import tables
from opsbus_cmdb.transfer.records import MAPS, Kind, fields

Told = Callable[[str, int], None]
_AT_ONCE = 1_000


async def write_json(connection: AsyncConnection, out: TextIO, kinds: list[Kind], told: Told) -> dict[str, int]:
    """A document with a record a line, as of one moment.

    Returns:
        Records by kind.
    """
    await _one_moment(connection)
    counts: dict[str, int] = {}
    out.write("{")
    for place, kind in enumerate(kinds):
        out.write(f'{"," if place else ""}\n"{kind}": [')
        counts[kind] = 0
        async for record in _records(connection, kind):
            out.write(("," if counts[kind] else "") + "\n" + json.dumps(record, ensure_ascii=False))
            counts[kind] += 1
            told(kind, 1)
        out.write("\n]")
    out.write("\n}\n")
    return counts


async def write_csv(connection: AsyncConnection, out: TextIO, kind: Kind, told: Told) -> int:
    """A table of one kind; each key of a map is a column. How many rows."""
    await _one_moment(connection)
    plain = [name for name in fields(kind) if name not in MAPS[kind].values()]
    mapped: dict[str, dict[str, None]] = {prefix: {} for prefix in MAPS[kind]}
    if mapped:
        async for record in _records(connection, kind):  # which columns there are is known at the end only
            for prefix, name in MAPS[kind].items():
                mapped[prefix] |= dict.fromkeys(record.get(name, {}))
    columns = [(prefix, key) for prefix, keys in mapped.items() for key in sorted(keys)]
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*plain, *(prefix + key for prefix, key in columns)])
    count = 0
    async for record in _records(connection, kind):
        cells = [_cell(record.get(name)) for name in plain]
        for prefix, key in columns:
            value = record.get(MAPS[kind][prefix], {}).get(key)
            cells.append(_attribute(value) if prefix == "attribute." else _cell(value))
        rows.writerow(cells)
        count += 1
        told(kind, 1)
    return count


async def _one_moment(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    else:
        await connection.execute(text("BEGIN"))


def _statement(kind: Kind) -> Select[Any]:
    if kind == "assets":
        return select(tables.asset).order_by(tables.asset.c.ref)
    if kind == "windows":
        return select(tables.window).order_by(tables.window.c.id)
    edge = tables.relationship
    source, target = tables.asset.alias("source_asset"), tables.asset.alias("target_asset")
    return (
        select(edge, source.c.ref.label("from"), target.c.ref.label("to"))
        .join(source, source.c.id == edge.c.from_id)
        .join(target, target.c.id == edge.c.to_id)
        .order_by(edge.c.from_id, edge.c.type, edge.c.to_id)
    )


async def _records(connection: AsyncConnection, kind: Kind) -> AsyncIterator[dict[str, Any]]:
    names = fields(kind)
    options = {"yield_per": _AT_ONCE}
    async for row in (await connection.stream(_statement(kind), execution_options=options)).mappings():
        yield {name: _plain(row[name]) for name in names if row[name] is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _attribute(value: Any) -> str:
    """Text as it is, if reading gives it back; anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str) and value and value == value.strip():
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)
