"""What the store held at a time: each superseded row is kept with the time it held. Reading `as_of`, and the rows to
keep; deciding what changes is the writers' matter.

A row holds from `valid_from` until `valid_to` (not itself in it); a row of the table proper holds still. A relationship
without `valid_from` stood there when history began, and since when is not recorded.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import FromClause, Table, and_, delete, insert, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import tables
from opsbus_cmdb.model import Asset, Criticality, Status

_STATUSES = {status.value: place for place, status in enumerate(Status)}
_CRITICALITIES = {level.value: place for place, level in enumerate(Criticality)}
_IDS_AT_ONCE = 500


def rank(status: str, criticality: str) -> int:
    """Where an asset stands in a list: the unhealthy first, among them the critical."""
    return _STATUSES.get(status, len(_STATUSES)) * 10 + _CRITICALITIES.get(criticality, 9)


def asset_row(asset: Asset, valid_from: datetime) -> dict[str, Any]:
    """An asset as a row that holds from a time on."""
    row = asset.model_dump()
    return row | {
        "rank": rank(row["status"], row["criticality"]), "search": search_text(row), "valid_from": valid_from
    }  # fmt: skip


def search_text(row: Mapping[str, Any]) -> str:
    """What is searched for words, in small letters."""
    words = (row["ref"], row["description"], row["owner_team"], json.dumps(row["external_ids"], ensure_ascii=False))
    return "\n".join(words).lower()


def assets_at(as_of: datetime | None) -> FromClause:
    """The assets as they were; None: as they are."""
    return _at(tables.asset, tables.asset_past, as_of)


def relationships_at(as_of: datetime | None, names: Sequence[str] = ()) -> FromClause:
    """The relationships as they were; None: as they are. With ``names`` only these columns are read of the past."""
    return _at(tables.relationship, tables.relationship_past, as_of, names)


def _at(current: Table, past: Table, as_of: datetime | None, names: Sequence[str] = ()) -> FromClause:
    if as_of is None:
        return current
    began = or_(current.c.valid_from.is_(None), current.c.valid_from <= as_of)
    ended = and_(or_(past.c.valid_from.is_(None), past.c.valid_from <= as_of), past.c.valid_to > as_of)
    read = names or [column.name for column in current.columns]
    return union_all(
        select(*(current.c[name] for name in read)).where(began), select(*(past.c[name] for name in read)).where(ended)
    ).subquery(f"{current.name}_then")


async def keep_assets(connection: AsyncConnection, rows: Iterable[Mapping[str, Any]], until: datetime) -> None:
    """Keep asset rows that something newer has replaced."""
    kept = [{**row, "valid_to": until} for row in rows]
    if kept:
        await connection.execute(insert(tables.asset_past), kept)


async def end_relationships(connection: AsyncConnection, ids: list[str], until: datetime, *, gone: bool) -> None:
    """Keep relationships that are about to be replaced, or with ``gone`` take them out."""
    table, past = tables.relationship, tables.relationship_past
    for start in range(0, len(ids), _IDS_AT_ONCE):
        chosen = table.c.id.in_(ids[start : start + _IDS_AT_ONCE])
        rows = (await connection.execute(select(table).where(chosen))).all()
        if rows:
            await connection.execute(insert(past), [{**row._mapping, "valid_to": until} for row in rows])
        if gone:
            await connection.execute(delete(table).where(chosen))
