"""At which revision a database is, and which is the newest: known without alembic, which a start needs when there is a
step to make."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

FOLDER = Path(__file__).parent
"""With env.py and ``versions``, a file for each revision: ``r<revision>_<what>.py``, in their order."""

VERSION_TABLE = "cmdb_alembic_version"
"""Of our own: several stores may share one database."""
_version = table(VERSION_TABLE, column("version_num")).c.version_num


def newest() -> str:
    """The newest revision this version knows."""
    return max(file.stem[1:].partition("_")[0] for file in (FOLDER / "versions").glob("r*_*.py"))


def revision(connection: Connection) -> str | None:
    """The revision the database is at; None: there was never one. Several, which alembic allows, are joined."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(select(_version).order_by(_version)).scalars()
    return "+".join(found) or None
