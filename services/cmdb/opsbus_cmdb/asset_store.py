"""Statements about assets: find, count, get, set a status. The connection and its transaction belong to the caller
(store.py)."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Text, and_, cast, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_cmdb import tables
from opsbus_cmdb.history import assets_at, keep_assets, rank
from opsbus_cmdb.inventory import AssetSlice, Group
from opsbus_cmdb.model import Asset, Lifecycle, Status
from opsbus_cmdb.query import LABEL, AssetQuery, StatusChange, decode_cursor, encode_cursor

_asset = tables.asset
_TYPES: dict[str, type[Status] | type[Lifecycle]] = {"status": Status, "lifecycle": Lifecycle}
_NEAR_AMONG = 2_000
"""Names compared at most when a name is not found."""


def read_asset(row: Row[Any]) -> Asset:
    """A row as a record."""
    return Asset.model_validate(row._mapping)


def _matches(query: AssetQuery, table: FromClause) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    for name, values in query.filters.items():
        if name.startswith(LABEL):
            conditions.append(table.c.labels[name.removeprefix(LABEL)].as_string().in_(values))
        else:
            conditions.append(table.c[name].in_(values))
    searched = (table.c.ref, table.c.description, table.c.owner_team, cast(table.c.external_ids, Text))
    conditions += [
        or_(*(column.icontains(word, autoescape=True) for column in searched)) for word in query.text.split()
    ]
    return and_(True, *conditions)


async def find(connection: AsyncConnection, query: AssetQuery, limit: int, cursor: str | None) -> AssetSlice:
    """A page by key: assets that appear or vanish between two pages shift nothing."""
    table = assets_at(query.as_of)
    where = _matches(query, table)
    total = (await connection.execute(select(func.count()).select_from(table).where(where))).scalar_one()
    page = where
    if cursor is not None:
        place, ref = decode_cursor(cursor, query.digest(), (int, str))
        page = and_(where, tuple_(table.c.rank, table.c.ref) > tuple_(place, ref))
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
    )


async def count(connection: AsyncConnection, query: AssetQuery, group_by: str) -> list[Group]:
    """Counts per value."""
    table = assets_at(query.as_of)
    column = table.c[group_by]
    statement = select(column, func.count().label("n")).where(_matches(query, table)).group_by(column)
    rows = (await connection.execute(statement.order_by(func.count().desc(), column).limit(200))).all()
    return [Group(value=row[0], count=row[1]) for row in rows]


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
    rows = (await connection.execute(select(table).where(table.c.id.in_(ids)))).all()
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
