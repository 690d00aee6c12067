"""Statements about changes and the calendar. The connection and its transaction belong to the caller (store.py)."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus import ErrorCode, ToolError
from opsbus.database import UtcDateTime, serialize
from opsbus.toolerror import near
from opsbus_cmdb import tables
from opsbus_cmdb.asset_store import read_asset
from opsbus_cmdb.calendar import covers
from opsbus_cmdb.inventory import ChangeSlice
from opsbus_cmdb.model import Change, ChangeState, Window
from opsbus_cmdb.query import Cancellation, ChangeDraft, ChangeQuery, decode_cursor, encode_cursor

_change = tables.change
_link = tables.change_asset
_asset = tables.asset
_WINDOWS_MAX = 50
_CALLS_MAX = 500
_NEAR_AMONG = 2_000
_PREFIX, _DIGITS = "CHG", 7
_DESCRIPTION_MAX = 8_000

_order = func.coalesce(_change.c.planned_start, _change.c.created_at, type_=UtcDateTime())
_start = func.coalesce(_change.c.actual_start, _change.c.planned_start, _change.c.created_at, type_=UtcDateTime())
_end = func.coalesce(_change.c.actual_end, _change.c.planned_end, type_=UtcDateTime())


def _matches(query: ChangeQuery) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if query.assets is not None:
        touched = (
            select(_link.c.number).join(_asset, _asset.c.id == _link.c.asset_id).where(_asset.c.ref.in_(query.assets))
        )
        conditions.append(_change.c.number.in_(touched))
    if query.since is not None:
        conditions.append(or_(_end.is_(None), _end >= query.since))
    if query.until is not None:
        conditions.append(_start <= query.until)
    if query.states:
        conditions.append(_change.c.state.in_([state.value for state in query.states]))
    if query.types:
        conditions.append(_change.c.type.in_([kind.value for kind in query.types]))
    return and_(True, *conditions)


async def find(connection: AsyncConnection, query: ChangeQuery, limit: int, cursor: str | None) -> ChangeSlice:
    """A page of changes, the latest planned first, and the calendar windows of the same time."""
    where = _matches(query)
    total = (await connection.execute(select(func.count()).select_from(_change).where(where))).scalar_one()
    page = where
    if cursor is not None:
        micros, number = decode_cursor(cursor, query.digest(), (int, str))
        page = and_(where, tuple_(_order, _change.c.number) < tuple_(_instant(micros), number))
    statement = select(_change, _order.label("order_at")).where(page)
    statement = statement.order_by(_order.desc(), _change.c.number.desc()).limit(limit + 1)
    rows = (await connection.execute(statement)).all()
    kept = rows[:limit]
    cursors = [encode_cursor(query.digest(), [_micros(row.order_at), row.number]) for row in kept]
    refs = await _asset_refs(connection, [row.number for row in kept])
    return ChangeSlice(
        items=[_read(row, refs) for row in kept],
        total=total,
        next_cursor=cursors[-1] if len(rows) > limit else None,
        cursors=cursors,
        windows=await _windows(connection, query),
    )


def _micros(moment: datetime) -> int:
    # Whole arithmetic: a float would round the microseconds, and a row could be listed twice or never.
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _instant(micros: int) -> datetime:
    try:
        seconds, rest = divmod(micros, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    except (OverflowError, OSError, ValueError) as wrong:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the cursor is not one this tool gave") from wrong


def _read(row: Any, refs: dict[str, list[str]]) -> Change:
    return Change.model_validate({**row._mapping, "asset_refs": refs.get(row.number, [])})


async def _asset_refs(connection: AsyncConnection, numbers: list[str]) -> dict[str, list[str]]:
    statement = select(_link.c.number, _asset.c.ref).join(_asset, _asset.c.id == _link.c.asset_id)
    rows = (await connection.execute(statement.where(_link.c.number.in_(numbers)).order_by(_asset.c.ref))).all()
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.number, []).append(row.ref)
    return found


async def _windows(connection: AsyncConnection, query: ChangeQuery) -> list[Window]:
    table = tables.window
    statement = select(table).order_by(table.c.start).limit(_WINDOWS_MAX)
    if query.since is not None:
        statement = statement.where(table.c.end >= query.since)
    if query.until is not None:
        statement = statement.where(table.c.start <= query.until)
    windows = [Window.model_validate(row._mapping) for row in (await connection.execute(statement)).all()]
    if query.assets is None or not windows:
        return windows
    rows = (await connection.execute(select(_asset).where(_asset.c.ref.in_(query.assets)))).all()
    assets = [read_asset(row) for row in rows]
    return [window for window in windows if any(covers(window, item) for item in assets)]


async def get(connection: AsyncConnection, number: str) -> Change:
    """A change by number.

    Raises:
        ToolError: ``not_found`` with near numbers.
    """
    row = (await connection.execute(select(_change).where(_change.c.number == number))).first()
    if row is not None:
        return _read(row, await _asset_refs(connection, [number]))
    latest = select(_change.c.number).order_by(_order.desc()).limit(_NEAR_AMONG)
    known = list((await connection.execute(latest)).scalars())
    raise ToolError(
        ErrorCode.NOT_FOUND,
        f"no change {number!r}",
        hint="cmdb_get_change_records lists changes",
        did_you_mean=near(number, known),
    )


async def note_call(connection: AsyncConnection, number: str, call_id: str) -> None:
    """Write down that a call was made under a change, once."""
    locked = select(_change.c.tool_call_ids).where(_change.c.number == number).with_for_update()
    calls = (await connection.execute(locked)).scalar_one()
    if call_id in calls or len(calls) >= _CALLS_MAX:
        return
    values = {"tool_call_ids": [*calls, call_id], "updated_at": datetime.now(UTC)}
    await connection.execute(update(_change).where(_change.c.number == number).values(values))


async def create(connection: AsyncConnection, draft: ChangeDraft) -> Change:
    """Record a change under the next number, and which assets it touches.

    Raises:
        ToolError: ``not_found`` when an asset is gone.
    """
    rows = (await connection.execute(select(_asset.c.id, _asset.c.ref).where(_asset.c.ref.in_(draft.asset_refs)))).all()
    missing = sorted(set(draft.asset_refs) - {row.ref for row in rows})
    if missing:
        raise ToolError(ErrorCode.NOT_FOUND, f"no asset {missing[0]!r}", hint="cmdb_query_assets finds assets")
    number = await _next_number(connection)
    now = datetime.now(UTC)
    values = draft.model_dump(exclude={"asset_refs", "call_id"})
    values |= {"number": number, "created_at": now, "updated_at": now, "approvals": []}
    values["tool_call_ids"] = [draft.call_id] if draft.call_id else []
    await connection.execute(insert(_change).values(values))
    await connection.execute(insert(_link), [{"number": number, "asset_id": row.id} for row in rows])
    return await get(connection, number)


async def _next_number(connection: AsyncConnection) -> str:
    """One more than the highest of our form; whoever takes one waits for the other's transaction."""
    await serialize(connection, "cmdb", "change number")
    if connection.dialect.name == "sqlite":
        # A write that touches nothing: from here on this transaction is the only writer.
        await connection.execute(update(_change).where(_change.c.number == "").values(title=_change.c.title))
    latest = select(_change.c.number).where(_change.c.number.like(f"{_PREFIX}{'_' * _DIGITS}"))
    found = (await connection.execute(latest.order_by(_change.c.number.desc()).limit(_NEAR_AMONG))).scalars()
    taken = (number.removeprefix(_PREFIX) for number in found)
    highest = max((int(digits) for digits in taken if digits.isascii() and digits.isdigit()), default=0)
    return f"{_PREFIX}{highest + 1:0{_DIGITS}}"


async def cancel(connection: AsyncConnection, number: str, cancellation: Cancellation) -> Change:
    """Cancel a change, if nobody touched it since; the reason joins its description.

    Raises:
        ToolError: ``not_found``, or ``precondition_failed`` when it was touched.
    """
    before = await get(connection, number)
    now = datetime.now(UTC)
    note = f"Cancelled by {cancellation.actor}: {cancellation.reason}"
    written = await connection.execute(
        update(_change)
        .where(_change.c.number == number, _change.c.updated_at == cancellation.seen)
        .values(
            state=ChangeState.CANCELLED.value,
            description=f"{before.description}\n\n{note}".strip()[-_DESCRIPTION_MAX:],
            tool_call_ids=[*before.tool_call_ids, *([cancellation.call_id] if cancellation.call_id else [])],
            updated_at=max(now, before.updated_at),
        )
    )
    if written.rowcount != 1:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{number} was changed meanwhile: it is {before.state.value} now",
            hint="look at it again with cmdb_get_change_records",
        )
    return await get(connection, number)
