"""What alembic runs around the revisions: on the connection, and in the transaction, that upgrade.py gives."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=False,
)
context.run_migrations()
