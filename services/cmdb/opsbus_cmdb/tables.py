"""The tables of the embedded store. All names start with `cmdb_`, so that several stores may share one database."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from opsbus.database import UtcDateTime

metadata = MetaData()
_EPOCH = "1970-01-01 00:00:00"
_json = JSON().with_variant(JSONB(), "postgresql")

asset = Table(
    "cmdb_asset",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("ref", String(400), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("asset_class", String(64), nullable=False, default=""),
    Column("namespace", String(128), nullable=False, default=""),
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("environment", String(64), nullable=False, default=""),
    Column("lifecycle", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("criticality", String(32), nullable=False),
    Column("owner_team", String(128), nullable=False, default=""),
    Column("version", Integer, nullable=False, default=1),
    Column("attributes", _json, nullable=False, default=dict),
    Column("labels", _json, nullable=False, default=dict),
    Column("external_ids", _json, nullable=False, default=dict),
    Column("source", String(128), nullable=False, default=""),
    Column("confidence", Float, nullable=False, default=1.0),
    Column("last_seen", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("valid_from", UtcDateTime, nullable=False, server_default=_EPOCH),
    Column("search", Text, nullable=False, server_default=""),
    Index(
        "cmdb_asset_facets",
        "environment",
        "kind",
        "status",
        "owner_team",
        "criticality",
        "lifecycle",
        "asset_class",
        "namespace",
        "source",
    ),
    Index("cmdb_asset_rank", "rank", "ref"),
    Index("cmdb_asset_name", "name"),
    Index("cmdb_asset_kind", "kind", "environment", "namespace"),
    Index("cmdb_asset_owner", "owner_team", "environment", "status", "kind"),
    Index("cmdb_asset_seen", "last_seen"),
)

"""`rank`: where it stands in a list. `search`: what is searched for words. `valid_from`: since when this row holds. All
three are history.asset_row's. Revision 0003 makes more indexes to search by: on PostgreSQL of labels, and of
words where it can; on SQLite a narrow one to scan. Revision 0005 makes those of places.py."""

asset_past = Table(
    "cmdb_asset_past",
    metadata,
    *(Column(known.name, known.type, nullable=known.nullable) for known in asset.columns),
    Column("valid_to", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id", "version"),
    Index("cmdb_asset_past_time", "valid_to"),
    Index("cmdb_asset_past_ref", "ref"),
    Index("cmdb_asset_past_name", "name"),
)
"""Rows of the table before that something newer replaced."""

relationship = Table(
    "cmdb_relationship",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("from_id", String(128), ForeignKey("cmdb_asset.id"), nullable=False),
    Column("to_id", String(128), ForeignKey("cmdb_asset.id"), nullable=False),
    Column("type", String(32), nullable=False),
    Column("impact", String(32), nullable=False, default="hard"),
    Column("redundancy", String(64), nullable=False, default="none"),
    Column("source", String(128), nullable=False, default=""),
    Column("last_seen", UtcDateTime),
    Column("valid_from", UtcDateTime),
    Index("cmdb_relationship_triple", "from_id", "type", "to_id", unique=True),
    Index("cmdb_relationship_to", "to_id", "type", "from_id"),
)

relationship_past = Table(
    "cmdb_relationship_past",
    metadata,
    *(Column(known.name, known.type, nullable=known.nullable) for known in relationship.columns),
    Column("valid_to", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id", "valid_to"),
    Index("cmdb_relationship_past_from", "from_id", "type"),
    Index("cmdb_relationship_past_to", "to_id", "type"),
)
"""Relationships that were replaced, or are gone."""

change = Table(
    "cmdb_change",
    metadata,
    Column("number", String(64), primary_key=True),
    Column("title", String(400), nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("type", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("risk", String(32), nullable=False),
    Column("requested_by", String(200), nullable=False, default=""),
    Column("owner_team", String(128), nullable=False, default=""),
    Column("planned_start", UtcDateTime),
    Column("planned_end", UtcDateTime),
    Column("actual_start", UtcDateTime),
    Column("actual_end", UtcDateTime),
    Column("approvals", _json, nullable=False, default=list),
    Column("plans", _json, nullable=False, default=dict),
    Column("outcome", String(64), nullable=False, default=""),
    Column("tool_call_ids", _json, nullable=False, default=list),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("cmdb_change_planned", "planned_start"),
    Index("cmdb_change_state", "state"),
)

change_asset = Table(
    "cmdb_change_asset",
    metadata,
    Column("number", String(64), ForeignKey("cmdb_change.number"), primary_key=True),
    Column("asset_id", String(128), ForeignKey("cmdb_asset.id"), primary_key=True),
    Index("cmdb_change_asset_asset", "asset_id"),
)

window = Table(
    "cmdb_window",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("title", String(400), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("start", UtcDateTime, nullable=False),
    Column("end", UtcDateTime, nullable=False),
    Column("selector", _json, nullable=False, default=dict),
    Index("cmdb_window_time", "start", "end"),
)

asset_history = Table(
    "cmdb_asset_history",
    metadata,
    Column("asset_id", String(128), ForeignKey("cmdb_asset.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("field", String(64), nullable=False),
    Column("before", String(200), nullable=False),
    Column("after", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("change_id", String(64), nullable=False, default=""),
    Column("call_id", String(64), nullable=False, default=""),
)
"""Who changed what and why: one row per version that a write made."""

workload = Table(
    "cmdb_workload",
    metadata,
    Column("cluster", String(128), primary_key=True),
    Column("namespace", String(128), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("images", JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
    Column("replicas", Integer),
    Column("ready", Integer),
    Column("gone", Boolean, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Index("cmdb_workload_namespace", "namespace", "name"),
)
"""What Kubernetes was last seen to run: workloads.py."""

drift = Table(
    "cmdb_drift",
    metadata,
    Column("ref", String(500), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("asset_id", String(128), nullable=False, default=""),
    Column("severity", String(16), nullable=False),
    Column("recorded", Text, nullable=False),
    Column("seen", Text, nullable=False),
    Column("seen_at", UtcDateTime),
    Column("since", UtcDateTime, nullable=False),
    Index("cmdb_drift_asset", "asset_id"),
)
"""What is not as it is recorded: marks.py. `asset_id` is empty for a workload that nobody recorded."""

health = Table(
    "cmdb_health",
    metadata,
    Column("source", String(16), primary_key=True),
    Column("key", String(400), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("asset_key", String(400), nullable=False, default=""),
    Column("cluster", String(128), nullable=False, default=""),
    Column("namespace", String(128), nullable=False, default=""),
    Column("name", String(200), nullable=False, default=""),
    Column("label", String(16), nullable=False, default=""),
    Column("environment", String(64), nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("since", UtcDateTime),
    Column("told_at", UtcDateTime, nullable=False),
    Column("old", Boolean, nullable=False, default=False),
    Index("cmdb_health_name", "name"),
    Index("cmdb_health_asset", "asset_key"),
    Index("cmdb_health_told", "told_at"),
)
"""Alerts that fire, pods and nodes that are unwell, as events told: health_facts.py."""

due = Table(
    "cmdb_due",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("key", String(600), nullable=False),
    Index("cmdb_due_key", "kind", "key"),
)
"""What changed and is still to be judged, written with the change itself: marks.py."""

outbox = Table(
    "cmdb_outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(600), nullable=False),
    Column("data", _json, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
"""Events that are still to be told, written with what they tell of: outbox.py."""
