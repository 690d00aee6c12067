"""Live health from events into the store and out of it: alerts that fire, pods and nodes that are unwell. What follows
from them is health.py's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus_cmdb import marks, tables
from opsbus_cmdb.among import among
from opsbus_cmdb.health import FRESH, GRAVE, KEPT, Fact, Live, reckon, whose
from opsbus_cmdb.model import Asset
from opsbus_cmdb.places import assets_at, assets_called, place, workloads_at
from opsbus_cmdb.workloads import Workload
from opsbus_contracts.events import Event

FACTS_MAX = 20_000
"""Kept at most; more, and those heard of the longest ago are let go."""
_AT_ONCE = 500
_READ_MAX = 2_000
_REASON_MAX = 300
_UNWELL_MAX = 50
_ALERTS, _K8S = "event.monitoring.", "event.k8s."
_WORKLOADS = ("deployment", "statefulset", "daemonset", "workload")
_MACHINES = ("node", "host", "hostname", "nodename", "instance")
_IDS = ("cmdb_id", "asset_id", "asset", "ci")
_HARMLESS = ("info", "information", "none", "debug")
_AWAY = ("down", "absent", "unavailable", "unreachable", "notready", "dead")
_table = tables.health


def fact_of(subject: str, body: bytes) -> Fact | None:
    """What an event tells of live health; None: nothing, or it is no event."""
    try:
        if subject.startswith(_ALERTS + "alert_"):
            return _alert(subject.removeprefix(_ALERTS), Event.model_validate_json(body))
        if subject.startswith((_K8S + "pod_", _K8S + "node_")):
            return _of_kubernetes(subject.removeprefix(_K8S), Event.model_validate_json(body))
    except (ValidationError, AttributeError, TypeError, ValueError):
        return None
    return None


def _alert(kind: str, event: Event) -> Fact | None:
    data = event.data
    labels = {str(key): str(value) for key, value in (data.get("labels") or {}).items()}
    severity = _text(data.get("severity") or labels.get("severity")).lower()
    firing = kind == "alert_firing"
    if not firing and kind != "alert_resolved":
        return None
    if firing and severity in _HARMLESS:
        return None
    name, label = _name(data, labels)
    alert = _text(data.get("alertname")) or "an alert"
    summary = _text(data.get("summary"))
    return Fact(
        source="alert",
        key=_text(data.get("fingerprint")),
        state=_gravity(alert, severity) if firing else "ok",
        asset_key=next((labels[known] for known in _IDS if labels.get(known)), ""),
        cluster=_text(data.get("cluster")) or labels.get("cluster", ""),
        namespace=_text(data.get("namespace")) or labels.get("namespace", ""),
        name=name,
        label=label,
        environment=labels.get("environment") or labels.get("env", ""),
        reason=f"alert {alert} ({severity or 'no severity'}){': ' if summary else ''}{summary}"[:_REASON_MAX],
        since=data.get("starts_at") or None,
        told_at=event.time.astimezone(UTC),
    )


def _name(data: dict[str, Any], labels: dict[str, str]) -> tuple[str, str]:
    """What the alert is about: a workload its labels name, else its service, else a node. Of an alert about a workload
    the label `service` often names who measured it."""
    for known in _WORKLOADS:
        if labels.get(known):
            return labels[known], "workload"
    service = _text(data.get("service")) or labels.get("service") or labels.get("app", "")
    if service:
        return service, "service"
    return next((labels[known].partition(":")[0] for known in _MACHINES if labels.get(known)), ""), "node"


def _gravity(alert: str, severity: str) -> Literal["degraded", "down"]:
    """Down only where the alert says so: that something critical is wrong does not mean that nothing works."""
    plain = alert.lower().replace("_", "").replace("-", "")
    return "down" if severity in GRAVE and any(word in plain for word in _AWAY) else "degraded"


def _of_kubernetes(kind: str, event: Event) -> Fact | None:
    data = event.data
    cluster, name, reason = (_text(data.get(field)) for field in ("cluster", "name", "reason"))
    told_at = event.time.astimezone(UTC)
    if kind in ("node_not_ready", "node_ready"):
        return Fact(
            source="node", key=f"{cluster}/{name}", state="ok" if kind == "node_ready" else "down", cluster=cluster,
            name=name, label="node", reason=f"node not ready: {reason}"[:_REASON_MAX], told_at=told_at,
        )  # fmt: skip
    if kind not in ("pod_unhealthy", "pod_recovered") or not data.get("workload"):
        return None
    namespace = _text(data.get("namespace"))
    return Fact(
        source="pod", key=f"{cluster}/{namespace}/{name}", state="ok" if kind == "pod_recovered" else "degraded",
        cluster=cluster, namespace=namespace, name=_text(data.get("workload")).rpartition("/")[2], label="workload",
        reason=f"pod {name}: {reason or 'unhealthy'}"[:_REASON_MAX], told_at=told_at,
    )  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value.strip()


async def learn(connection: AsyncConnection, facts: list[Fact], gone: list[Workload]) -> None:
    """Keep the newest of each; who listens to the assets concerned is to be told. Pods of workloads that are gone are
    no longer unwell."""
    if not facts and not gone:
        return
    await serialize(connection, "cmdb", "health")
    changed: list[Fact] = []
    for fact in facts:
        key = and_(_table.c.source == fact.source, _table.c.key == fact.key)
        known = (await connection.execute(select(_table).where(key))).first()
        if known is None:
            await connection.execute(insert(_table).values(fact.model_dump()))
            if fact.state != "ok":
                changed.append(fact)
        elif known.told_at <= fact.told_at:
            await connection.execute(update(_table).where(key).values(fact.model_dump()))
            if known.state != fact.state or known.reason != fact.reason or known.old:
                # What is resolved may come without the labels by which it was found.
                changed += [fact, _read(known)]
    for workload in gone:
        pods = and_(
            _table.c.source == "pod", _table.c.cluster == workload.cluster,
            _table.c.namespace == workload.namespace, _table.c.name == workload.name,
        )  # fmt: skip
        await connection.execute(update(_table).where(pods, _table.c.told_at < workload.seen_at).values(state="ok"))
    await _note(connection, changed)


async def _note(connection: AsyncConnection, facts: list[Fact]) -> None:
    owners = await _owners(connection, facts)
    await marks.note_live(connection, sorted({asset.id for asset in owners if asset is not None}))


async def _owners(connection: AsyncConnection, facts: Sequence[Fact]) -> list[Asset | None]:
    """Whose each fact is: looked for among all assets, so that what is ambiguous is seen to be."""
    if not facts:
        return []
    placed = {f"{fact.namespace}/{fact.name}" for fact in facts if fact.namespace and fact.name}
    names = {fact.name for fact in facts if not fact.namespace}
    known = {asset.id: asset for asset in await assets_at(connection, placed)}
    known |= {asset.id: asset for asset in await assets_called(connection, names, {f.asset_key for f in facts})}
    by_name: dict[str, list[Asset]] = {}
    for asset in known.values():
        external = asset.external_ids.get("kubernetes", "").rpartition("/")[2]
        for name in {asset.name, external, asset.id, asset.ref}:
            by_name.setdefault(name, []).append(asset)
    return [whose(fact, [*by_name.get(fact.name, ()), *by_name.get(fact.asset_key or "-", ())]) for fact in facts]


async def live(connection: AsyncConnection, assets: Sequence[Asset], now: datetime) -> dict[str, Live]:
    """How assets do, by id; each that was asked for is there."""
    places = {asset.id: place(asset) for asset in assets}
    workloads: dict[str, list[Workload]] = {}
    for known in await workloads_at(connection, places.values()):
        workloads.setdefault(f"{known.namespace}/{known.name}", []).append(known)
    facts = await _of(connection, assets, places)
    return {
        asset.id: reckon(asset, workloads.get(places[asset.id], []), facts.get(asset.id, ()), now) for asset in assets
    }


async def _of(connection: AsyncConnection, assets: Sequence[Asset], places: dict[str, str]) -> dict[str, list[Fact]]:
    names = {asset.name for asset in assets} | {known.rpartition("/")[2] for known in places.values()}
    names |= {asset.external_ids.get("kubernetes", "").rpartition("/")[2] for asset in assets}
    keys = [key for asset in assets for key in (asset.id, asset.ref)]
    dialect = connection.dialect.name
    unwell = _table.c.state != "ok"
    found: dict[tuple[str, str], Fact] = {}
    # Two statements: an OR of two indexes is where a planner gives up and reads everything.
    for where in (among(_table.c.name, sorted(names - {""}), dialect), among(_table.c.asset_key, keys, dialect)):
        chosen = select(_table).where(where, unwell).order_by(_table.c.told_at.desc()).limit(_READ_MAX)
        found |= {(row.source, row.key): _read(row) for row in await connection.execute(chosen)}
    facts = list(found.values())
    by_asset: dict[str, list[Fact]] = {}
    for fact, asset in zip(facts, await _owners(connection, facts), strict=True):
        if asset is not None:
            by_asset.setdefault(asset.id, []).append(fact)
    return by_asset


async def unwell(connection: AsyncConnection, now: datetime) -> dict[str, Live]:
    """Refs of assets that are down or degraded as far as was told, with how; some, if there are many."""
    heard = select(_table).where(_table.c.state != "ok", _table.c.told_at > now - FRESH)
    rows = await connection.execute(heard.order_by(_table.c.told_at.desc()).limit(_AT_ONCE))
    known = {asset.id: asset for asset in await _owners(connection, [_read(row) for row in rows]) if asset is not None}
    seen = tables.workload
    lacking = select(seen.c.namespace, seen.c.name).where(
        seen.c.seen_at > now - FRESH, or_(seen.c.gone, seen.c.ready < seen.c.replicas, seen.c.replicas == 0)
    )
    rows = await connection.execute(lacking.order_by(seen.c.seen_at.desc()).limit(_AT_ONCE))
    known |= {asset.id: asset for asset in await assets_at(connection, {f"{row.namespace}/{row.name}" for row in rows})}
    found = await live(connection, list(known.values())[:_UNWELL_MAX], now) if known else {}
    return {known[key].ref: value for key, value in found.items() if value.health in ("down", "degraded")}


async def tidy(connection: AsyncConnection, now: datetime) -> None:
    """Forget what nothing was heard of for too long, and what is too much; tell of what has just become old."""
    await serialize(connection, "cmdb", "health")
    await connection.execute(delete(_table).where(_table.c.told_at < now - KEPT))
    resolved = and_(_table.c.state == "ok", _table.c.told_at < now - FRESH)
    await connection.execute(delete(_table).where(resolved))
    count = (await connection.execute(select(func.count()).select_from(_table))).scalar_one()
    if count > FACTS_MAX:
        last = select(_table.c.told_at).order_by(_table.c.told_at.desc()).offset(FACTS_MAX - 1).limit(1)
        await connection.execute(delete(_table).where(_table.c.told_at < last.scalar_subquery()))
    aged = and_(_table.c.old.is_(False), _table.c.told_at < now - FRESH)
    rows = (await connection.execute(select(_table).where(aged).limit(_AT_ONCE))).all()
    for row in rows:
        chosen = and_(_table.c.source == row.source, _table.c.key == row.key)
        await connection.execute(update(_table).where(chosen).values(old=True))
    await _note(connection, [_read(row) for row in rows])


def _read(row: Any) -> Fact:
    return Fact.model_validate(row._mapping)
