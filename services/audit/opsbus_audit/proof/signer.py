"""Signing: follows the tree of the store and signs a checkpoint of it every so many events or seconds, into the store,
a file and the stream CHECKPOINTS.

It goes by its own count: the leaves it has read itself, on top of the last checkpoint it found, wherever that is kept.
When the store's tree is not that, somebody changed it: nothing is signed any more, and the alarm is raised.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nats import errors
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from opsbus.database import serialize
from opsbus.logs import Log
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_audit import tables
from opsbus_audit.proof import merkle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, encode_hashes, frame, open_checkpoint, read_entries
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.proof.note import NoteError, SigningKey, VerifierKey
from opsbus_contracts.audit import PlatformStage

SUBJECT = "checkpoint.audit"
STREAM = "CHECKPOINTS"
OLD = "Opsbus-Tree-Old"
PROOF = "Opsbus-Tree-Proof"
FRONTIER = "Opsbus-Tree-Frontier"
RUNS = "Opsbus-Tree-Runs"

_READ = 16_384
"""Leaves read at once."""
_RETRY_S = 2.0
_HAND_ON_AT_ONCE = 100


class AtOddsError(Exception):
    """The store's tree is not the one that was signed; one line."""


@dataclass(frozen=True)
class Pace:
    """How often a checkpoint is made."""

    events: int = 1_000
    seconds: float = 10.0

    @property
    def look_s(self) -> float:
        """Between two looks at the store. Seconds."""
        return min(0.5, self.seconds / 4)


