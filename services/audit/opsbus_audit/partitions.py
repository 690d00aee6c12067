"""The table of events by month, on PostgreSQL: searching a period looks at its months, and a month that is let go is
gone at once. SQLite has one table. A table that an earlier version made whole stays whole."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus_audit.tables import event

_NS = 1_000_000_000


class Month(NamedTuple):
    """A month of UTC."""

    year: int
    month: int

    @property
    def table(self) -> str:
        """``audit_event_2026_11``"""
        return f"{event.name}_{self.year:04d}_{self.month:02d}"

    @property
    def first_ns(self) -> int:
        """Its first moment. Unix nanoseconds."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()) * _NS

    @property
    def next(self) -> "Month":
        """The month after it."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)


def month_of(stored_ns: int) -> Month:
    """The month of a moment. Unix nanoseconds."""
    moment = datetime.fromtimestamp(stored_ns // _NS, UTC)
    return Month(moment.year, moment.month)


async def is_partitioned(connection: AsyncConnection) -> bool:
    """Whether the table is made of months here."""
    if connection.dialect.name != "postgresql":
        return False
    kind = text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)")
    found = (await connection.execute(kind, {"name": event.name})).scalar_one_or_none()
    return found in ("p", b"p")


async def add_months(connection: AsyncConnection, months: Iterable[Month]) -> None:
    """Make the months that are missing; in the caller's transaction."""
    await serialize(connection, "months", event.name)
    for month in sorted(set(months)):
        # DDL takes no parameters; all that is put in here is a number.
        await connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {month.table} PARTITION OF {event.name}"
                f" FOR VALUES FROM ({month.first_ns}) TO ({month.next.first_ns})"
            )
        )


async def months(connection: AsyncConnection) -> list[Month]:
    """The months there are, the oldest first."""
    children = text(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = to_regclass(:name)"
    )
    names = (await connection.execute(children, {"name": event.name})).scalars()
    return sorted(Month(*map(int, name.rsplit("_", 2)[1:])) for name in names)


async def drop_month(connection: AsyncConnection, month: Month) -> None:
    """Let go of a month and all its events at once."""
    await connection.execute(text(f"DROP TABLE {month.table}"))
