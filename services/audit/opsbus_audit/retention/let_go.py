"""Letting go: events that a rule has outlived and no hold covers are deleted from the store, in small steps, and which
sequences they were is remembered, so that a verifier can tell what was let go from what was taken away.

Never before an event is in the tree: its leaf stays, and with it every proof. The stream keeps its 90 days itself.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, delete, func, insert, not_, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.database import serialize
from opsbus_audit.partitions import drop_month, is_partitioned, month_of, months
from opsbus_audit.retention.holds import covered, holds
from opsbus_audit.retention.rules import RetentionRule, expired
from opsbus_audit.tables import event, let_go

STEP = 2_000
"""Events deleted in one transaction: the consumer writes in between."""


@dataclass
class LetGo:
    """What was let go, or would be."""

    by_rule: list[tuple[RetentionRule, int]] = field(default_factory=list)
    held: int = 0
    """Events past their time that a hold keeps."""
    ranges: int = 0
    """Runs of sequences that were deleted."""
    months: list[str] = field(default_factory=list)
    """Months of the table that were dropped whole."""

    @property
    def events(self) -> int:
        """All together."""
        return sum(count for _, count in self.by_rule)


async def plan(engine: AsyncEngine, rules: Sequence[RetentionRule], now_ns: int | None = None) -> LetGo:
    """What the rules and holds come to now; nothing is deleted."""
    found = LetGo()
    async with engine.connect() as connection:
        conditions = expired(rules, time.time_ns() if now_ns is None else now_ns)
        kept = covered(await holds(connection))
        for rule, condition in zip(rules, conditions, strict=True):
            found.by_rule.append((rule, await _count(connection, and_(condition, not_(kept)))))
        found.held = await _count(connection, and_(or_(*conditions), kept)) if conditions else 0
    return found


async def carry_out(
    engine: AsyncEngine,
    rules: Sequence[RetentionRule],
    provable: ColumnElement[bool],
    now_ns: int | None = None,
) -> LetGo:
    """Delete what ``plan`` says, as far as it is in the tree.

    Args:
        engine: The store, for writing.
        rules: In order.
        provable: The condition under which an event's leaf is kept.
        now_ns: The moment; the present one unless given. Unix nanoseconds.
    """
    now = time.time_ns() if now_ns is None else now_ns
    done = LetGo()
    for rule, condition in zip(rules, expired(rules, now), strict=True):
        count = 0
        while True:
            async with engine.begin() as connection:
                # Read anew at every step: a hold that is placed now holds now.
                await serialize(connection, "retention", event.name)
                kept = covered(await holds(connection))
                deleted = await _step(connection, and_(condition, provable, not_(kept)), now, done)
            count += deleted
            if deleted < STEP:
                break
        done.by_rule.append((rule, count))
    async with engine.begin() as connection:
        await _drop_empty(connection, now, done)
    return done


async def ranges(connection: AsyncConnection, stream: str) -> list[tuple[int, int]]:
    """``(first, last)`` of the sequences of a stream's life that were let go, in order, joined."""
    statement = select(let_go.c.first, let_go.c.last).where(let_go.c.stream == stream).order_by(let_go.c.first)
    joined: list[tuple[int, int]] = []
    for first, last in (await connection.execute(statement)).all():
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


async def _count(connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
    return int((await connection.execute(select(func.count()).select_from(event).where(condition))).scalar_one())


async def _step(connection: AsyncConnection, condition: ColumnElement[bool], now_ns: int, done: LetGo) -> int:
    key = (event.c.stream, event.c.sequence, event.c.stored_ns)
    chosen = [tuple(row) for row in (await connection.execute(select(*key).where(condition).limit(STEP))).all()]
    if not chosen:
        return 0
    for start in range(0, len(chosen), 500):
        await connection.execute(delete(event).where(tuple_(*key).in_(chosen[start : start + 500])))
    runs = list(_runs((stream, sequence) for stream, sequence, _ in chosen))
    rows = [{"stream": s, "first": first, "last": last, "let_go_us": now_ns // 1_000} for s, first, last in runs]
    await connection.execute(insert(let_go), rows)
    done.ranges += len(runs)
    return len(chosen)


def _runs(keys: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int, int]]:
    run: tuple[str, int, int] | None = None
    for stream, sequence in sorted(keys):
        if run is not None and run[0] == stream and sequence == run[2] + 1:
            run = (stream, run[1], sequence)
            continue
        if run is not None:
            yield run
        run = (stream, sequence, sequence)
    if run is not None:
        yield run


async def _drop_empty(connection: AsyncConnection, now_ns: int, done: LetGo) -> None:
    """Months that are over and have nothing left: their space is free at once."""
    if not await is_partitioned(connection):
        return
    present = month_of(now_ns)
    for month in await months(connection):
        inside = and_(event.c.stored_ns >= month.first_ns, event.c.stored_ns < month.next.first_ns)
        if month < present and not await _count(connection, inside):
            await drop_month(connection, month)
            done.months.append(month.table)
