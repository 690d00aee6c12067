"""The worker's part that closes calls whose end nobody recorded: their edge died, or could not reach the record.

A call is closed as ``unknown`` when its deadline and a grace are over, everything that the stream had then is stored,
and the store has no end of it. An end that comes later, out of an edge's spool, is recorded beside that.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus.logs import Log
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_audit import tables
from opsbus_audit.metrics import StoreMetrics
from opsbus_audit.open_calls import ANSWERED, NO_DEADLINE_MS, OpenCall
from opsbus_audit.record import Note, read_event
from opsbus_audit.store import AuditStore
from opsbus_contracts.audit import AuditRecord, Stage
from opsbus_contracts.errors import ErrorCode, Executed
from opsbus_contracts.streams import AUDIT_STORE

_event = tables.event
BATCH = 500
"""Calls that are looked up with one statement."""
LOOK_BACK_MS = 2 * NO_DEADLINE_MS
"""How far before the store's last event a call may have been requested that is not over yet."""
_KEPT = {
    "call", "actor", "roles", "auth", "client", "protocol", "method", "tool", "service", "mutating", "change_id",
    "trace_id",
}  # fmt: skip
"""What an end repeats of its request."""
_MESSAGE = "no end was recorded by the deadline: the edge that had the call died, or cannot reach the record"
_ERRORS = (nats.errors.Error, nats.js.errors.Error, NotRecordedError, SQLAlchemyError, OSError, TimeoutError)


class _Overdue(NamedTuple):
    """Calls to close once the store has the stream up to a sequence."""

    sequence: int
    calls: list[OpenCall]


class Closing:
    """Closes calls for one store.

    Args:
        grace_s: After a call's deadline, for an end that is under way.
    """

    def __init__(
        self,
        store: AuditStore,
        js: JetStreamContext,
        record: PlatformAudit,
        metrics: StoreMetrics,
        grace_s: float,
        log: Log,
    ) -> None:
        self._store = store
        self._js = js
        self._record = record
        self._metrics = metrics
        self._grace_ms = int(grace_s * 1000)
        self._log = log
        self._overdue: deque[_Overdue] = deque()

    async def run(self) -> None:
        """Find what was open before, then look for ever."""
        known = False
        while True:
            try:
                if not known:
                    await self._find_open()
                    known = True
                await self.once()
            except _ERRORS as error:
                self._log.warning("calls without an end cannot be closed, trying again", error=repr(error)[:300])
            await asyncio.sleep(max(0.05, min(self._grace_ms / 2000, 10.0)))

    async def once(self) -> int:
        """Look now; returns how many calls were closed. Whatever it raises, nothing is forgotten."""
        calls = self._store.open_calls
        self._metrics.open_calls.set(len(calls))
        overdue = calls.take_overdue(int(time.time() * 1000) - self._grace_ms)
        if overdue:
            # Not known yet; at worst nothing is closed before the stream could be asked.
            self._overdue.append(_Overdue(-1, overdue))
        closed = 0
        for _ in range(len(self._overdue)):
            one = self._overdue[0]
            if one.sequence < 0:
                one = self._overdue[0] = one._replace(sequence=await self._last_sequence())
            if one.sequence > await self._stored_up_to():
                break
            while one.calls:
                closed += await self._close(one.calls[:BATCH])
                del one.calls[:BATCH]
            self._overdue.popleft()
        return closed

    async def _last_sequence(self) -> int:
        return int((await self._js.stream_info(AUDIT_STORE.stream)).state.last_seq)

    async def _stored_up_to(self) -> int:
        """Everything up to this sequence is stored, by whichever worker."""
        floor = (await self._js.consumer_info(AUDIT_STORE.stream, AUDIT_STORE.name)).ack_floor
        return int(floor.stream_seq) if floor is not None else 0

    async def _close(self, calls: Sequence[OpenCall]) -> int:
        deadlines = dict(calls)
        columns = (_event.c.call, _event.c.stage, _event.c.sequence, _event.c.payload)
        statement = select(*columns).where(_event.c.call.in_(deadlines)).order_by(_event.c.stored_ns)
        async with self._store.engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        ended = {row.call for row in rows if row.stage in ANSWERED}
        closed = 0
        for row in rows:
            if row.stage == Stage.REQUESTED and row.call not in ended:
                ended.add(row.call)
                await self._write(row.payload, row.call, row.sequence, deadlines[row.call])
                closed += 1
        return closed

    async def _write(self, payload: bytes, call: str, sequence: int, deadline_ms: int) -> None:
        event, _ = read_event(payload)
        asked = event.data if event is not None else AuditRecord(stage=Stage.REQUESTED, call=call)
        facts = {"requested": sequence, "deadline_ms": deadline_ms, "edge": event.source if event else ""}
        await self._record.step(
            AuditRecord(
                **asked.model_dump(include=_KEPT),
                stage=Stage.UNKNOWN,
                executed=Executed.UNKNOWN,
                error=ErrorCode.OUTCOME_UNKNOWN,
                message=_MESSAGE,
                details=facts,
            )
        )
        self._metrics.closed_calls.inc()
        self._log.warning("a call without an end was closed as unknown", call=call, tool=asked.tool)

    async def _find_open(self) -> None:
        """What was requested before this process began, and has no end in the store."""
        found = await _requested(self._store.engine)
        self._store.open_calls.saw(found)
        if found:
            self._log.info("calls without an end were found in the store", calls=len(found))


async def _requested(engine: AsyncEngine) -> list[Note]:
    async with engine.connect() as connection:
        last = (await connection.execute(select(func.max(_event.c.stored_ns)))).scalar_one_or_none()
        if last is None:
            return []
        steps = (
            select(_event.c.call, _event.c.stage, _event.c.sequence, _event.c.stored_ns)
            .where(_event.c.stored_ns >= last - LOOK_BACK_MS * 1_000_000)
            .where(_event.c.stage.in_([Stage.REQUESTED.value, *ANSWERED]))
        )
        asked: dict[str, Note] = {}
        ended: set[str] = set()
        async for row in await connection.stream(steps):
            if row.stage == Stage.REQUESTED:
                if row.call not in ended:
                    asked[row.call] = Note(row.sequence, "", 0, row.stage, row.call, 0, row.stored_ns)
            else:
                ended.add(row.call)
                asked.pop(row.call, None)
        calls = list(asked)
        for at in range(0, len(calls), BATCH):
            requests = select(_event.c.call, _event.c.payload).where(
                _event.c.call.in_(calls[at : at + BATCH]), _event.c.stage == Stage.REQUESTED.value
            )
            for call, payload in await connection.execute(requests):
                event, _ = read_event(payload)
                if event is not None:
                    asked[call] = asked[call]._replace(deadline_ms=event.data.deadline_ms)
        return list(asked.values())
