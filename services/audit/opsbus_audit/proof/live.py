"""The stream as a verifier reads it: what is in AUDIT against the checkpoints in CHECKPOINTS, and, where there is a
store, against its leaf hashes, which name the event exactly. Without one the checkpoints do, to within a thousand.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from nats.aio.client import Client
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit.ordered import Range, Recorded, StreamReader
from opsbus_audit.proof import merkle, stored
from opsbus_audit.proof.checkpoint import Checkpoint, decode_hashes, open_checkpoint
from opsbus_audit.proof.finding import Finding, Kind, Report
from opsbus_audit.proof.in_store import add, check_leaves
from opsbus_audit.proof.leaf import MESSAGE_ID, Event, Run, Told, leaf_of
from opsbus_audit.proof.match import Chunk, Matcher, chunk_of, drive_async
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.proof.note import NoteError, VerifierKey
from opsbus_audit.proof.signer import FRONTIER, OLD, PROOF, RUNS, STREAM, SUBJECT
from opsbus_contracts.streams import AUDIT


@dataclass(frozen=True)
class Head:
    """A checkpoint of the stream, with what was sent along; of that nothing is believed that does not follow."""

    sequence: int
    checkpoint: Checkpoint
    old: int
    proof: tuple[bytes, ...]
    frontier: Frontier
    runs: tuple[tuple[str, int, int], ...]
    """``(stream, first, last)`` of the events since ``old``, in the order of the tree."""


def event_of(recorded: Recorded) -> Event:
    """The event in a message."""
    id = (recorded.headers or {}).get(MESSAGE_ID, "")
    return Event(recorded.sequence, recorded.stored_ns, recorded.subject, id, recorded.payload)


async def life_of(client: Client) -> str:
    """The stream's life, as the store names it."""
    created = (await client.jetstream(timeout=5.0).stream_info(AUDIT.name)).created
    return f"{AUDIT.name}@{created.strftime('%Y%m%dT%H%M%S.%fZ') if created else ''}"


async def heads(
    client: Client, keys: Sequence[VerifierKey], *, first: int = 1, to_end: bool = True
) -> AsyncIterator[Head]:
    """The worker's checkpoints in the stream CHECKPOINTS, each with a signature that holds.

    Raises:
        NoteError, ProofError: one is not what the keys signed, or what is sent along is no proof.
    """
    state = (await client.jetstream(timeout=5.0).stream_info(STREAM)).state
    if to_end and state.messages == 0:
        return
    reader = StreamReader(client, Range(first=first, to_end=to_end, subject="checkpoint.>", stream=STREAM))
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            for recorded in batch:
                if recorded.subject == SUBJECT:
                    yield head_of(recorded, keys)
            if to_end and batch and batch[-1].sequence >= state.last_seq:
                return


def head_of(recorded: Recorded, keys: Sequence[VerifierKey]) -> Head:
    """A message of CHECKPOINTS.

    Raises:
        NoteError, ProofError: it is not what the keys signed, or what is sent along is no proof.
    """
    headers = recorded.headers or {}
    found, _ = open_checkpoint(recorded.payload, *keys)
    old = headers.get(OLD, "0")
    if not (old.isascii() and old.isdigit()):
        raise NoteError("a checkpoint does not say what it goes on from")
    frontier = Frontier(found.size, decode_hashes(headers.get(FRONTIER, "")))
    if frontier.root() != found.root:
        raise ProofError(f"the frontier sent along with the checkpoint of {found.size} leaves is another tree's")
    return Head(
        recorded.sequence,
        found,
        int(old),
        decode_hashes(headers.get(PROOF, "")),
        frontier,
        _runs(headers.get(RUNS, "")),
    )


async def verify_stream(
    client: Client, keys: Sequence[VerifierKey], engine: AsyncEngine | None = None, told: Told | None = None
) -> Report:
    """Check what the stream holds."""
    began = time.perf_counter()
    report = Report("stream AUDIT")
    state = (await client.jetstream(timeout=5.0).stream_info(AUDIT.name)).state
    life = await life_of(client)
    report.first, report.last = state.first_seq, state.last_seq
    known = await _chain(client, keys, report)
    if not report.ok:
        pass
    elif engine is not None:
        await _against_leaves(client, engine, life, known, report, told)
        again = Report("")
        if report.ok:
            await check_leaves(engine, keys, again)
            report.found(again.finding)
    else:
        await _against_checkpoints(client, known, report, told)
    report.seconds = time.perf_counter() - began
    return report


async def _chain(client: Client, keys: Sequence[VerifierKey], report: Report) -> list[Head]:
    """The checkpoints, each of which goes on from the one before."""
    known: list[Head] = []
    at = Checkpoint("", 0, merkle.EMPTY_ROOT)
    roots = {0: merkle.EMPTY_ROOT}
    try:
        async for head in heads(client, keys):
            if head.checkpoint.size in roots and roots[head.checkpoint.size] == head.checkpoint.root:
                continue
            before = Checkpoint("", head.old, roots[head.old]) if head.old in roots else at
            merkle.verify_consistency(before.size, head.checkpoint.size, before.root, head.checkpoint.root, head.proof)
            at = head.checkpoint
            roots[at.size] = at.root
            known.append(head)
    except (NoteError, ProofError) as error:
        report.found(Finding(Kind.FORGED, 0, f"the checkpoints of the stream: {error}"))
    report.checkpoints = len(known)
    report.signed = at.size
    report.root = at.root.hex() if known else ""
    return known


