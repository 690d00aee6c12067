"""The edge's disk spool: audit events that outlive their process, until the stream has them.

Each process writes into a folder of its own, ``<folder>/<instance>-<random>``, and holds its lock. What a process left
behind, killed or stopped while the bus was away, the next one that starts takes over: the lock is free then. What to
send when belongs to queue.py, the files' form to segment.py.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from opsbus import logs
from opsbus_edge.audit.event import Event
from opsbus_edge.audit.segment import Segment

log = logs.get("edge")

SEGMENT_BYTES = 4 * 1024 * 1024
EMPTY_FROM_BYTES = 64 * 1024
"""From this size a file whose events are all stored is emptied."""
_LOCK = "lock"
_SUFFIX = ".spool"
_DAMAGED = ".damaged"


class SpoolError(Exception):
    """The folder cannot be used; the message says why."""


class Place(NamedTuple):
    """Where an event is."""

    segment: Segment
    number: int


class Spool:
    """The files of one process, and those it took over.

    Args:
        folder: Of all processes on this machine; made when it is not there.
        instance: This one.
        bytes_max: From this size it is full. More is still taken: what must be taken is not its matter.

    Raises:
        SpoolError: The folder cannot be made, locked or written.
    """

    def __init__(self, folder: Path, instance: str, *, bytes_max: int) -> None:
        self._folder = folder
        self._home = folder / f"{instance}-{secrets.token_hex(4)}"
        self._bytes_max = bytes_max
        self._segment_bytes = min(SEGMENT_BYTES, bytes_max // 8)
        self._closed_bytes = 0
        self._number = 0
        self._locks: dict[Path, int] = {}
        self._segments: dict[Segment, Path] = {}
        """Files with events that may not be stored, and the folder of each."""
        self.problem = ""
        """Why events cannot be written at the moment."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._alone():
                self._home.mkdir(mode=0o700)
                self._lock(self._home)
            self.active = self._next()
            """The file being written."""
        except OSError as error:
            raise SpoolError(f"{error.filename or self._home}: {error.strerror or error}") from None

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return self._closed_bytes + self.active.size

    @property
    def full(self) -> bool:
        """Whether the bound is reached: no new call may be let in."""
        return self.bytes >= self._bytes_max

    def append(self, event: Event) -> Place | None:
        """Write an event.

        Returns:
            None when it was not written: at twice the bound, which the ends of calls and refusals can reach, or when
            the disk does not take it, and ``problem`` says why.
        """
        if self.bytes >= 2 * self._bytes_max:
            return None
        try:
            if self.active.size >= self._segment_bytes:
                self._rotate()
            number = self.active.append(event)
        except OSError as error:
            if not self.problem:
                log.error("the audit spool cannot be written", folder=str(self._home), error=str(error))
            self.problem = f"{self._home}: {error.strerror or error}"
            return None
        self.problem = ""
        return Place(self.active, number)

    def _rotate(self) -> None:
        before, self.active = self.active, self._next()
        self._tidy(before)
        self._count()

    def stored(self, places: Sequence[Place]) -> None:
        """Note that events are stored; a file without others is deleted."""
        by_segment: dict[Segment, list[int]] = {}
        for segment, number in places:
            by_segment.setdefault(segment, []).append(number)
        for segment, numbers in by_segment.items():
            try:
                segment.stored(numbers)
            except OSError as error:
                log.warning("the audit spool cannot note what is stored", error=str(error))
            self._tidy(segment)
        self._count()

    def read(self, segment: Segment) -> list[tuple[Event, Place]]:
        """The events of a file that are on disk alone. Raises OSError."""
        return [(event, Place(segment, number)) for number, event in segment.read()]

    def take_over(self) -> list[Segment]:
        """The files that processes before left here, oldest first; they are this one's now. Raises OSError."""
        found: list[tuple[float, Path]] = []
        with self._alone():
            for folder in sorted(self._folder.iterdir()):
                if folder.is_dir() and folder not in self._locks and self._lock(folder):
                    found += [(path.stat().st_mtime, path) for path in folder.glob(f"*{_SUFFIX}")]
            left = [Segment(path, path.stat().st_size) for _, path in sorted(found)]
            self._segments |= {segment: segment.path.parent for segment in left}
        for segment in left:
            self._look_through(segment)
        for folder in set(self._locks) - set(self._segments.values()):
            self._leave(folder)
        self._count()
        return [segment for segment in left if segment.waiting]

    def _look_through(self, segment: Segment) -> None:
        segment.count()
        if segment.damaged_at is not None:
            log.error(
                "a file of the audit spool is damaged: what is behind the place is kept, not sent",
                file=str(_damaged(segment.path)), byte=segment.damaged_at, events_before=segment.events,
            )  # fmt: skip
        self._tidy(segment)

    def unsynced(self) -> list[int]:
        """Descriptors of the files whose end is not on the disk itself yet; the caller syncs and closes them."""
        behind = [segment for segment in self._segments if segment.synced < segment.size]
        for segment in behind:
            segment.synced = segment.size
        return [segment.handle() for segment in behind]

    def close(self) -> None:
        """Let go of the folders. Files with events that are not stored stay, for the next process."""
        if not self.active.waiting:
            del self._segments[self.active]
            self.active.remove()
        for segment in self._segments:
            segment.close()
        for folder in list(self._locks):
            self._leave(folder)

    def _next(self) -> Segment:
        segment = Segment(self._home / f"{self._number + 1:08d}{_SUFFIX}")
        self._number += 1
        self._segments[segment] = self._home
        return segment

    def _count(self) -> None:
        self._closed_bytes = sum(segment.size for segment in self._segments if segment is not self.active)

    def _tidy(self, segment: Segment) -> None:
        if segment.waiting:
            return
        if segment is self.active:
            if segment.size >= EMPTY_FROM_BYTES:
                segment.empty()
            return
        folder = self._segments.pop(segment)
        if segment.damaged_at is None:
            segment.remove()
        else:
            segment.close()
            segment.path.rename(_damaged(segment.path))
        if folder != self._home and folder not in self._segments.values():
            self._leave(folder)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process makes a folder, or takes one over."""
        handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _lock(self, folder: Path) -> bool:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._locks[folder] = handle
        return True

    def _leave(self, folder: Path) -> None:
        """Unlock a folder, and delete it when nothing is in it."""
        with self._alone():
            handle = self._locks.pop(folder)
            if all(path.name == _LOCK for path in folder.iterdir()):
                (folder / _LOCK).unlink()
                folder.rmdir()
            os.close(handle)


def _damaged(path: Path) -> Path:
    return path.with_name(path.name + _DAMAGED)
