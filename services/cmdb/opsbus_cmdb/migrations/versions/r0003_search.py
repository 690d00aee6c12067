"""One column to search, an index to count by, an index that walks a relationship backwards by itself.

Revision ID: 0003
"""

import json
import logging
from typing import Any

from alembic import op
from sqlalchemy import JSON, Column, Connection, Integer, MetaData, String, Table, Text, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"

_json = JSON().with_variant(JSONB(), "postgresql")
_log = logging.getLogger("opsbus.cmdb")
_ROWS_AT_ONCE = 1_000
_KEYS: dict[str, TypeEngine[Any]] = {"id": String(128), "version": Integer()}
_FACETS = (
    "environment", "kind", "status", "owner_team", "criticality", "lifecycle", "asset_class", "namespace", "source",
)  # fmt: skip


def upgrade() -> None:
    """The column, filled, in both tables; the indexes."""
    connection = op.get_bind()
    for name, key in (("cmdb_asset", ("id",)), ("cmdb_asset_past", ("id", "version"))):
        op.add_column(name, Column("search", Text, nullable=False, server_default=""))
        _fill(connection, name, key)
    op.create_index("cmdb_asset_facets", "cmdb_asset", list(_FACETS))
    op.drop_index("cmdb_relationship_to", "cmdb_relationship")
    op.create_index("cmdb_relationship_to", "cmdb_relationship", ["to_id", "type", "from_id"])
    op.drop_index("cmdb_asset_owner", "cmdb_asset")
    op.create_index("cmdb_asset_owner", "cmdb_asset", ["owner_team", "environment", "status", "kind"])
    if connection.dialect.name == "sqlite":
        # Narrow, in the order it is counted, with all that a search for words or labels needs.
        op.create_index("cmdb_asset_scan", "cmdb_asset", ["environment", "kind", "status", "search", "labels", "id"])
    if connection.dialect.name == "postgresql":
        op.execute("CREATE INDEX cmdb_asset_labels ON cmdb_asset USING gin (labels jsonb_path_ops)")
        _trigrams(connection)


def _fill(connection: Connection, name: str, key: tuple[str, ...]) -> None:
    table = Table(
        name,
        MetaData(),
        *(Column(column, _KEYS[column], primary_key=True) for column in key),
        *(Column(column, Text) for column in ("ref", "description", "owner_team", "search")),
        Column("external_ids", _json),
    )
    chosen = [table.c[column] == bindparam(f"the_{column}") for column in key]
    statement = update(table).where(*chosen).values(search=bindparam("searched"))
    rows = connection.execute(select(table)).fetchall()
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        values = []
        for row in rows[start : start + _ROWS_AT_ONCE]:
            words = (row.ref, row.description, row.owner_team, json.dumps(row.external_ids, ensure_ascii=False))
            values.append(
                {f"the_{column}": row._mapping[column] for column in key} | {"searched": "\n".join(words).lower()}
            )
        connection.execute(statement, values)


def _trigrams(connection: Connection) -> None:
    """An index for words, where the database has the extension and we may create it; without it words are scanned."""
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
            connection.execute(text("CREATE INDEX cmdb_asset_search ON cmdb_asset USING gin (search gin_trgm_ops)"))
    except SQLAlchemyError as error:
        _log.info("no index for words (%s): texts are scanned", type(error).__name__)
