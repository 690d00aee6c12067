"""One file of the spool: entries that are events, and entries that say which of them are stored. What the files are
together: spool.py.

An entry begins with a kind (1 byte), the length of what follows (4 bytes), its CRC-32 (4 bytes) and the CRC-32 of these
nine bytes (4 bytes), all little-endian; and then:

- ``E``: an event: the lengths of its id and its subject (2 bytes each), the id, the subject, the body;
- ``S``: stored: the numbers (4 bytes each) of events of this file, counted from 0.

Each entry is written with one system call. A process that is killed leaves at most one entry cut short, at the end.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from opsbus_edge.audit.event import Event

_HEAD = struct.Struct("<cII")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CRC.size
_NAMES = struct.Struct("<HH")
_EVENT, _STORED = b"E", b"S"


class _Entry(NamedTuple):
    kind: bytes
    payload: bytes
    behind: int
    """Where the next one begins."""


class Segment:
    """A file being written, or left from before.

    Args:
        path: The file; made, for its owner alone, unless ``size`` says that it is there.
        size: Of a file left from before, in bytes.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        self.events = 0
        self.waiting = 0
        """Events not yet stored. Of a file from before: known once it was ``counted``."""
        self.read_from = 0
        """The first event that is not in memory."""
        self.size = self.synced = size or 0
        self.damaged_at: int | None = None
        """Byte at which it cannot be read on, when ``read`` found one."""
        made = os.O_CREAT | os.O_EXCL if size is None else 0
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | made, 0o600)

    def append(self, event: Event) -> int:
        """Write an event; returns its number. Raises OSError, and then nothing of it is left in the file."""
        name, subject = event.id.encode(), event.subject.encode()
        self._write(_EVENT, b"".join((_NAMES.pack(len(name), len(subject)), name, subject, event.body)))
        self.events += 1
        self.waiting += 1
        return self.events - 1

    def stored(self, numbers: Sequence[int]) -> None:
        """Note that events are stored. Raises OSError: then a process after this one sends them again, under the same
        ids."""
        self.waiting -= len(numbers)
        if self.damaged_at is None:
            self._write(_STORED, struct.pack(f"<{len(numbers)}I", *numbers))

    def empty(self) -> None:
        """Begin again, when all that it holds is stored."""
        os.ftruncate(self._fd, 0)
        self.events = self.waiting = self.read_from = self.size = self.synced = 0

    def handle(self) -> int:
        """A second descriptor of the file, the caller's to close: for a sync elsewhere."""
        return os.dup(self._fd)

    def close(self) -> None:
        """Neither write nor read it any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def read(self) -> list[tuple[int, Event]]:
        """Its waiting events from ``read_from``, with their numbers, in order. Raises OSError."""
        events, stored, _ = self._content()
        self.read_from, start = len(events), self.read_from
        return [(number, events[number]) for number in range(start, len(events)) if number not in stored]

    def count(self) -> int:
        """Of a file from before: see what is in it; returns how many events wait. Raises OSError.

        An entry cut short at the end is taken away: its process ended while it wrote. Any other that is not whole is
        damage, and nothing behind it is read.
        """
        events, stored, end = self._content()
        self.events, self.waiting = len(events), len(events) - len(stored)
        if end < self.size:
            rest = os.pread(self._fd, self.size - end, end)
            if _cut_short(rest):
                os.ftruncate(self._fd, end)
                self.size = end
            else:
                self.damaged_at = end
        return self.waiting

    def _content(self) -> tuple[list[Event], set[int], int]:
        content = os.pread(self._fd, self.size, 0)
        events: list[Event] = []
        stored: set[int] = set()
        end = 0
        for kind, payload, behind in _entries(content):
            end = behind
            if kind == _EVENT:
                events.append(_event(payload))
            else:
                stored.update(struct.unpack(f"<{len(payload) // 4}I", payload))
        return events, stored, end

    def _write(self, kind: bytes, payload: bytes) -> None:
        head = _HEAD.pack(kind, len(payload), zlib.crc32(payload))
        entry = b"".join((head, _CRC.pack(zlib.crc32(head)), payload))
        try:
            written = os.write(self._fd, entry)
            if written != len(entry):
                raise OSError(f"{written} of {len(entry)} bytes were written")
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(entry)


def _entries(content: bytes) -> Iterator[_Entry]:
    """The entries up to the end, or to the first that is not whole."""
    at = 0
    while (head := _head(content, at)) is not None:
        kind, length, crc = head
        begin = at + _HEAD_BYTES
        payload = content[begin : begin + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            return
        at = begin + length
        yield _Entry(kind, payload, at)


def _head(content: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Kind, length and CRC of the entry at a place; None when there is no whole and right head."""
    end = at + _HEAD.size
    if len(content) < at + _HEAD_BYTES or zlib.crc32(content[at:end]) != _CRC.unpack_from(content, end)[0]:
        return None
    kind, length, crc = _HEAD.unpack_from(content, at)
    return (kind, length, crc) if kind in (_EVENT, _STORED) else None


def _cut_short(rest: bytes) -> bool:
    """Whether the bytes are the beginning of an entry."""
    if len(rest) < _HEAD_BYTES:
        return rest[:1] in (_EVENT, _STORED)
    head = _head(rest, 0)
    return head is not None and _HEAD_BYTES + head[1] > len(rest)


def _event(payload: bytes) -> Event:
    name, subject = _NAMES.unpack_from(payload)
    at = _NAMES.size
    return Event(
        subject=payload[at + name : at + name + subject].decode(),
        id=payload[at : at + name].decode(),
        body=payload[at + name + subject :],
    )
