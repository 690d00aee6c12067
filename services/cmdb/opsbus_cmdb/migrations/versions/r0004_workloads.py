"""What Kubernetes was last seen to run.

Revision ID: 0004
"""

from alembic import op
from sqlalchemy import JSON, Boolean, Column, Integer, String
from sqlalchemy.dialects.postgresql import JSONB

from opsbus.database import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """One table."""
    op.create_table(
        "cmdb_workload",
        Column("cluster", String(128), primary_key=True),
        Column("namespace", String(128), primary_key=True),
        Column("name", String(200), primary_key=True),
        Column("kind", String(64), nullable=False),
        Column("images", JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
        Column("replicas", Integer),
        Column("ready", Integer),
        Column("gone", Boolean, nullable=False),
        Column("seen_at", UtcDateTime, nullable=False),
    )
    op.create_index("cmdb_workload_namespace", "cmdb_workload", ["namespace", "name"])
