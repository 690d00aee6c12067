"""The store as a verifier reads it: its leaves, events and checkpoints, and the proof of an export of it."""

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy import and_, exists, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus_audit import tables
from opsbus_audit.proof import bundle, merkle, tree
from opsbus_audit.proof.bundle import Proof
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, frame, open_checkpoint
from opsbus_audit.proof.finding import Finding, Kind, Report
from opsbus_audit.proof.leaf import Event, Run, Told, leaves_of
from opsbus_audit.proof.match import Chunk, Matcher
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.proof.note import NoteError, VerifierKey
from opsbus_audit.proof.roots import Roots
from opsbus_audit.retention.let_go import ranges

X = TypeVar("X")

_READ_EVENTS = 4_000
_READ_RUNS = 64
_COLUMNS = ("sequence", "stored_ns", "subject", "headers", "payload")


async def lives(engine: AsyncEngine) -> list[str]:
    """The lives of the stream that the tree has leaves of, in order."""
    column = tables.leaves.c
    statement = select(column.stream).group_by(column.stream).order_by(func.min(column.position))
    async with engine.connect() as connection:
        return list((await connection.execute(statement)).scalars())


async def chain(engine: AsyncEngine, life: str) -> list[str]:
    """The lives that together are the stream as it is now: a stream that was restored from a backup has another time
    of creation, and goes on where it was.

    Args:
        life: The stream's present one; when the tree knows nothing of it, its last one counts.
    """
    column = tables.leaves.c
    statement = select(column.stream, func.min(column.first), func.max(column.last)).group_by(column.stream)
    async with engine.connect() as connection:
        rows = (await connection.execute(statement.order_by(func.min(column.position)))).all()
    spans = {stream: (first, last) for stream, first, last in rows}
    known = list(spans)
    if not known:
        return []
    at = known.index(life) if life in spans else len(known) - 1
    found = [known[at]]
    while at and spans[known[at - 1]][1] + 1 == spans[known[at]][0]:
        at -= 1
        found.insert(0, known[at])
    return found


async def checkpoints(engine: AsyncEngine, above: int = 0) -> AsyncIterator[Entry]:
    """The checkpoints of the store over more than ``above`` leaves, the smallest first.

    Raises:
        NoteError: one cannot be read.
    """
    column = tables.checkpoint.c
    while True:
        statement = select(column.size, column.entry).where(column.size > above).order_by(column.size).limit(500)
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        for size, text in rows:
            above = size
            yield Entry.parse(text)
        if not rows:
            return


async def verify_store(engine: AsyncEngine, keys: Sequence[VerifierKey], told: Told | None = None) -> Report:
    """Check everything the store holds."""
    began = time.perf_counter()
    report = Report("store")
    await check_leaves(engine, keys, report)
    for stream in await lives(engine):
        matcher = Matcher(await _let_go(engine, stream))
        await drive(matcher, runs_by_sequence(engine, stream), events(engine, stream), told)
        add(report, matcher)
        report.let_go += await _let_go(engine, stream)
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


async def runs_by_sequence(engine: AsyncEngine, stream: str, first: int = 0, last: int = 1 << 62) -> AsyncIterator[Run]:
    """The leaves of a life of the stream in its order."""
    column = tables.leaves.c
    columns = (column.position, column.stream, column.first, column.hashes)
    after = -1
    while True:
        statement = select(*columns).where(
            column.stream == stream, column.first > after, column.last >= first, column.first <= last
        )
        async with engine.connect() as connection:
            rows = (await connection.execute(statement.order_by(column.first).limit(_READ_RUNS))).all()
        for position, name, begin, hashes in rows:
            after = begin
            run = Run(position, name, begin, bytes(hashes))
            yield run.part(max(begin, first), min(run.last, last))
        if not rows:
            return


async def events(
    engine: AsyncEngine, stream: str, first: int = -(1 << 62), last: int = 1 << 62
) -> AsyncIterator[Chunk]:
    """The events of a life of the stream in its order, hashed."""
    column = tables.event.c
    columns = [column[name] for name in _COLUMNS]
    after, after_ns = first - 1, 1 << 62
    while True:
        statement = select(*columns).where(column.stream == stream, column.sequence <= last)
        # A sequence with two times is what somebody forged: none of them is passed over.
        later = (column.sequence > after) | ((column.sequence == after) & (column.stored_ns > after_ns))
        statement = statement.where(later).order_by(column.sequence, column.stored_ns).limit(_READ_EVENTS)
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        if not rows:
            return
        found = [tree.event_of(dict(row._mapping)) for row in rows]
        after, after_ns = found[-1].sequence, found[-1].time_ns
        yield chunk(found)


def chunk(found: Sequence[Event]) -> Chunk:
    """Events, hashed."""
    numbers: Sequence[int] = [event.sequence for event in found]
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1 and len(set(numbers)) == len(numbers):
        numbers = range(numbers[0], numbers[-1] + 1) if numbers == sorted(numbers) else numbers
    return Chunk(numbers, leaves_of(found), lambda: found)


