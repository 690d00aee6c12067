"""Comparing events with leaf hashes: to name the first that is not as recorded.

Where the events and hashes come from is bundle.py's, stored.py's and live.py's matter; whether the hashes are those
that were signed is roots.py's.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from opsbus_audit.proof.finding import Finding, Kind
from opsbus_audit.proof.leaf import UNREADABLE, Event, Run, Told, leaf_of, leaves_of
from opsbus_audit.proof.merkle import HASH_BYTES

WINDOW = 1_024
"""How far around a wrong event is looked for what may have moved there."""


class Chunk(NamedTuple):
    """Events in the order in which they are found, hashed."""

    sequences: Sequence[int]
    """A range where they are in a row, which is quick."""
    hashes: bytes
    events: Callable[[], Sequence[Event | None]]
    """The events themselves; asked for when something is wrong. None: it cannot be read."""


def chunk_of(found: Sequence[Event]) -> Chunk:
    """Events, hashed."""
    numbers: Sequence[int] = [event.sequence for event in found]
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1 and len(set(numbers)) == len(numbers):
        numbers = range(numbers[0], numbers[-1] + 1) if numbers == sorted(numbers) else numbers
    return Chunk(numbers, leaves_of(found), lambda: found)


class Side(Enum):
    """What is compared with what."""

    LEAVES = "leaves"
    EVENTS = "events"


class Matcher:
    """Events against their leaf hashes, both in the order of their sequences.

    Feed it with ``leaves`` and ``events`` as it asks for them: ``drive``, or ``drive_async``.

    Args:
        let_go: Runs of sequences that need not be there.
        complete: False: any event may be left out.
        tail: True: events after the last leaf are not in the tree yet, which is no finding.
    """

    def __init__(self, let_go: Sequence[tuple[int, int]] = (), *, complete: bool = True, tail: bool = False) -> None:
        self._let_go = list(let_go)
        self._complete = complete
        self._tail = tail
        self._runs: deque[Run] = deque()
        self._chunks: deque[Chunk] = deque()
        self._last_leaf = self._last_event = False
        self._at = 0
        self._past: deque[Run] = deque(maxlen=4)
        self._seen: list[tuple[int, int]] = []
        self.matched = 0
        self.skipped = 0
        """Leaves whose events were let go."""
        self.beyond = 0
        """Events after the last leaf."""
        self.finding: Finding | None = None

    def asks(self) -> Side | None:
        """What it needs to go on; None: it has seen all, or found something."""
        while self.finding is None:
            if self._wants_leaves:
                return Side.LEAVES
            if self._wants_events:
                return Side.EVENTS
            self._step()
            if self._last_leaf and self._last_event:
                break
        return None

    def leaves(self, run: Run | None) -> None:
        """The next leaves; None: there are no more."""
        self._last_leaf = run is None
        if run is not None:
            self._runs.append(run)

    def events(self, chunk: Chunk | None) -> None:
        """The next events; None: there are no more."""
        self._last_event = chunk is None
        if chunk is not None and chunk.sequences:
            self._chunks.append(chunk)

    @property
    def _wants_leaves(self) -> bool:
        return not self._last_leaf and sum(run.leaves for run in self._runs) < WINDOW

    @property
    def _wants_events(self) -> bool:
        return not self._last_event and len(self._chunks) < 2

    def _step(self) -> None:
        """Compare what is there."""
        while self.finding is None and self._runs and self._chunks:
            # What may have moved is looked for ahead: not without having something there.
            if self._wants_leaves or self._wants_events:
                return
            if not self._equal() and not self._may_be_absent():
                self.finding = self._diagnose()
        while self.finding is None and self._last_leaf and not self._runs and self._chunks:
            self._left_over()
        while self.finding is None and self._last_event and not self._chunks and self._runs:
            if not self._may_be_absent():
                run = self._runs[0]
                last = self._until_present(run)
                self.finding = Finding(Kind.MISSING, run.first, _missing(run.first, last), last, run.stream)

    def _equal(self) -> bool:
        """Pass what is equal; False: the first event and the first leaf are not."""
        run, chunk = self._runs[0], self._chunks[0]
        most = min(run.leaves, len(chunk.sequences) - self._at)
        sequences = chunk.sequences[self._at : self._at + most]
        same = most
        if not (isinstance(sequences, range) and sequences.start == run.first):
            same = next((n for n, found in enumerate(sequences) if found != run.first + n), most)
        begin = self._at * HASH_BYTES
        if same and chunk.hashes[begin : begin + same * HASH_BYTES] != run.hashes[: same * HASH_BYTES]:
            same = next(
                n
                for n in range(same)
                if chunk.hashes[begin + n * HASH_BYTES : begin + (n + 1) * HASH_BYTES] != run.at(run.first + n)
            )
        if same:
            self._pass(same)
            self._drop(same)
            self.matched += same
        return same > 0

    def _pass(self, count: int) -> None:
        run = self._runs.popleft()
        done = run.part(run.first, run.first + count - 1)
        self._past.append(done)
        if self._seen and self._seen[-1][1] + 1 == done.first:
            self._seen[-1] = (self._seen[-1][0], done.last)
        else:
            self._seen.append((done.first, done.last))
        if count < run.leaves:
            self._runs.appendleft(run.part(run.first + count, run.last))

    def _drop(self, count: int) -> None:
        self._at += count
        if self._at == len(self._chunks[0].sequences):
            self._chunks.popleft()
            self._at = 0

    def _may_be_absent(self) -> bool:
        """Pass leaves whose events need not be there, and are not; whether there were any."""
        run = self._runs[0]
        here = self._chunks[0].sequences[self._at] if self._chunks else None
        if here is not None and here <= run.first:
            return False
        if not self._complete:
            until = run.last if here is None else min(run.last, here - 1)
            self._pass(until - run.first + 1)
            return True
        for first, last in self._let_go:
            if first <= run.first <= last:
                until = min(last, run.last) if here is None else min(last, run.last, here - 1)
                self.skipped += until - run.first + 1
                self._pass(until - run.first + 1)
                return True
        return False

    def _until_present(self, run: Run) -> int:
        last = run.last
        for first, _ in self._let_go:
            if run.first < first <= last:
                last = first - 1
        return last

    def _diagnose(self) -> Finding:
        run, wanted = self._runs[0], self._runs[0].first
        ahead = self._ahead()
        found, event = ahead[0]
        if found == UNREADABLE or (found == wanted and event is None):
            return Finding(
                Kind.ALTERED, wanted, f"what stands in the place of event {wanted} is no event", 0, run.stream
            )
        if found < wanted:
            return self._again(found, run.stream)
        if found > wanted:
            if any(sequence == wanted for sequence, _ in ahead):
                return Finding(Kind.REORDERED, wanted, f"event {wanted} comes after event {found}", 0, run.stream)
            last = min(found - 1, self._until_present(run))
            return Finding(Kind.MISSING, wanted, _missing(wanted, last), last, run.stream)
        return self._same_number(wanted, [other for _, other in ahead], run.stream)

    def _same_number(self, wanted: int, ahead: list[Event | None], stream: str) -> Finding:
        """The number is right and the content is not: is it that of another event?"""
        event, after = ahead[0], ahead[1] if len(ahead) > 1 else None
        if event is None:
            return Finding(Kind.ALTERED, wanted, f"event {wanted} cannot be read", 0, stream)
        if self._is(after, wanted):
            if self._is(event, wanted - 1):
                what = f"event {wanted - 1} is there twice, and those after it were renumbered"
                return Finding(Kind.DUPLICATED, wanted, what, 0, stream)
            if not self._is(event, wanted + 1):
                what = f"what stands as event {wanted} was never recorded, and those after it were renumbered"
                return Finding(Kind.INVENTED, wanted, what, 0, stream)
        if self._is(event, wanted + 1) and (self._is(after, wanted + 2) or after is None):
            what = f"event {wanted} is missing, and those after it were renumbered"
            return Finding(Kind.MISSING, wanted, what, 0, stream)
        moved = next(
            (run.first + n for run in self._runs for n in range(run.leaves) if self._is(event, run.first + n)), 0
        )
        if moved:
            return Finding(Kind.REORDERED, wanted, f"event {moved} stands in the place of event {wanted}", 0, stream)
        before = next(
            (run.first + n for run in self._past for n in range(run.leaves) if self._is(event, run.first + n)), 0
        )
        if before:
            what = f"event {before} stands again in the place of event {wanted}"
            return Finding(Kind.DUPLICATED, wanted, what, 0, stream)
        return Finding(Kind.ALTERED, wanted, f"event {wanted} is not what was recorded", 0, stream)

    def _is(self, event: Event | None, sequence: int) -> bool:
        if event is None or sequence < 0:
            return False
        for run in (*self._past, *self._runs):
            if run.first <= sequence <= run.last:
                return leaf_of(*event._replace(sequence=sequence)) == run.at(sequence)
        return False

    def _ahead(self) -> list[tuple[int, Event | None]]:
        found: list[tuple[int, Event | None]] = []
        at = self._at
        for chunk in self._chunks:
            events = chunk.events()
            found += [(chunk.sequences[n], events[n]) for n in range(at, len(chunk.sequences))]
            at = 0
            if len(found) >= WINDOW:
                break
        return found

    def _again(self, sequence: int, stream: str) -> Finding:
        """An event that should have come earlier, or never."""
        if any(first <= sequence <= last for first, last in self._seen):
            return Finding(Kind.DUPLICATED, sequence, f"event {sequence} is there again", 0, stream)
        return Finding(Kind.INVENTED, sequence, f"event {sequence} was never recorded: it has no leaf", 0, stream)

    def _left_over(self) -> None:
        chunk = self._chunks[0]
        last = self._seen[-1][1] if self._seen else 0
        here = chunk.sequences[self._at]
        if here == UNREADABLE:
            self.finding = Finding(Kind.INVENTED, last + 1, f"after event {last} there is something that is no event")
        elif here <= last or not self._tail:
            self.finding = self._again(here, "")
        else:
            self.beyond += len(chunk.sequences) - self._at
            self._chunks.popleft()
            self._at = 0


def _missing(first: int, last: int) -> str:
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"


def drive(matcher: Matcher, leaves: Iterator[Run], events: Iterator[Chunk], told: Told | None = None) -> None:
    """Feed a matcher until it has seen all, or found something."""
    before = 0
    while (side := matcher.asks()) is not None:
        if side is Side.LEAVES:
            matcher.leaves(next(leaves, None))
        else:
            matcher.events(next(events, None))
        before = _tell(matcher, before, told)
    _tell(matcher, before, told)


async def drive_async(
    matcher: Matcher, leaves: AsyncIterator[Run], events: AsyncIterator[Chunk], told: Told | None = None
) -> None:
    """Feed a matcher until it has seen all, or found something."""
    before = 0
    while (side := matcher.asks()) is not None:
        if side is Side.LEAVES:
            matcher.leaves(await anext(leaves, None))
        else:
            matcher.events(await anext(events, None))
        before = _tell(matcher, before, told)
    _tell(matcher, before, told)


def _tell(matcher: Matcher, before: int, told: Told | None) -> int:
    if told is not None and matcher.matched > before:
        told(matcher.matched - before)
    return matcher.matched
