"""Legal holds: what they cover is not let go of, whatever the rules say, until they are lifted. A lifted hold stays
in its table: that it was there is a fact too."""

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_audit.retention.rules import matching
from opsbus_audit.tables import event, hold

COVERS = ("actor", "tool", "service", "call", "stage")


class HoldError(Exception):
    """A hold cannot be placed or lifted; one line."""


@dataclass(frozen=True)
class Hold:
    """A hold as it stands in the store."""

    id: str
    reason: str
    placed_by: str
    placed_at: datetime
    covers: dict[str, str]
    """Globs of actor, tool, service, call, stage; ``since`` and ``until`` in RFC 3339."""
    lifted_at: datetime | None = None
    lifted_by: str = ""
    lifted_reason: str = ""

    def condition(self) -> ColumnElement[bool]:
        """The events it covers."""
        conditions = [matching({name: self.covers.get(name) for name in COVERS})]
        if since := self.covers.get("since"):
            conditions.append(event.c.stored_ns >= _ns(since))
        if until := self.covers.get("until"):
            conditions.append(event.c.stored_ns < _ns(until))
        return and_(*conditions)


async def place(connection: AsyncConnection, reason: str, by: str, covers: dict[str, str]) -> Hold:
    """Place a hold.

    Raises:
        HoldError: no reason, or something else than COVERS, since and until is covered.
    """
    unknown = covers.keys() - {*COVERS, "since", "until"}
    if unknown:
        raise HoldError(f"a hold covers {', '.join(COVERS)}, since and until, not {sorted(unknown)[0]!r}")
    if not reason.strip():
        raise HoldError("a hold needs a reason")
    placed = Hold(secrets.token_hex(6), reason, by, datetime.now(UTC), covers)
    await connection.execute(
        insert(hold).values(
            id=placed.id,
            reason=reason,
            placed_by=by,
            placed_us=_us(placed.placed_at),
            covers=json.dumps(covers, sort_keys=True),
        )
    )
    return placed


async def lift(connection: AsyncConnection, id: str, reason: str, by: str) -> Hold:
    """Lift a hold.

    Raises:
        HoldError: there is none with this id in force.
    """
    if not reason.strip():
        raise HoldError("lifting a hold needs a reason")
    changed = await connection.execute(
        update(hold)
        .where(hold.c.id == id, hold.c.lifted_us.is_(None))
        .values(lifted_us=time.time_ns() // 1_000, lifted_by=by, lifted_reason=reason)
    )
    if not changed.rowcount:
        raise HoldError(f"no hold {id!r} is in force; 'opsbus audit hold list' names them")
    return next(found for found in await holds(connection, lifted=True) if found.id == id)


async def holds(connection: AsyncConnection, *, lifted: bool = False) -> list[Hold]:
    """The holds in force, the oldest first; with ``lifted`` those too that were."""
    statement = select(hold).order_by(hold.c.placed_us)
    if not lifted:
        statement = statement.where(hold.c.lifted_us.is_(None))
    return [_hold(row) for row in (await connection.execute(statement)).mappings()]


def covered(found: list[Hold]) -> ColumnElement[bool]:
    """The events that any of these covers."""
    return or_(false(), *(one.condition() for one in found))


def _hold(row: Any) -> Hold:
    return Hold(
        id=row["id"],
        reason=row["reason"],
        placed_by=row["placed_by"],
        placed_at=_moment(row["placed_us"]),
        covers=json.loads(row["covers"]),
        lifted_at=_moment(row["lifted_us"]) if row["lifted_us"] else None,
        lifted_by=row["lifted_by"] or "",
        lifted_reason=row["lifted_reason"] or "",
    )


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000) * 1_000
