"""Checking the store: its leaves against the checkpoints, its events against the leaves; all of it, or a part."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from sqlalchemy import and_, exists, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus_audit import tables
from opsbus_audit.proof import merkle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, open_checkpoint
from opsbus_audit.proof.finding import Finding, Kind, Report
from opsbus_audit.proof.leaf import Run, Told
from opsbus_audit.proof.match import Matcher, drive_async
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.proof.note import NoteError, VerifierKey
from opsbus_audit.proof.roots import Roots
from opsbus_audit.proof.stored import chain, checkpoints, events, last_checkpoint, let_go, lives, runs_by_sequence

X = TypeVar("X")


async def verify_store(engine: AsyncEngine, keys: Sequence[VerifierKey], told: Told | None = None) -> Report:
    """Check everything the store holds."""
    began = time.perf_counter()
    report = Report("store")
    await check_leaves(engine, keys, report)
    for stream in await lives(engine):
        matcher = Matcher(await let_go(engine, stream))
        await drive_async(matcher, runs_by_sequence(engine, stream), events(engine, stream), told)
        add(report, matcher)
        report.let_go += await let_go(engine, stream)
    report.found(await _without_leaf(engine))
    report.seconds = time.perf_counter() - began
    return report


async def check_leaves(engine: AsyncEngine, keys: Sequence[VerifierKey], report: Report) -> None:
    """That the leaves of the store are those that were signed."""
    known: list[Checkpoint] = []
    try:
        async for entry in checkpoints(engine):
            known += [open_checkpoint(str(entry.note), *keys)[0]]
    except NoteError as error:
        report.found(Finding(Kind.FORGED, 0, f"a checkpoint of the store: {error}"))
    roots = Roots(Frontier(), known)
    try:
        async with engine.connect() as connection:
            size = (await tree.frontier_of(connection)).size
            async for run in tree.runs(connection, 0, size):
                roots.take(run)
            report.found(roots.end([]))
            if (await tree.frontier_of(connection)).size == size and roots.finding is None:
                theirs = (await tree.frontier_of(connection)).root()
                if theirs != roots.frontier.root():
                    report.found(Finding(Kind.FORGED, 0, "the frontier of the tree is not that of its leaves"))
    except ProofError as error:
        report.found(Finding(Kind.FORGED, 0, f"the leaves of the store: {error}"))
        size = roots.frontier.size
    report.signed = max((one.size for one in known), default=0)
    report.root = known[-1].root.hex() if known else ""
    report.checkpoints = roots.passed
    report.unsigned = max(0, size - report.signed)


async def verify_part(engine: AsyncEngine, keys: Sequence[VerifierKey], first: int, last: int) -> Report:
    """Check the events of some sequences, and that their leaves are under the last checkpoint; the rest is not looked
    at.

    Raises:
        ProofError, NoteError: the tree or its checkpoint is damaged.
    """
    report = Report("store", first=first, last=max(last, first - 1))
    streams = await chain(engine, "")
    matcher = Matcher([span for stream in streams for span in await let_go(engine, stream)])
    runs = [run for stream in streams async for run in runs_by_sequence(engine, stream, first, last)]
    for run in runs:
        report.unsigned += await _check_run(engine, keys, run, report)
    chunks = [some for stream in streams async for some in events(engine, stream, first, last)]
    await drive_async(matcher, _each(runs), _each(chunks))
    add(report, matcher)
    return report


async def _check_run(engine: AsyncEngine, keys: Sequence[VerifierKey], run: Run, report: Report) -> int:
    """That a run of leaves is under the last checkpoint. Returns the leaves that are beyond it."""
    entry = await last_checkpoint(engine)
    if entry is None:
        return run.leaves
    head = open_checkpoint(str(entry.note), *keys)[0] if keys else Checkpoint.of(entry.note)
    report.signed, report.root, report.checkpoints = head.size, head.root.hex(), 1
    if run.position >= head.size:
        return run.leaves
    covered = run.part(run.first, min(run.last, run.first + head.size - run.position - 1))
    async with engine.connect() as connection:
        roots = Roots(await tree.frontier_at(connection, covered.position), [head])
        roots.take(covered)
        right = []
        for level, index in merkle.perfect_parts(covered.position + covered.leaves, head.size):
            right.append((level, await tree.subtree(connection, index << level, (index + 1) << level)))
    found = roots.end(right)
    if found is not None:
        what = f"the leaves of the events {covered.first} to {covered.last} are not under the signed root"
        report.found(Finding(Kind.ALTERED, covered.first, what, covered.last, covered.stream))
    return run.leaves - covered.leaves


async def _each(given: Sequence[X]) -> AsyncIterator[X]:
    for one in given:
        yield one


def add(report: Report, matcher: Matcher) -> None:
    """What a matcher found, into the report."""
    report.events += matcher.matched
    report.let_go_events += matcher.skipped
    report.found(matcher.finding)


async def _without_leaf(engine: AsyncEngine) -> Finding | None:
    """An event of the store that is not in the tree: both are written in one transaction, so somebody put it there."""
    event, leaf = tables.event.c, tables.leaves.c
    inside = and_(leaf.stream == event.stream, leaf.first <= event.sequence, leaf.last >= event.sequence)
    async with engine.connect() as connection:
        has = await _streams_of_events(connection)
        known = set((await connection.execute(select(leaf.stream).distinct())).scalars())
        for stream in has:
            if stream in known:
                continue
            statement = select(func.min(event.sequence)).where(event.stream == stream, not_(exists().where(inside)))
            first = (await connection.execute(statement)).scalar_one()
            if first is not None:
                what = f"event {first} of {stream} was never recorded: the tree has nothing of that stream"
                return Finding(Kind.INVENTED, first, what, 0, stream)
    return None


async def _streams_of_events(connection: AsyncConnection) -> list[str]:
    return list((await connection.execute(select(tables.event.c.stream).distinct())).scalars())
