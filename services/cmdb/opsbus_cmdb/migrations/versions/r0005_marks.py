"""Drift that is marked, live health, what is still to be judged and to be told; indexes by place in Kubernetes.

Revision ID: 0005
"""

from alembic import op
from sqlalchemy import JSON, Boolean, Column, String, Text, column, insert, select, table
from sqlalchemy.dialects.postgresql import JSONB

from opsbus.database import UtcDateTime

revision = "0005"
down_revision = "0004"

_json = JSON().with_variant(JSONB(), "postgresql")
_PLACES = {
    "postgresql": "substr(external_ids ->> 'kubernetes', strpos(external_ids ->> 'kubernetes', '/') + 1, 400)",
    "sqlite": (
        "substr(json_extract(external_ids, '$.kubernetes'),"
        " instr(json_extract(external_ids, '$.kubernetes'), '/') + 1, 400)"
    ),
}


def upgrade() -> None:
    """Four tables, indexes; assets of which facts are known are to be judged."""
    op.create_table(
        "cmdb_drift",
        Column("ref", String(500), primary_key=True),
        Column("kind", String(32), primary_key=True),
        Column("asset_id", String(128), nullable=False),
        Column("severity", String(16), nullable=False),
        Column("recorded", Text, nullable=False),
        Column("seen", Text, nullable=False),
        Column("seen_at", UtcDateTime),
        Column("since", UtcDateTime, nullable=False),
    )
    op.create_index("cmdb_drift_asset", "cmdb_drift", ["asset_id"])
    op.create_table(
        "cmdb_health",
        Column("source", String(16), primary_key=True),
        Column("key", String(400), primary_key=True),
        Column("state", String(16), nullable=False),
        Column("asset_key", String(400), nullable=False),
        Column("cluster", String(128), nullable=False),
        Column("namespace", String(128), nullable=False),
        Column("name", String(200), nullable=False),
        Column("label", String(16), nullable=False),
        Column("environment", String(64), nullable=False),
        Column("reason", Text, nullable=False),
        Column("since", UtcDateTime),
        Column("told_at", UtcDateTime, nullable=False),
        Column("old", Boolean, nullable=False),
    )
    op.create_index("cmdb_health_name", "cmdb_health", ["name"])
    op.create_index("cmdb_health_asset", "cmdb_health", ["asset_key"])
    op.create_index("cmdb_health_told", "cmdb_health", ["told_at"])
    op.create_table(
        "cmdb_due",
        Column("id", String(64), primary_key=True),
        Column("kind", String(16), nullable=False),
        Column("key", String(600), nullable=False),
    )
    op.create_index("cmdb_due_key", "cmdb_due", ["kind", "key"])
    op.create_table(
        "cmdb_outbox",
        Column("id", String(64), primary_key=True),
        Column("kind", String(64), nullable=False),
        Column("subject", String(600), nullable=False),
        Column("data", _json, nullable=False),
        Column("at", UtcDateTime, nullable=False),
    )
    op.create_index("cmdb_asset_seen", "cmdb_asset", ["last_seen"])
    place = _PLACES[op.get_bind().dialect.name]
    op.execute(f"CREATE INDEX cmdb_asset_place ON cmdb_asset (({place}))")
    op.execute("CREATE INDEX cmdb_workload_place ON cmdb_workload ((namespace || '/' || name))")
    _all_due()


def _all_due() -> None:
    """What is known of Kubernetes already was not judged yet."""
    known = table("cmdb_workload", column("cluster"), column("namespace"), column("name"))
    due = table("cmdb_due", column("id"), column("kind"), column("key"))
    rows = op.get_bind().execute(select(known)).all()
    values = [
        {"id": f"upgrade-{place:09}", "kind": "workload", "key": f"{row.cluster}/{row.namespace}/{row.name}"}
        for place, row in enumerate(rows)
    ]
    if values:
        op.get_bind().execute(insert(due), values)
