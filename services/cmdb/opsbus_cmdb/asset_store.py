"""Statements about assets: find, count, get, set a status. The connection and its transaction belong to the caller
(store.py)."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Text, and_, cast, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_cmdb import tables
from opsbus_cmdb.among import among
from opsbus_cmdb.history import assets_at, keep_assets, rank
from opsbus_cmdb.inventory import AssetSlice, Group
from opsbus_cmdb.mark_filter import FILTER as DRIFT
from opsbus_cmdb.mark_filter import marked
from opsbus_cmdb.model import Asset, Lifecycle, Status
from opsbus_cmdb.query import LABEL, AssetQuery, StatusChange, decode_cursor, encode_cursor

_asset = tables.asset
_TYPES: dict[str, type[Status] | type[Lifecycle]] = {"status": Status, "lifecycle": Lifecycle}
_FEW = 2_000
"""Matches of a scan that are remembered, so that the page needs no second one."""
_GROUPS_MAX = 200
_NEAR_AMONG = 2_000
"""Names compared at most when a name is not found."""


def read_asset(row: Row[Any]) -> Asset:
    """A row as a record."""
    return Asset.model_validate(row._mapping)


def _matches(query: AssetQuery, table: FromClause, dialect: str) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    for name, values in query.filters.items():
        if name.startswith(LABEL):
            conditions.append(_labelled(table, name.removeprefix(LABEL), values, dialect))
        elif name == DRIFT:
            conditions.append(table.c.id.in_(marked(values)))
        else:
            conditions.append(table.c[name].in_(values))
    conditions += [table.c.search.contains(word.lower(), autoescape=True) for word in query.text.split()]
    return and_(True, *conditions)


def _labelled(table: FromClause, key: str, values: list[str], dialect: str) -> ColumnElement[bool]:
    if dialect == "postgresql":  # in the form that its index of labels knows
        return or_(*(cast(table.c.labels, JSONB).contains({key: value}) for value in values))
    # The value as it stands in the text first: that is half the price of reading the JSON of every asset.
    text = cast(table.c.labels, Text)
    named = or_(*(func.instr(text, json.dumps(value)) > 0 for value in values))
    return and_(named, table.c.labels[key].as_string().in_(values))


async def find(
    connection: AsyncConnection, query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str] = ()
) -> AssetSlice:
    """A page by key: assets that appear or vanish between two pages shift nothing."""
    table = assets_at(query.as_of)
    where = _matches(query, table, connection.dialect.name)
    ids, total, groups = await _reached(connection, query, table, where, count_by)
    page = where if ids is None else among(table.c.id, ids, connection.dialect.name)
    if cursor is not None:
        place, ref = decode_cursor(cursor, query.digest(), (int, str))
        page = and_(page, tuple_(table.c.rank, table.c.ref) > tuple_(place, ref))
    statement = select(table).where(page).order_by(table.c.rank, table.c.ref).limit(limit + 1)
    rows = (await connection.execute(statement)).all()
    kept = rows[:limit]
    cursors = [encode_cursor(query.digest(), [row.rank, row.ref]) for row in kept]
    return AssetSlice(
        items=[read_asset(row) for row in kept],
        total=total,
        next_cursor=cursors[-1] if len(rows) > limit else None,
        cursors=cursors,
        as_of=query.as_of,
        groups=groups,
    )


async def _reached(
    connection: AsyncConnection,
    query: AssetQuery,
    table: FromClause,
    where: ColumnElement[bool],
    count_by: Sequence[str],
) -> tuple[list[str] | None, int, dict[str, list[Group]]]:
    """The ids that match where few do and finding them reads everything; how many match; how they spread."""
    columns = [table.c[name] for name in count_by]
    if query.text or any(name.startswith(LABEL) for name in query.filters):
        statement = select(table.c.id, *columns).where(where).limit(_FEW + 1)
        rows = (await connection.execute(statement)).all()
        if len(rows) <= _FEW:
            return [row[0] for row in rows], len(rows), _spread(count_by, Counter(tuple(row[1:]) for row in rows))
    counted = select(*columns, func.count()).select_from(table).where(where).group_by(*columns)
    found = Counter({tuple(row[:-1]): row[-1] for row in await connection.execute(counted)})
    return None, found.total(), _spread(count_by, found)


def _spread(count_by: Sequence[str], found: Counter[tuple[str, ...]]) -> dict[str, list[Group]]:
    """Counts of combinations as counts of each field, the most first."""
    spread: dict[str, list[Group]] = {}
    for place, name in enumerate(count_by):
        values: Counter[str] = Counter()
        for combination, amount in found.items():
            values[combination[place]] += amount
        ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_GROUPS_MAX]
        spread[name] = [Group(value=value, count=amount) for value, amount in ordered]
    return spread


async def count(connection: AsyncConnection, query: AssetQuery, group_by: str) -> list[Group]:
    """Counts per value."""
    table = assets_at(query.as_of)
    where = _matches(query, table, connection.dialect.name)
    return (await _reached(connection, query, table, where, [group_by]))[2][group_by]


async def get(connection: AsyncConnection, key: str, as_of: datetime | None = None) -> Asset:
    """An asset by id, ref or unambiguous name.

    Raises:
        ToolError: ``not_found`` with near refs, ``conflict`` when a name is shared.
    """
    table = assets_at(as_of)
    for column in (table.c.id, table.c.ref):
        row = (await connection.execute(select(table).where(column == key))).first()
        if row is not None:
            return read_asset(row)
    named = (await connection.execute(select(table).where(table.c.name == key).order_by(table.c.ref).limit(11))).all()
    if len(named) == 1:
        return read_asset(named[0])
    if named:
        raise ToolError(
            ErrorCode.CONFLICT,
            f"{'more than 10' if len(named) > 10 else len(named)} assets are called {key!r}",
            hint="name one by its ref",
            did_you_mean=[row.ref for row in named[:10]],
        )
    raise await _unknown(connection, key, as_of)


async def _unknown(connection: AsyncConnection, key: str, as_of: datetime | None) -> ToolError:
    refs = (
        await connection.execute(select(_asset.c.ref, _asset.c.name).order_by(_asset.c.ref).limit(_NEAR_AMONG))
    ).all()
    known = {row.name: row.ref for row in refs} | {row.ref: row.ref for row in refs}
    then = f" as of {as_of:%Y-%m-%d %H:%M:%S} UTC" if as_of else ""
    return ToolError(
        ErrorCode.NOT_FOUND,
        f"no asset {key!r}{then}",
        hint="cmdb_query_assets finds assets; id, ref (kind:namespace/name) and unique names are understood",
        did_you_mean=list(dict.fromkeys(known[name] for name in near(key, list(known)))),
    )


async def get_many(connection: AsyncConnection, ids: list[str], as_of: datetime | None = None) -> dict[str, Asset]:
    """Assets by id; ids that do not exist are left out."""
    table = assets_at(as_of)
    rows = (await connection.execute(select(table).where(among(table.c.id, ids, connection.dialect.name)))).all()
    return {row.id: read_asset(row) for row in rows}


async def set_status(connection: AsyncConnection, asset_id: str, change: StatusChange) -> Asset:
    """Record a status, keep the row as it was, and who changed what, if nobody was faster."""
    before = await get(connection, asset_id)
    row = (await connection.execute(select(_asset).where(_asset.c.id == before.id))).one()
    after = before.model_copy(update={change.field: _TYPES[change.field](change.value)})
    now = datetime.now(UTC)
    written = await connection.execute(
        update(_asset)
        .where(_asset.c.id == before.id, _asset.c.version == change.expected_version)
        .values(
            {
                change.field: change.value,
                "version": change.expected_version + 1,
                "updated_at": now,
                "valid_from": now,
                "rank": rank(after.status, after.criticality),
            }
        )
    )
    if written.rowcount != 1 or row.version != change.expected_version:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{before.ref} is at version {before.version}, not {change.expected_version}: it was changed meanwhile",
            hint="look at it again with cmdb_query_assets, and decide on what it is now",
            details={"current_version": before.version, "expected_version": change.expected_version},
        )
    await keep_assets(connection, [dict(row._mapping)], now)
    await connection.execute(
        insert(tables.asset_history).values(
            asset_id=before.id,
            version=change.expected_version + 1,
            at=now,
            actor=change.actor,
            field=change.field,
            before=getattr(before, change.field).value,
            after=change.value,
            reason=change.reason,
            change_id=change.change_id,
            call_id=change.call_id,
        )
    )
    return await get(connection, before.id)
