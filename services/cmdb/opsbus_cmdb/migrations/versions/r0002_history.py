"""Rows that were replaced are kept with the time they held; assets have their place in a list as a column.

Revision ID: 0002
"""

from datetime import datetime
from typing import Any

from alembic import op
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    case,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from opsbus.database import UtcDateTime
from opsbus_cmdb.migrations.versions import r0001_baseline

revision = "0002"
down_revision = "0001"

metadata = MetaData()
_json = JSON().with_variant(JSONB(), "postgresql")
_STATUSES = ("down", "degraded", "maintenance", "unknown", "operational")
_CRITICALITIES = ("critical", "high", "medium", "low")
_ROWS_AT_ONCE = 500

asset_past = Table(
    "cmdb_asset_past",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("ref", String(400), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("asset_class", String(64), nullable=False),
    Column("namespace", String(128), nullable=False),
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("lifecycle", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("criticality", String(32), nullable=False),
    Column("owner_team", String(128), nullable=False),
    Column("version", Integer, primary_key=True),
    Column("attributes", _json, nullable=False),
    Column("labels", _json, nullable=False),
    Column("external_ids", _json, nullable=False),
    Column("source", String(128), nullable=False),
    Column("confidence", Float, nullable=False),
    Column("last_seen", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("valid_to", UtcDateTime, nullable=False),
    Index("cmdb_asset_past_time", "valid_to"),
    Index("cmdb_asset_past_ref", "ref"),
    Index("cmdb_asset_past_name", "name"),
)

relationship_past = Table(
    "cmdb_relationship_past",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("from_id", String(128), nullable=False),
    Column("to_id", String(128), nullable=False),
    Column("type", String(32), nullable=False),
    Column("impact", String(32), nullable=False),
    Column("redundancy", String(64), nullable=False),
    Column("source", String(128), nullable=False),
    Column("last_seen", UtcDateTime),
    Column("valid_from", UtcDateTime),
    Column("valid_to", UtcDateTime, primary_key=True),
    Index("cmdb_relationship_past_from", "from_id", "type"),
    Index("cmdb_relationship_past_to", "to_id", "type"),
)


def upgrade() -> None:
    """The new columns, filled; the new tables, with what the history of writes tells."""
    connection = op.get_bind()
    op.add_column("cmdb_asset", Column("rank", Integer, nullable=False, server_default="0"))
    op.add_column("cmdb_asset", Column("valid_from", UtcDateTime, nullable=False, server_default="1970-01-01 00:00:00"))
    op.add_column("cmdb_relationship", Column("valid_from", UtcDateTime))
    metadata.create_all(connection)
    asset = _asset()
    statuses = case({name: 10 * place for place, name in enumerate(_STATUSES)}, value=asset.c.status, else_=50)
    weights = case({name: place for place, name in enumerate(_CRITICALITIES)}, value=asset.c.criticality, else_=9)
    connection.execute(update(asset).values(rank=statuses + weights, valid_from=asset.c.created_at))
    _write_past(connection, asset)
    op.create_index("cmdb_asset_rank", "cmdb_asset", ["rank", "ref"])


def _asset() -> Table:
    columns = [Column(known.name, known.type) for known in asset_past.columns if known.name != "valid_to"]
    return Table("cmdb_asset", MetaData(), *columns)


def _write_past(connection: Connection, asset: Table) -> None:
    """The versions before the present one, from what each write says it changed."""
    written = r0001_baseline.metadata.tables["cmdb_asset_history"]
    changes = connection.execute(select(written).order_by(written.c.asset_id, written.c.version.desc())).all()
    by_asset: dict[str, list[Any]] = {}
    for change in changes:
        by_asset.setdefault(change.asset_id, []).append(change)
    ids = sorted(by_asset)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        for row in connection.execute(select(asset).where(asset.c.id.in_(ids[start : start + _ROWS_AT_ONCE]))).all():
            past = _versions_before(dict(row._mapping), by_asset[row.id])
            connection.execute(insert(asset_past), past)
            since = by_asset[row.id][0].at
            connection.execute(update(asset).where(asset.c.id == row.id).values(valid_from=since))


def _versions_before(row: dict[str, Any], changes: list[Any]) -> list[dict[str, Any]]:
    """``changes``: of one asset, the latest first."""
    found = []
    began: datetime = row["created_at"]
    for place, change in enumerate(changes):
        earlier = changes[place + 1].at if place + 1 < len(changes) else began
        row = row | {change.field: change.before, "version": change.version - 1}
        row["rank"] = 10 * _place(_STATUSES, row["status"], 5) + _place(_CRITICALITIES, row["criticality"], 9)
        found.append(row | {"valid_from": earlier, "valid_to": change.at, "updated_at": earlier})
    return found


def _place(names: tuple[str, ...], name: str, other: int) -> int:
    return names.index(name) if name in names else other