class CheckpointSigner:
    """Signs until it is cancelled.

    Args:
        engine: The store.
        js: Of the identity ``audit``.
        key: Its name is the log's origin.
        file: Append-only copy; None: none is written.
        pace: How often.
        former: Keys that signed before this one did.
        alarm: Told once, in one line, when the tree is at odds.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        js: JetStreamContext,
        key: SigningKey,
        file: Path | None,
        pace: Pace,
        log: Log,
        alarm: Callable[[str], Awaitable[None]],
        former: Sequence[VerifierKey] = (),
    ) -> None:
        self._engine = engine
        self._js = js
        self._key = key
        self._file = file
        self._pace = pace
        self._log = log
        self._alarm = alarm
        self._keys = [key.public, *former]
        self._mine = Frontier()
        self._signed = Checkpoint(key.name, 0, merkle.EMPTY_ROOT)
        self._filed = 0

    async def run(self) -> None:
        """Begin with the last checkpoint, then sign for ever; ends only when the tree is at odds."""
        begun = False
        while True:
            try:
                if not begun:
                    await self._begin()
                    begun = True
                await self._follow()
            except AtOddsError as error:
                return await self._raise_alarm(str(error))
            except (ProofError, NoteError) as error:
                return await self._raise_alarm(f"what is kept of the tree is damaged: {error}")
            except (SQLAlchemyError, OSError, TimeoutError, errors.Error, js_errors.Error) as error:
                self._log.warning("no checkpoint could be made, trying again", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _begin(self) -> None:
        """Count all leaves anew, and compare with the furthest checkpoint that any of the three places has."""
        known = await self._known()
        last = max(known, key=lambda one: one.size, default=self._signed)
        async with self._engine.connect() as connection:
            theirs = await tree.frontier_of(connection)
        size = theirs.size
        if size < last.size:
            raise AtOddsError(f"the tree has {size} leaves, and {last.size} were signed")
        mine, at = Frontier(), {one.size: one.root for one in known if one.size}
        for wanted in sorted({*at, size}):
            await self._count(mine, wanted)
            if at.get(wanted, mine.root()) != mine.root():
                raise AtOddsError(f"the tree of {wanted} leaves has not the root that was signed")
        _check_same(mine, theirs)
        self._mine, self._signed = mine, last
        await self._compare()
        async with self._engine.connect() as connection:
            kept = (await connection.execute(select(func.max(tables.checkpoint.c.size)))).scalar_one()
        if last.size > (kept or 0):
            raise AtOddsError(f"a checkpoint of {last.size} leaves was signed, and the store does not have it")

    async def _known(self) -> list[Checkpoint]:
        """The last checkpoint of each place, as far as it is signed by this key."""
        texts: list[str] = []
        statement = select(tables.checkpoint.c.entry).order_by(tables.checkpoint.c.size.desc()).limit(1)
        async with self._engine.connect() as connection:
            entry = (await connection.execute(statement)).scalar_one_or_none()
        if entry is not None:
            texts.append(str(Entry.parse(entry).note))
        if self._file is not None:
            last = await asyncio.to_thread(_last_entry, self._file)
            if last is not None:
                texts.append(str(last.note))
                self._filed = Checkpoint.of(last.note).size
        try:
            message = await self._js.get_last_msg(STREAM, SUBJECT, direct=True)
            texts.append((message.data or b"").decode())
        except js_errors.NotFoundError:
            pass
        return [open_checkpoint(text, *self._keys)[0] for text in texts]

    async def _follow(self) -> None:
        due = time.monotonic() + self._pace.seconds
        while True:
            await self._hand_on()
            async with self._engine.connect() as connection:
                theirs = await tree.frontier_of(connection)
            size = theirs.size
            if size < self._mine.size:
                raise AtOddsError(f"the tree has {size} leaves, and had {self._mine.size}")
            while (full := self._signed.size // self._pace.events * self._pace.events + self._pace.events) <= size:
                await self._count(self._mine, full)
                await self._sign()
                due = time.monotonic() + self._pace.seconds
            await self._count(self._mine, size)
            _check_same(self._mine, theirs)
            if size == self._signed.size:
                due = max(due, time.monotonic() + self._pace.seconds)
            elif time.monotonic() >= due:
                await self._sign()
                due = time.monotonic() + self._pace.seconds
            await self._hand_on()
            await asyncio.sleep(self._pace.look_s)

    async def _count(self, frontier: Frontier, size: int) -> None:
        """Read leaves on, up to ``size`` of them. What goes wrong on the way leaves the frontier where it is."""
        while frontier.size < size:
            async with self._engine.connect() as connection:
                end = min(frontier.size + _READ, size)
                read = b"".join([run.hashes async for run in tree.runs(connection, frontier.size, end)])
            frontier.extend(read)
            await asyncio.sleep(0)

    async def _compare(self) -> None:
        async with self._engine.connect() as connection:
            theirs = await tree.frontier_at(connection, self._mine.size)
        _check_same(self._mine, theirs)

    async def _sign(self) -> None:
        await self._compare()
        made = Checkpoint(self._key.name, self._mine.size, self._mine.root())
        async with self._engine.begin() as connection:
            # One at a time, so that each checkpoint goes on from the one before it, whoever signs.
            await serialize(connection, tables.checkpoint.name)
            await tree.lock(connection)
            await self._take_over(connection, made.size)
            if self._signed.size == made.size:
                return
            proof = await tree.consistency(connection, self._signed.size, made.size)
            merkle.verify_consistency(self._signed.size, made.size, self._signed.root, made.root, proof)
            entry = Entry(self._signed.size, tuple(proof), made.signed(self._key))
            row = {"size": made.size, "entry": str(entry), "signed_us": time.time_ns() // 1_000}
            await connection.execute(insert(tables.checkpoint).values(row | {"published": False}))
        self._signed = made

    async def _take_over(self, connection: AsyncConnection, size: int) -> None:
        """What another instance signed meanwhile is gone on from; that it is of this tree, the proof will show."""
        column = tables.checkpoint.c
        statement = select(column.entry).where(column.size > self._signed.size, column.size <= size)
        entry = (await connection.execute(statement.order_by(column.size.desc()).limit(1))).scalar_one_or_none()
        if entry is not None:
            found, _ = open_checkpoint(str(Entry.parse(entry).note), *self._keys)
            if found.size == size and found.root != self._mine.root():
                raise AtOddsError(f"another tree of {size} leaves was signed")
            self._signed = found

    async def _hand_on(self) -> None:
        """Into the file and the stream: what is in the store and not known to be there. Both take it once."""
        column = tables.checkpoint.c
        statement = select(column.size, column.entry).where(column.published.is_(False)).order_by(column.size)
        while True:
            async with self._engine.connect() as connection:
                rows = (await connection.execute(statement.limit(_HAND_ON_AT_ONCE))).all()
            for size, text in rows:
                entry = Entry.parse(text)
                if self._file is not None and size > self._filed:
                    await asyncio.to_thread(_file, self._file, entry)
                    self._filed = size
                await self._publish(size, entry)
            if rows:
                done = update(tables.checkpoint).where(column.size.in_([row.size for row in rows]))
                async with self._engine.begin() as connection:
                    await connection.execute(done.values(published=True))
            if len(rows) < _HAND_ON_AT_ONCE:
                return

    async def _publish(self, size: int, entry: Entry) -> None:
        async with self._engine.connect() as connection:
            frontier = await tree.frontier_at(connection, size)
            spans: list[tuple[str, int, int]] = []
            async for run in tree.runs(connection, entry.old, size):
                if spans and (spans[-1][0], spans[-1][2] + 1) == (run.stream, run.first):
                    spans[-1] = (run.stream, spans[-1][1], run.last)
                else:
                    spans.append((run.stream, run.first, run.last))
        headers = {
            "Nats-Msg-Id": f"{self._key.name}:{size}",
            OLD: str(entry.old),
            PROOF: encode_hashes(entry.proof),
            FRONTIER: encode_hashes(frontier.roots),
            RUNS: ";".join(f"{stream} {first}-{last}" for stream, first, last in spans),
        }
        await self._js.publish(SUBJECT, str(entry.note).encode(), headers=headers)

    async def _raise_alarm(self, what: str) -> None:
        await self._alarm(what)
        hint = "keep store, stream and checkpoint file as they are, and run: opsbus audit verify"
        self._log.error(
            "THE RECORD IS AT ODDS WITH WHAT WAS SIGNED; no more checkpoints are made", what=what, hint=hint
        )
        record = PlatformAudit(self._js, "audit")
        while True:
            try:
                details = {"signed": self._signed.size, "tree": self._mine.size}
                await record.record(
                    PlatformStage.RECORD_AT_ODDS, actor="audit", target="tree", reason=what, details=details
                )
                return
            except NotRecordedError:
                await asyncio.sleep(_RETRY_S)


def _check_same(mine: Frontier, theirs: Frontier) -> None:
    if theirs.roots != mine.roots:
        raise AtOddsError(f"the tree of {mine.size} leaves is not made of the leaves that are kept")


def _last_entry(path: Path) -> Entry | None:
    """The last entry of the file. One that was not written to its end before the power went is cut off."""
    if not path.exists():
        return None
    last: Entry | None = None
    with path.open("r+b") as file:
        whole = 0
        for last in read_entries(file):
            whole += len(frame(last))
        if file.seek(0, os.SEEK_END) != whole:
            file.truncate(whole)
            os.fsync(file.fileno())
    return last


def _file(path: Path, entry: Entry) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), "ab") as file:
        file.write(frame(entry))
        file.flush()
        os.fsync(file.fileno())
