"""Drift that is kept: what changed is noted with the change itself, judged soon after, and told when it begins or ends.
The rules are drift.py's; who runs this is keeper.py."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus_cmdb import asset_store, outbox, tables
from opsbus_cmdb.among import among
from opsbus_cmdb.drift import STALE, Finding, Unknown, look, not_recorded
from opsbus_cmdb.mark_filter import SEVERITIES
from opsbus_cmdb.model import Asset, Lifecycle
from opsbus_cmdb.outbox import Telling, telling, updated
from opsbus_cmdb.places import assets_at, place, workloads_at
from opsbus_cmdb.workloads import Workload

ASSETS_URI = "enterprise://cmdb/assets"
_DUE_AT_ONCE = 200
_SWEPT_AT_ONCE = 500
_VALUE_MAX = 500
_OF_UNKNOWN = {
    "what runs": ("gone", "lifecycle", "release", "replicas", "status"),
    "release": ("release",),
    "replicas": ("replicas", "status"),
}
"""Marks that stay as they are while this cannot be compared."""
_table = tables.drift


class Mark(BaseModel):
    """A difference that is kept."""

    ref: str
    kind: str
    asset_id: str = Field(default="", exclude=True)
    severity: str
    recorded: str
    seen: str
    seen_at: datetime | None = None
    since: datetime


@dataclass
class _Judged:
    """What was judged, and what the table should say of it."""

    found: dict[tuple[str, str], Mark] = field(default_factory=dict)
    open: dict[str, list[Unknown]] = field(default_factory=dict)
    """By asset id: what could not be compared."""


def asset_uri(asset_id: str) -> str:
    """The asset's resource."""
    return f"{ASSETS_URI}/{asset_id}"


def compact(marks: Iterable[Mark]) -> str | None:
    """A few words for a row; None: nothing is marked."""
    worst = sorted(marks, key=lambda mark: (SEVERITIES.index(mark.severity), mark.kind))
    if not worst:
        return None
    return f"{worst[0].severity}: {', '.join(mark.kind for mark in worst)}"


async def of_assets(connection: AsyncConnection, ids: list[str]) -> dict[str, list[Mark]]:
    """The marks of assets, by id."""
    return await _read(connection, among(_table.c.asset_id, ids, connection.dialect.name) if ids else None)


async def of_refs(connection: AsyncConnection, refs: list[str]) -> list[Mark]:
    """The marks of refs of assets and of unrecorded workloads."""
    found = await _read(connection, among(_table.c.ref, refs, connection.dialect.name) if refs else None)
    return [mark for marks in found.values() for mark in marks]


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """How many marks there are, by severity."""
    statement = select(_table.c.severity, func.count()).group_by(_table.c.severity)
    return {str(severity): int(count) for severity, count in await connection.execute(statement)}


async def _read(connection: AsyncConnection, where: ColumnElement[bool] | None) -> dict[str, list[Mark]]:
    if where is None:
        return {}
    marks: dict[str, list[Mark]] = {}
    for row in await connection.execute(select(_table).where(where).order_by(_table.c.ref, _table.c.kind)):
        marks.setdefault(row.asset_id, []).append(Mark.model_validate(row._mapping))
    return marks


async def note_assets(connection: AsyncConnection, ids: Iterable[str]) -> None:
    """These assets changed: written in the transaction of the change."""
    await _note(connection, "asset", ids)


async def note_workloads(connection: AsyncConnection, workloads: Iterable[Workload]) -> None:
    """What is known of these workloads changed."""
    await _note(connection, "workload", (_key(known) for known in workloads))


async def note_live(connection: AsyncConnection, asset_ids: Iterable[str]) -> None:
    """The live health of these assets changed: their subscribers are to be told, nothing is to be judged."""
    await _note(connection, "health", asset_ids)


async def _note(connection: AsyncConnection, kind: str, keys: Iterable[str]) -> None:
    named = list(dict.fromkeys(keys))
    if not named:
        return
    # A new row in place of the one that may be there, never that one itself: a judge at work may have read it before
    # this transaction ends. So the table holds each key once, even where nobody judges.
    chosen = and_(tables.due.c.kind == kind, among(tables.due.c.key, named, connection.dialect.name))
    await connection.execute(delete(tables.due).where(tables.due.c.id.in_(_free(chosen))))
    rows = [{"id": outbox.ordered_id(), "kind": kind, "key": key} for key in named]
    await connection.execute(insert(tables.due), rows)


def _free(where: ColumnElement[bool]) -> Select[tuple[str]]:
    """Ids of notes that no other transaction is about to take out: nobody waits for anybody."""
    return select(tables.due.c.id).where(where).with_for_update(skip_locked=True)


def _key(workload: Workload) -> str:
    return f"{workload.cluster}/{workload.namespace}/{workload.name}"


async def judge(connection: AsyncConnection, now: datetime) -> int:
    """Judge some of what is due, keep the marks, and put what is to be told of it. How many notes that were."""
    await serialize(connection, "cmdb", "marks")
    chosen = select(tables.due).order_by(tables.due.c.id).limit(_DUE_AT_ONCE).with_for_update(skip_locked=True)
    rows = (await connection.execute(chosen)).all()
    if not rows:
        return 0
    dialect = connection.dialect.name
    await connection.execute(delete(tables.due).where(among(tables.due.c.id, [row.id for row in rows], dialect)))
    changed = {row.key for row in rows if row.kind == "asset"}
    unwell = {row.key for row in rows if row.kind == "health"}
    facts = {row.key.partition("/")[2] for row in rows if row.kind == "workload"}
    assets = await asset_store.get_many(connection, sorted(changed), None) if changed else {}
    places = facts | {place(asset) for asset in assets.values()} | await _former_places(connection, assets)
    beside = {asset.id: asset for asset in await assets_at(connection, places)}
    workloads = await workloads_at(connection, places)
    judged = _judge({**beside, **assets}, workloads, now)
    told = await _keep(connection, judged, {**beside, **assets}, workloads, changed, now)
    touched = {asset_uri(key) for key in changed | unwell if key}
    touched |= {asset_uri(asset.id) for asset in beside.values() if place(asset) in facts}
    touched |= {asset_uri(str(item.data["id"])) for item in told if item.data["id"]}
    if touched or told:
        touched.add(ASSETS_URI)
    await outbox.put(connection, told + updated(touched, now))
    return len(rows)


