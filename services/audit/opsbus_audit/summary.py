"""Who did what to which system: ended calls of a period, grouped and counted. The tool and the report both ask here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, and_, cast, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.search import Question, matches, moment_of
from opsbus_contracts.audit import ENDS

_event = tables.event
GROUPS = ("actor", "service", "tool", "outcome", "stage", "error", "method")
"""What may be grouped by."""


@dataclass(frozen=True)
class Group:
    """One line of a summary."""

    by: dict[str, str]
    calls: int
    writes: int
    first: datetime
    last: datetime


async def summarize(
    engine: AsyncEngine, question: Question, by: Sequence[str], limit: int, offset: int = 0
) -> list[Group]:
    """The largest groups of calls that ended, each call once.

    Args:
        by: Of GROUPS.

    Raises:
        ValueError: another field.
    """
    unknown = [name for name in by if name not in GROUPS]
    if unknown:
        raise ValueError(f"cannot group by {unknown[0]!r}")
    columns = [_event.c[name] for name in by]
    calls = func.count().label("calls")
    where = and_(matches(question), _event.c.stage.in_([stage.value for stage in ENDS]), _event.c.unreadable.is_(False))
    statement = (
        select(
            *columns,
            calls,
            func.sum(cast(_event.c.mutating, Integer)).label("writes"),
            func.min(_event.c.stored_ns).label("first"),
            func.max(_event.c.stored_ns).label("last"),
        )
        .where(where, _event.c.duplicate_of.is_(None))
        .group_by(*columns)
        .order_by(calls.desc(), *columns)
        .limit(limit)
        .offset(offset)
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
    return [_group(row, by) for row in rows]


def _group(row: Any, by: Sequence[str]) -> Group:
    return Group(
        by={name: getattr(row, name) for name in by},
        calls=int(row.calls),
        writes=int(row.writes or 0),
        first=moment_of(int(row.first)),
        last=moment_of(int(row.last)),
    )
