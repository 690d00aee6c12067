"""The steps from revision to revision, made by alembic. It is five megabytes, loaded when there is a step to make."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect

from opsbus import ErrorCode, ToolError
from opsbus_cmdb.migrations import revisions
from opsbus_cmdb.migrations.versions import r0001_baseline


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(revisions.FOLDER).replace("%", "%%"))
    config.attributes |= {"connection": connection, "version_table": revisions.VERSION_TABLE}
    return config


def upgrade(connection: Connection) -> None:
    """To the newest revision, within the connection's transaction.

    Raises:
        ToolError: ``backend_error``: a newer version made it, or tables of our names are not ours.
    """
    at = revisions.revision(connection)
    if at is None:
        _adopt(connection)
    else:
        _refuse_newer(at)
    command.upgrade(_config(connection), "head")


def _refuse_newer(at: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if at not in known:
        raise ToolError(
            ErrorCode.BACKEND_ERROR,
            f"the CMDB's database is at schema revision {at[:40]!r}, and this version knows none after"
            f" {revisions.newest()!r}",
            hint="a newer opsbus made it: start that version again, or restore a backup from before the upgrade",
        )


def _adopt(connection: Connection) -> None:
    """A database from before there were revisions: what is there is the baseline, if it looks like it."""
    baseline: MetaData = r0001_baseline.metadata
    inspector = inspect(connection)
    there = [known for known in baseline.sorted_tables if inspector.has_table(known.name)]
    for known in there:
        missing = {item.name for item in known.columns} - {item["name"] for item in inspector.get_columns(known.name)}
        if missing:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"the database has a table {known.name} without {', '.join(sorted(missing))}: it is not a CMDB of ours",
                hint="point OPSBUS_CMDB_DATABASE_URL at another database, or restore a backup",
            )
    if there:
        baseline.create_all(connection)  # what an early version did not have yet
        command.stamp(_config(connection), r0001_baseline.revision)
