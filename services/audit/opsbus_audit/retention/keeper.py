"""The worker's part that applies the retention policy now and then, and says so in the record."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import ColumnElement
from sqlalchemy.exc import SQLAlchemyError

from opsbus.logs import Log
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_audit.retention.let_go import carry_out, plan
from opsbus_audit.retention.rules import RetentionRule
from opsbus_audit.store import AuditStore
from opsbus_contracts.audit import PlatformStage

ACTOR = "audit"


async def keep(
    store: AuditStore,
    record: PlatformAudit,
    rules: Sequence[RetentionRule],
    provable: ColumnElement[bool],
    every_s: float,
    log: Log,
) -> None:
    """Apply the rules for ever. What is about to be let go is recorded first; when that fails nothing is deleted."""
    while rules:
        try:
            await once(store, record, rules, provable, log)
        except NotRecordedError as error:
            log.warning("nothing was let go: the record did not take it", error=str(error))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("retention failed, trying again later", error=type(error).__name__)
        await asyncio.sleep(every_s)


async def once(
    store: AuditStore,
    record: PlatformAudit,
    rules: Sequence[RetentionRule],
    provable: ColumnElement[bool],
    log: Log,
) -> int:
    """Apply the rules now.

    Returns:
        Events that were deleted.

    Raises:
        NotRecordedError: the record did not take the announcement; nothing was deleted.
    """
    due = await plan(store.engine, rules)
    if not due.events:
        return 0
    by_rule = {rule.said(): count for rule, count in due.by_rule if count}
    await record.record(
        PlatformStage.LET_GO,
        actor=ACTOR,
        target="store",
        reason="retention policy",
        details={"events": due.events, "held": due.held, "by_rule": by_rule},
    )
    done = await carry_out(store.engine, rules, provable)
    log.info("let go of events", events=done.events, held=due.held, months=done.months)
    return done.events