async def drive(
    matcher: Matcher, leaves: AsyncIterator[Run], given: AsyncIterator[Chunk], told: Told | None = None
) -> None:
    """Feed a matcher until it has seen all, or found something."""
    last_leaf = last_event = False
    before = 0
    while matcher.finding is None and not (last_leaf and last_event):
        while matcher.wants_leaves and not last_leaf:
            run = await anext(leaves, None)
            last_leaf = run is None
            if run is not None:
                matcher.leaves(run)
        if matcher.wants_events and not last_event:
            some = await anext(given, None)
            last_event = some is None
            if some is not None:
                matcher.events(some)
        matcher.step(last_leaf=last_leaf, last_event=last_event)
        if last_event and not last_leaf and matcher.finding is None:
            async for run in leaves:
                matcher.leaves(run)
                matcher.step(last_leaf=False, last_event=True)
            last_leaf = True
            matcher.step(last_leaf=True, last_event=True)
        if told is not None and matcher.matched > before:
            told(matcher.matched - before)
            before = matcher.matched


async def write_proof(engine: AsyncEngine, folder: Path, streams: Sequence[str], first: int, last: int) -> Proof:
    """Write ``leaves.bin``, ``checkpoints.txt`` and ``proof.json`` for the sequences ``first`` to ``last``.

    Args:
        engine: The store.
        folder: Of the export; ``events.ndjson`` may be there already or come later, ``bundle.seal`` comes last.
        streams: The lives of the stream that the range is of.

    Raises:
        ProofError: the store's tree is damaged.
    """
    column = tables.leaves.c
    inside = (column.stream.in_(streams), column.first <= last, column.last >= first)
    async with engine.connect() as connection:
        whole = select(func.min(column.position), func.max(column.position + column.last - column.first + 1))
        begin, end = (await connection.execute(whole.where(*inside))).one()
        begin, end = begin or 0, end or 0
        runs: list[tuple[int, str, int, int]] = []
        (folder / bundle.LEAVES).write_bytes(b"")
        async for run in tree.runs(connection, begin, end):
            bundle.write_leaves(folder, [run])
            before = runs[-1] if runs else None
            if before and (before[1], before[2] + before[3]) == (run.stream, run.first):
                runs[-1] = (*before[:3], before[3] + run.leaves)
            else:
                runs.append((run.position, run.stream, run.first, run.leaves))
        size, origin = await _write_checkpoints(engine, folder, begin, end)
        parts = merkle.perfect_parts(end, size) if size > end else []
        right = [
            (level, (await tree.subtree(connection, index << level, (index + 1) << level)).hex())
            for level, index in parts
        ]
        left = (await tree.frontier_at(connection, begin)).roots
        spans = [span for stream in streams for span in await ranges(connection, stream)]
    proof = Proof(
        origin=origin,
        position=begin,
        size=size,
        left=[root.hex() for root in left],
        right=right,
        runs=runs,
        let_go=[span for span in spans if span[0] <= last and span[1] >= first],
    )
    (folder / bundle.PROOF).write_text(proof.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return proof


async def last_checkpoint(engine: AsyncEngine) -> Entry | None:
    """The largest that is signed."""
    statement = select(tables.checkpoint.c.entry).order_by(tables.checkpoint.c.size.desc()).limit(1)
    async with engine.connect() as connection:
        text = (await connection.execute(statement)).scalar_one_or_none()
    return None if text is None else Entry.parse(text)


async def _write_checkpoints(engine: AsyncEngine, folder: Path, begin: int, end: int) -> tuple[int, str]:
    last = await last_checkpoint(engine)
    size, origin = 0, ""
    with (folder / bundle.CHECKPOINTS).open("wb") as file:
        async for entry in checkpoints(engine, begin):
            one = Checkpoint.of(entry.note)
            if one.size > end:
                break
            file.write(frame(entry))
            size, origin = one.size, one.origin
        if last is not None:
            one = Checkpoint.of(last.note)
            if one.size > max(size, begin):
                file.write(frame(last))
                size, origin = one.size, one.origin
    return size, origin


async def _let_go(engine: AsyncEngine, stream: str) -> list[tuple[int, int]]:
    async with engine.connect() as connection:
        return await ranges(connection, stream)


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


def add(report: Report, matcher: Matcher) -> None:
    """What a matcher found, into the report."""
    report.events += matcher.matched
    report.let_go_events += matcher.skipped
    report.found(matcher.finding)


async def last_sequence(engine: AsyncEngine) -> int:
    """The last sequence that has a leaf in the stream's present life; 0: none has."""
    column = tables.leaves.c
    statement = select(column.last).order_by(column.position.desc()).limit(1)
    async with engine.connect() as connection:
        return int((await connection.execute(statement)).scalar_one_or_none() or 0)


async def verify_part(engine: AsyncEngine, keys: Sequence[VerifierKey], first: int, last: int) -> Report:
    """Check the events of some sequences, and that their leaves are under the last checkpoint; the rest is not looked
    at.

    Raises:
        ProofError, NoteError: the tree or its checkpoint is damaged.
    """
    report = Report("store", first=first, last=max(last, first - 1))
    streams = await chain(engine, "")
    matcher = Matcher([span for stream in streams for span in await _let_go(engine, stream)])
    runs = [run for stream in streams async for run in runs_by_sequence(engine, stream, first, last)]
    for run in runs:
        report.unsigned += await _check_run(engine, keys, run, report)
    chunks = [some for stream in streams async for some in events(engine, stream, first, last)]
    await drive(matcher, _each(runs), _each(chunks))
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
