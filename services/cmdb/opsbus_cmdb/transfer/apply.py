"""Checked lines into the store: what is new, what changed, what is gone; in one transaction, all or nothing. What is
replaced is kept in the history."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus_cmdb import marks, tables
from opsbus_cmdb.history import asset_row, end_relationships, keep_assets, rank, search_text
from opsbus_cmdb.model import Asset
from opsbus_cmdb.transfer.read import Given, Mistakes, Read
from opsbus_cmdb.transfer.records import AssetLine, RelationshipLine, WindowLine

T = TypeVar("T")
Told = Callable[[str, int], None]
"""Told what is worked on, and how many more of it are done."""
_AT_ONCE = 500
_ASSET_FIELDS = (
    "asset_class", "description", "environment", "lifecycle", "status", "criticality", "owner_team", "attributes",
    "labels", "external_ids", "source", "confidence",
)  # fmt: skip
_EDGE_FIELDS = ("impact", "redundancy", "source")


@dataclass
class Outcome:
    """How many were new, changed, the same, and taken out, by kind."""

    new: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)

    def count(self, what: dict[str, int], kind: str, amount: int = 1) -> None:
        """Add to one of them."""
        what[kind] = what.get(kind, 0) + amount


@dataclass(frozen=True)
class Import:
    """Who imports, and how."""

    actor: str
    reason: str
    prune: bool = False
    """Take out relationships that the files' sources recorded before and no longer list."""