async def _former_places(connection: AsyncConnection, assets: dict[str, Asset]) -> set[str]:
    """Where the changed assets were before: what runs there may be nobody's now."""
    past = tables.asset_past
    if not assets:
        return set()
    last = (
        select(past.c.id, func.max(past.c.version).label("version"))
        .where(among(past.c.id, sorted(assets), connection.dialect.name))
        .group_by(past.c.id)
        .subquery()
    )
    chosen = select(past).join(last, and_(past.c.id == last.c.id, past.c.version == last.c.version))
    return {place(asset_store.read_asset(row)) for row in await connection.execute(chosen)}


def _judge(assets: dict[str, Asset], workloads: list[Workload], now: datetime) -> _Judged:
    judged = _Judged()
    for asset in assets.values():
        there = [known for known in workloads if f"{known.namespace}/{known.name}" == place(asset)]
        findings, judged.open[asset.id] = look(asset, there, now)
        for finding in findings:
            judged.found[asset.ref, finding.kind] = _mark(finding, asset, now)
    recorded = {place(asset) for asset in assets.values()}
    for known in workloads:
        if not known.gone and f"{known.namespace}/{known.name}" not in recorded:
            finding = not_recorded(known)
            judged.found[finding.ref, finding.kind] = _mark(finding, None, now)
    return judged


def _mark(finding: Finding, asset: Asset | None, now: datetime) -> Mark:
    """With the time since which the two differ, as far as that is known."""
    if finding.kind == "stale" and finding.seen_at is not None:
        since = finding.seen_at + STALE
    else:
        since = max(finding.seen_at or now, asset.updated_at) if asset is not None else finding.seen_at or now
    return Mark(
        ref=finding.ref,
        kind=finding.kind,
        asset_id=asset.id if asset is not None else "",
        severity=finding.severity,
        recorded=finding.recorded[:_VALUE_MAX],
        seen=finding.seen[:_VALUE_MAX],
        seen_at=finding.seen_at,
        since=min(since, now),
    )


async def _keep(
    connection: AsyncConnection, judged: _Judged, assets: dict[str, Asset], workloads: list[Workload],
    changed: set[str], now: datetime,
) -> list[Telling]:  # fmt: skip
    """Bring the table to what was found; what began and what ended is to be told."""
    refs = sorted({asset.ref for asset in assets.values()} | {_key(known) for known in workloads})
    before = {(mark.ref, mark.kind): mark for mark in await of_refs(connection, refs)}
    told: list[Telling] = []
    fresh = []
    for key, mark in judged.found.items():
        known = before.get(key)
        if known is None:
            fresh.append(mark)
            told.append(telling("drift_found", mark.ref, _told(mark), now))
        elif known.model_dump(exclude={"since"}) != mark.model_dump(exclude={"since"}):
            values = mark.model_dump(exclude={"ref", "kind", "since"}) | {"asset_id": mark.asset_id}
            where = and_(_table.c.ref == mark.ref, _table.c.kind == mark.kind)
            await connection.execute(update(_table).where(where).values(values))
    if fresh:
        await connection.execute(insert(_table), [{**mark.model_dump(), "asset_id": mark.asset_id} for mark in fresh])
    for key, mark in before.items():
        if key in judged.found or _undecided(mark, judged, changed):
            continue
        await connection.execute(delete(_table).where(_table.c.ref == mark.ref, _table.c.kind == mark.kind))
        told.append(telling("drift_gone", mark.ref, _told(mark), now))
    return told


def _undecided(mark: Mark, judged: _Judged, changed: set[str]) -> bool:
    """Not found, because it could not be compared: nothing says that it is over. A record that was changed is another
    matter: what was said of it before is not true of it now."""
    if mark.asset_id in changed:
        return False
    return any(mark.kind in _OF_UNKNOWN.get(item.what, ()) for item in judged.open.get(mark.asset_id, ()))


def _told(mark: Mark) -> dict[str, Any]:
    return mark.model_dump(mode="json") | {"id": mark.asset_id}


async def note_time(connection: AsyncConnection, now: datetime) -> int:
    """Note what the time alone has changed: assets that became stale, or were seen again. How many."""
    if (await connection.execute(select(tables.due.c.id).limit(1))).first() is not None:
        return 0  # there is enough to do
    asset = tables.asset
    counted = asset.c.lifecycle.in_([Lifecycle.ACTIVE.value, Lifecycle.RETIRING.value])
    is_marked = exists().where(_table.c.ref == asset.c.ref, _table.c.kind == "stale")
    began = select(asset.c.id).where(counted, asset.c.last_seen < now - STALE, ~is_marked)
    ended = (
        select(asset.c.id)
        .join(_table, and_(_table.c.asset_id == asset.c.id, _table.c.kind == "stale"))
        .where(or_(~counted, asset.c.last_seen >= now - STALE))
    )
    ids = [
        *(await connection.execute(began.order_by(asset.c.last_seen).limit(_SWEPT_AT_ONCE))).scalars(),
        *(await connection.execute(ended.limit(_SWEPT_AT_ONCE))).scalars(),
    ]
    await note_assets(connection, ids)
    return len(ids)
