"""The workers the record knows of, in the store, and the events of their coming and going on the way to the stream.

A table of its own, rather than the joined and left events that are stored: those arrive late and retention lets go of
them. A change and its event are committed together and the event goes to the stream afterwards, under the same id as
often as it takes: a process that dies in between invents nothing and loses nothing. Seeing the changes: watch.py.
"""

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from nats.js import JetStreamContext
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.database import serialize
from opsbus.events import source
from opsbus.platform_audit import NotRecordedError, platform_event, store_event
from opsbus_audit import tables
from opsbus_contracts import AuditEvent
from opsbus_contracts.audit import PlatformStage

IDENTITY = "audit"
_worker = tables.worker
_BEHIND_US = 60_000_000
"""One of several audit workers may be behind the others by this much. Microseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance as its manifest says."""

    service: str
    instance: str
    version: str = ""
    started: str = ""
    """Tells two lives under one name apart."""
    tools: int = 0
    problem: str = ""
    """Why the manifest cannot be read; empty: it can."""
    at_us: int = field(default_factory=lambda: time.time_ns() // 1_000)
    """When this was seen. Unix microseconds."""

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return f"{self.service}.{self.instance}"


class KnownWorkers:
    """The table, and the events that follow from its changes.

    Args:
        engine: Of the store; its schema is there.
        js: Of the identity ``audit``.
    """

    def __init__(self, engine: AsyncEngine, js: JetStreamContext) -> None:
        self._engine = engine
        self._js = js
        self._instance = f"{IDENTITY}-workers-{secrets.token_hex(4)}"
        self._source = source(IDENTITY, self._instance)
        self._seq = 0
        """Of the last event that was committed: one that was not leaves no gap."""

    async def present(self) -> dict[str, str]:
        """``started`` of those that are there, by key.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError
        """
        async with self._engine.connect() as connection:
            rows = (await connection.execute(select(_worker).where(_worker.c.present.is_(True)))).all()
        return {f"{row.service}.{row.instance}": row.started for row in rows}

    async def joined(self, seen: Seen) -> None:
        """An instance is there; nothing when that is known. One that runs anew under its name has left before.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError, NotRecordedError: call again.
        """
        await self.publish()  # what happened to this instance before goes first
        row = await self._row(seen)
        if row is not None and row.present and row.started != seen.started and not self._is_old(seen, row):
            await self.left(replace(seen, started=row.started), "replaced")
        await self._change(seen, None)

    async def left(self, seen: Seen, why: str) -> None:
        """An instance is gone; nothing when this life of it is not known to be there.

        Args:
            seen: With ``started`` of the life that ended, and when that was seen.
            why: ``drained``, ``expired``, ``unseen`` or ``replaced``.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError, NotRecordedError: call again.
        """
        await self.publish()
        await self._change(seen, why)

    async def publish(self) -> None:
        """Store in the stream what is not known to be there, the oldest first.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError, NotRecordedError: call again.
        """
        async with self._engine.connect() as connection:
            waiting = select(_worker).where(_worker.c.event.is_not(None)).order_by(_worker.c.noted_us)
            rows = (await connection.execute(waiting)).all()
        for row in rows:
            event = AuditEvent.model_validate_json(row.event)
            if event.source == self._source:
                self._seq = max(self._seq, event.data.seq)
            await store_event(self._js, IDENTITY, event)
            async with self._engine.begin() as connection:
                await _settle(connection, row)

    async def _change(self, seen: Seen, why: str | None) -> None:
        """Commit a change with its event, then publish. ``why``: of a leaving; None: the instance joined."""
        async with self._engine.begin() as connection:
            await serialize(connection, _worker.name)
            row = (await connection.execute(select(_worker).where(*_is(seen)))).one_or_none()
            known = row is not None and row.present
            if known is (why is None) or (row is not None and self._is_old(seen, row)):
                return
            if known and row is not None and row.started != seen.started:
                return
            if row is not None and row.event is not None:
                raise NotRecordedError("the event of the change before is on its way from another audit worker")
            event = self._event(seen, why, row)
            values = {
                "present": why is None,
                "noted_us": seen.at_us,
                "noted_by": self._instance,
                "event": event.model_dump_json().encode(),
            }
            if why is None:
                values |= {"started": seen.started, "version": seen.version, "tools": seen.tools}
            if row is not None:
                # SQLite lets another process in between: only what was read is changed.
                same = (_worker.c.noted_by == row.noted_by, _worker.c.noted_us == row.noted_us)
                as_read = (*_is(seen), *same, _worker.c.present.is_(row.present), _worker.c.event.is_(None))
                if (await connection.execute(update(_worker).where(*as_read).values(**values))).rowcount != 1:
                    raise NotRecordedError("another audit worker notes the same instance at this moment")
            else:
                await connection.execute(insert(_worker).values(service=seen.service, instance=seen.instance, **values))
            await connection.execute(delete(_worker).where(*_long_gone(seen.at_us)))
        self._seq = max(self._seq, event.data.seq)
        await self.publish()

    def _is_old(self, seen: Seen, row: Any) -> bool:
        """Another audit worker has noted something later about this instance: this one is behind."""
        return bool(row.noted_by != self._instance and 0 < row.noted_us - seen.at_us < _BEHIND_US)

    def _event(self, seen: Seen, why: str | None, row: Any) -> AuditEvent:
        if why is None:
            details: dict[str, Any] = {"tools": seen.tools, "started_at": seen.started}
            details |= {"problem": seen.problem} if seen.problem else {}
            version, stage = seen.version, PlatformStage.WORKER_JOINED
        else:
            details = {"why": why, "tools": row.tools, "started_at": row.started}
            version, stage = row.version, PlatformStage.WORKER_LEFT
        return platform_event(
            IDENTITY,
            self._instance,
            self._seq + 1,
            stage,
            actor=seen.service,
            service=seen.service,
            instance=seen.instance,
            version=version,
            target=f"worker/{seen.instance}",
            details=details,
        )

    async def _row(self, seen: Seen) -> Any:
        async with self._engine.connect() as connection:
            return (await connection.execute(select(_worker).where(*_is(seen)))).one_or_none()


async def _settle(connection: AsyncConnection, row: Any) -> None:
    """The stream has the row's event."""
    same = (_worker.c.service == row.service, _worker.c.instance == row.instance, _worker.c.event == row.event)
    await connection.execute(update(_worker).where(*same).values(event=None))


def _is(seen: Seen) -> tuple[Any, Any]:
    return _worker.c.service == seen.service, _worker.c.instance == seen.instance


def _long_gone(now_us: int) -> tuple[Any, ...]:
    """Rows of workers that left so long ago that no other audit worker can still be behind them."""
    return _worker.c.present.is_(False), _worker.c.event.is_(None), _worker.c.noted_us < now_us - 10 * _BEHIND_US