async def apply(connection: AsyncConnection, given: Given, order: Import, told: Told) -> Outcome:
    """Write everything; the caller's transaction makes it all or nothing.

    Raises:
        TransferError: a line names an asset that there is not, or an id that another asset has.
        sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    await serialize(connection, "cmdb", "import")
    now = datetime.now(UTC)
    outcome, mistakes = Outcome(), Mistakes()
    ids = {row.ref: row.id for row in await connection.execute(select(tables.asset.c.ref, tables.asset.c.id))}
    _assign_ids(given.assets, ids, mistakes)
    known = {*ids.values()}
    ends = [_ends(read, ids, known, mistakes) for read in given.relationships]
    mistakes.check()
    await _assets(connection, given.assets, ids, order, now, outcome, told)
    await _relationships(connection, given.relationships, ends, order, now, outcome, told)
    await _windows(connection, given.windows, outcome, told)
    return outcome


def _assign_ids(reads: list[Read[AssetLine]], ids: dict[str, str], mistakes: Mistakes) -> None:
    refs = {asset_id: ref for ref, asset_id in ids.items()}
    for read in reads:
        asset = read.record
        recorded = ids.get(asset.ref)
        wanted = asset.id or recorded or f"ast-{hashlib.sha256(asset.ref.encode()).hexdigest()[:12]}"
        holder = refs.get(wanted)
        if recorded is not None and wanted != recorded:
            mistakes.add(read.file, read.line, f"id: {asset.ref} is recorded as {recorded}, not {wanted}")
        elif holder not in (None, asset.ref):
            mistakes.add(read.file, read.line, f"id: {wanted} is the id of {holder}")
        else:
            ids[asset.ref] = wanted
            refs[wanted] = asset.ref


def _ends(read: Read[RelationshipLine], ids: dict[str, str], known: set[str], mistakes: Mistakes) -> tuple[str, str]:
    edge = read.record
    found = []
    for name, key in (("from", edge.from_), ("to", edge.to)):
        asset_id = ids.get(key, key if key in known else "")
        if not asset_id:
            mistakes.add(read.file, read.line, f"{name}: there is no asset {key!r}, neither in the files nor recorded")
        found.append(asset_id)
    return found[0], found[1]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


async def _assets(
    connection: AsyncConnection, reads: list[Read[AssetLine]], ids: dict[str, str], order: Import, now: datetime,
    outcome: Outcome, told: Told,
) -> None:  # fmt: skip
    table = tables.asset
    for chunk in _chunks(reads):
        lines = [read.record for read in chunk]
        chosen = table.c.ref.in_([line.ref for line in lines])
        before = {row.ref: dict(row._mapping) for row in await connection.execute(select(table).where(chosen))}
        fresh, replaced, history = [], [], []
        for line in lines:
            row = before.get(line.ref)
            if row is None:
                fresh.append(_new_asset(line, ids[line.ref], now))
                outcome.count(outcome.new, "assets")
                continue
            changed = _differences(row, line, _ASSET_FIELDS)
            if changed:
                replaced.append(row)
                await connection.execute(update(table).where(table.c.id == row["id"]).values(_next(row, changed, now)))
                history.append(_written(row, changed, order, now))
                outcome.count(outcome.changed, "assets")
            else:
                outcome.count(outcome.same, "assets")
            if line.last_seen is not None and line.last_seen != row["last_seen"]:
                seen = update(table).where(table.c.id == row["id"]).values(last_seen=line.last_seen)
                await connection.execute(seen)  # no new version: that it was seen again changes nothing about it
        await keep_assets(connection, replaced, now)
        if fresh:
            await connection.execute(insert(table), fresh)
        if history:
            await connection.execute(insert(tables.asset_history), history)
        await marks.note_assets(connection, [row["id"] for row in (*fresh, *replaced)])
        told("assets", len(chunk))


def _new_asset(line: AssetLine, asset_id: str, now: datetime) -> dict[str, Any]:
    given = line.model_dump(exclude={"id", "kind", "namespace", "name", "version", "created_at", "updated_at"})
    began = min(line.created_at or now, now)
    made = Asset.model_validate(
        given | line.parts() | {"id": asset_id, "version": 1, "created_at": began, "updated_at": now}
    )
    return asset_row(made, began if line.created_at else now)


def _differences(row: dict[str, Any], line: AssetLine | RelationshipLine, names: Iterable[str]) -> dict[str, Any]:
    """What the line says and the row does not. A field that is not given is not said."""
    said = {name: getattr(line, name) for name in names if name in line.model_fields_set}
    return {name: value for name, value in said.items() if row[name] != value}


def _next(row: dict[str, Any], changed: dict[str, Any], now: datetime) -> dict[str, Any]:
    after = row | changed
    place = rank(str(after["status"]), str(after["criticality"]))
    derived = {"rank": place, "search": search_text(after)}
    return changed | derived | {"version": row["version"] + 1, "updated_at": now, "valid_from": now}


def _written(row: dict[str, Any], changed: dict[str, Any], order: Import, now: datetime) -> dict[str, Any]:
    one = next(iter(changed)) if len(changed) == 1 else None
    plain = one in ("status", "lifecycle", "criticality", "owner_team", "environment")
    return {
        "asset_id": row["id"],
        "version": row["version"] + 1,
        "at": now,
        "actor": order.actor,
        "field": one or "several",
        "before": str(row[one]) if one and plain else "",
        "after": str(changed[one]) if one and plain else ", ".join(changed)[:200],
        "reason": order.reason,
        "change_id": "",
        "call_id": "",
    }


async def _relationships(
    connection: AsyncConnection, reads: list[Read[RelationshipLine]], ends: list[tuple[str, str]], order: Import,
    now: datetime, outcome: Outcome, told: Told,
) -> None:  # fmt: skip
    table = tables.relationship
    listed: set[str] = set()
    for chunk in _chunks(list(zip(reads, ends, strict=True))):
        lines = {}
        for read, (source, target) in chunk:
            lines[source, read.record.type.value, target] = read.record
        chosen = table.c.from_id.in_({source for source, _, _ in lines})
        rows = [dict(row._mapping) for row in await connection.execute(select(table).where(chosen))]
        before = {(row["from_id"], row["type"], row["to_id"]): row for row in rows}
        fresh, replaced = [], []
        for key, line in lines.items():
            row = before.get(key)
            if row is None:
                fresh.append(_new_edge(key, line, now))
                listed.add(fresh[-1]["id"])
                outcome.count(outcome.new, "relationships")
                continue
            listed.add(row["id"])
            changed = _differences(row, line, _EDGE_FIELDS)
            outcome.count(outcome.changed if changed else outcome.same, "relationships")
            if changed:
                replaced.append((row["id"], changed | {"valid_from": now}))
            if line.last_seen is not None and line.last_seen != row["last_seen"]:
                seen = update(table).where(table.c.id == row["id"]).values(last_seen=line.last_seen)
                await connection.execute(seen)
        await end_relationships(connection, [key for key, _ in replaced], now, gone=False)
        for key, values in replaced:
            await connection.execute(update(table).where(table.c.id == key).values(values))
        if fresh:
            await connection.execute(insert(table), fresh)
        told("relationships", len(chunk))
    if order.prune and reads:
        await _prune(connection, reads, listed, now, outcome)


def _new_edge(key: tuple[str, str, str], line: RelationshipLine, now: datetime) -> dict[str, Any]:
    source, kind, target = key
    return {
        # A relationship that comes back is another row of the history, with the same id.
        "id": f"rel-{hashlib.sha256(f'{source} {kind} {target}'.encode()).hexdigest()[:16]}",
        "from_id": source,
        "to_id": target,
        "type": kind,
        "impact": line.impact,
        "redundancy": line.redundancy,
        "source": line.source,
        "last_seen": line.last_seen,
        "valid_from": now,
    }


async def _prune(
    connection: AsyncConnection, reads: list[Read[RelationshipLine]], listed: set[str], now: datetime, outcome: Outcome
) -> None:
    table = tables.relationship
    sources = {read.record.source for read in reads}
    recorded = select(table.c.id).where(table.c.source.in_(sources))
    gone = sorted(set((await connection.execute(recorded)).scalars()) - listed)
    await end_relationships(connection, gone, now, gone=True)
    if gone:
        outcome.count(outcome.gone, "relationships", len(gone))


async def _windows(connection: AsyncConnection, reads: list[Read[WindowLine]], outcome: Outcome, told: Told) -> None:
    table = tables.window
    for chunk in _chunks(reads):
        lines = [read.record for read in chunk]
        chosen = table.c.id.in_([line.id for line in lines])
        before = {row.id: dict(row._mapping) for row in await connection.execute(select(table).where(chosen))}
        for line in lines:
            values = line.model_dump()
            if line.id not in before:
                await connection.execute(insert(table).values(values))
                outcome.count(outcome.new, "windows")
            elif before[line.id] != values:
                await connection.execute(update(table).where(table.c.id == line.id).values(values))
                outcome.count(outcome.changed, "windows")
            else:
                outcome.count(outcome.same, "windows")
        told("windows", len(chunk))