async def _chunks(client: Client, last: int) -> AsyncIterator[Chunk]:
    """The events of the stream up to ``last``, hashed."""
    if last == 0:
        return
    async with aclosing(StreamReader(client, Range(first=1)).batches()) as batches:
        async for batch in batches:
            found = [event_of(recorded) for recorded in batch if recorded.sequence <= last]
            if found:
                yield chunk_of(found)
            if batch and batch[-1].sequence >= last:
                return


async def _against_leaves(
    client: Client, engine: AsyncEngine, life: str, known: list[Head], report: Report, told: Told | None
) -> None:
    """Event by event, by the leaves the store has."""
    if report.first > 1:
        report.notes.append(f"events before {report.first} are older than the stream keeps; the store has their leaves")
    matcher = Matcher(tail=True)
    streams = await stored.chain(engine, life)
    if len(await stored.lives(engine)) > len(streams):
        report.notes.append("the tree has events of earlier lives of the stream too: the store has those")
    leaves = _leaves(engine, streams, report.first)
    await drive_async(matcher, leaves, _chunks(client, report.last), told)
    add(report, matcher)
    report.unsigned = matcher.beyond + sum(
        max(0, report.last - span[2]) for head in known[-1:] for span in head.runs[-1:]
    )


async def _leaves(engine: AsyncEngine, streams: list[str], first: int) -> AsyncIterator[Run]:
    for stream in streams:
        async for run in stored.runs_by_sequence(engine, stream, first):
            yield run


async def _against_checkpoints(client: Client, known: list[Head], report: Report, told: Told | None) -> None:
    """By the checkpoints alone: which events are in the tree is said beside each, that it is true the roots say."""
    start = _where_it_begins(known, report.first)
    if start:
        report.notes.append(
            f"what the first {known[start - 1].checkpoint.size} leaves are of is no longer in the stream"
        )
    frontier = known[start - 1].frontier.copy() if start else Frontier()
    due = known[start:]
    pending: dict[int, bytes] = {}
    seen = 0
    async for chunk in _chunks(client, report.last):
        for event in chunk.events():
            if event is not None:
                pending[event.sequence] = leaf_of(*event)
                seen = event.sequence
        while due and report.finding is None and max(last for _, _, last in due[0].runs) <= seen:
            report.found(_take(due.pop(0), frontier, pending, report))
        if told is not None:
            told(len(chunk.sequences))
        if report.finding is not None:
            return
    if due:
        first = due[0].runs[0][1]
        last = max(run[2] for head in due for run in head.runs)
        missing = next((n for n in range(first, last + 1) if n not in pending), first)
        report.found(Finding(Kind.MISSING, missing, f"events {missing} to {last} are signed and not there", last))
    report.unsigned = len(pending)


def _where_it_begins(known: list[Head], first: int) -> int:
    """The number of the first checkpoint all of whose events, and all those after it, are of this stream."""
    start = len(known)
    after: tuple[str, int, int] | None = None
    while start:
        for run in reversed(known[start - 1].runs):
            # One that was restored has another life, and goes on where it was.
            if run[1] < first or (after is not None and run[0] != after[0] and run[2] + 1 != after[1]):
                return start
            after = run
        start -= 1
    return start


def _take(head: Head, frontier: Frontier, pending: dict[int, bytes], report: Report) -> Finding | None:
    first, last = head.runs[0][1], max(run[2] for run in head.runs)
    wanted = [sequence for _, begin, end in head.runs for sequence in range(begin, end + 1)]
    for sequence in sorted(wanted):
        if sequence not in pending:
            return Finding(Kind.MISSING, sequence, f"event {sequence} is missing")
    between = sorted(sequence for sequence in pending if sequence < last and sequence not in set(wanted))
    frontier.extend(b"".join(pending.pop(sequence) for sequence in wanted))
    if frontier.root() != head.checkpoint.root:
        what = (
            f"the events {first} to {last} do not lead to the signed root of {head.checkpoint.size} leaves: one of them"
            " is not what was recorded (with the store, --database-url, verify names it)"
        )
        return Finding(Kind.ALTERED, first, what, last)
    if between:
        return Finding(Kind.INVENTED, between[0], f"event {between[0]} was never recorded: it is under no checkpoint")
    report.events += len(wanted)
    return None


def _runs(text: str) -> tuple[tuple[str, int, int], ...]:
    found: list[tuple[str, int, int]] = []
    for part in text.split(";") if text else []:
        stream, _, span = part.strip().partition(" ")
        first, _, last = span.partition("-")
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            raise NoteError("a checkpoint does not say which events are under it")
        found.append((stream, int(first), int(last)))
    return tuple(found)
