"""Events that are still to be told: written in the transaction that stored what they tell of, taken out when the
stream has them. Who dies between leaves them to the next; so each is told at least once."""

import secrets
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import tables
from opsbus_cmdb.among import among

UPDATED = "resource_updated"
_AT_ONCE = 500


class Telling(BaseModel):
    """An event to be told. Its id is the message's, so that telling it twice within the stream's window is once."""

    id: str
    kind: str
    subject: str
    data: dict[str, Any]
    at: datetime


def telling(kind: str, subject: str, data: dict[str, Any], at: datetime) -> Telling:
    """An event with an id of its own; later ones have greater ids."""
    return Telling(id=ordered_id(), kind=kind, subject=subject, data=data, at=at)


def ordered_id() -> str:
    """An id that nobody else makes, in the order of time."""
    return f"{time.time_ns():020d}-{secrets.token_hex(8)}"


def updated(uris: Iterable[str], at: datetime) -> list[Telling]:
    """That resources changed."""
    return [telling(UPDATED, uri, {"uri": uri}, at) for uri in sorted(set(uris))]


async def put(connection: AsyncConnection, tellings: list[Telling]) -> None:
    """Keep events until they are told."""
    if tellings:
        await connection.execute(insert(tables.outbox), [item.model_dump() for item in tellings])


async def waiting(connection: AsyncConnection) -> list[Telling]:
    """What is still to be told, the oldest first."""
    chosen = select(tables.outbox).order_by(tables.outbox.c.id).limit(_AT_ONCE)
    return [Telling.model_validate(row._mapping) for row in await connection.execute(chosen)]


async def told(connection: AsyncConnection, ids: list[str]) -> None:
    """The stream has them."""
    if ids:
        await connection.execute(delete(tables.outbox).where(among(tables.outbox.c.id, ids, connection.dialect.name)))
