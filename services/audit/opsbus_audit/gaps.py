"""The worker's part that tells of numbers that stay missing: in the record itself, in the log, in a metric."""

import asyncio
import json
import time

from sqlalchemy import or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus.database import serialize
from opsbus.logs import Log
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_audit import tables
from opsbus_audit.metrics import StoreMetrics
from opsbus_audit.sources import Run, runs_of
from opsbus_audit.store import AuditStore
from opsbus_contracts.audit import PlatformStage

ACTOR = "audit"
_source = tables.source


async def watch(store: AuditStore, record: PlatformAudit, metrics: StoreMetrics, after_s: float, log: Log) -> None:
    """Look for ever. What is missing for ``after_s`` is told once, and once more when it has come."""
    while True:
        try:
            metrics.missing.set(await once(store, record, after_s, log))
        except NotRecordedError as error:
            log.warning("a gap in the record could not be recorded, trying again", error=str(error))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("the sources' numbers cannot be looked at, trying again", error=type(error).__name__)
        await asyncio.sleep(max(0.1, after_s / 2))


async def once(store: AuditStore, record: PlatformAudit, after_s: float, log: Log) -> int:
    """Look now; returns how many events are missing for so long.

    Raises:
        NotRecordedError: the record did not take what was found; it is told the next time.
    """
    before_us = time.time_ns() // 1_000 - int(after_s * 1e6)
    changed = select(_source).where(or_(_source.c.missing != "[]", _source.c.told != "[]"))
    events = 0
    async with store.engine.begin() as connection:
        # Of several workers one tells.
        await serialize(connection, "audit_gaps")
        for row in (await connection.execute(changed.order_by(_source.c.source))).all():
            stay = [run for run in runs_of(row.missing) if run.since_us <= before_us]
            events += sum(run.last - run.first + 1 for run in stay)
            await _tell(connection, record, row.source, stay, runs_of(row.told), log)
    return events


async def _tell(
    connection: AsyncConnection, record: PlatformAudit, source: str, stay: list[Run], told: list[Run], log: Log
) -> None:
    known = [run for run in stay if any(one.first <= run.first and run.last <= one.last for one in told)]
    new = [run for run in stay if run not in known]
    came = [one for one in told if not any(one.first <= run.last and run.first <= one.last for run in stay)]
    for stage, runs in ((PlatformStage.GAP_FOUND, new), (PlatformStage.GAP_CLOSED, came)):
        for run in runs:
            log.warning(f"record: {stage.value}", source=source, first=run.first, last=run.last)
            details = {"first": run.first, "last": run.last, "events": run.last - run.first + 1}
            await record.record(stage, actor=ACTOR, target=source, details=details)
    if new or came:
        left = [one for one in told if one not in came] + new
        await connection.execute(update(_source).where(_source.c.source == source).values(told=json.dumps(left)))
