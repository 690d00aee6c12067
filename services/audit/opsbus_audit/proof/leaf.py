"""What a leaf of the tree is: an event as the stream holds it.

    opsbus.audit.leaf.v1 LF            ASCII
    sequence                           8 bytes, big-endian
    time                               8 bytes, big-endian: the server's, Unix nanoseconds
    length of subject, subject         4 bytes big-endian, UTF-8
    length of id, id                   4 bytes big-endian, UTF-8: the header Nats-Msg-Id, empty where there is none
    data                               the message's exact bytes, to the end

The sequence makes a changed order visible, the lengths that no byte can move from one field to the next. Other headers
(trace context) are carried along and not proved. Of a subject longer than the store keeps, what it keeps counts.
"""

import struct
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

from opsbus_audit.proof.merkle import HASH_BYTES

MAGIC = b"opsbus.audit.leaf.v1\n"
SUBJECT_MAX = 256
MESSAGE_ID = "Nats-Msg-Id"
UNREADABLE = -1
"""Sequence of something that is no event."""

_HEAD = struct.Struct(f">c{len(MAGIC)}sQQI")
_LENGTH = struct.Struct(">I")
_LEAF = b"\x00"


class Event(NamedTuple):
    """An event as it is proved."""

    sequence: int
    time_ns: int
    subject: str
    id: str
    data: bytes


def leaf_of(sequence: int, time_ns: int, subject: str, id: str, data: bytes) -> bytes:
    """The leaf hash of an event; of what cannot be one, with a negative number, no hash but zeros."""
    # Half a surrogate pair is what the client library makes of bytes in a header that are no UTF-8.
    name, number = subject[:SUBJECT_MAX].encode("utf-8", "surrogatepass"), id.encode("utf-8", "surrogatepass")
    try:
        return hash_fields(sequence, time_ns, name, number, data)
    except struct.error:
        return bytes(HASH_BYTES)


def hash_fields(sequence: int, time_ns: int, subject: bytes, id: bytes, data: bytes) -> bytes:
    """The leaf hash of fields as they are hashed: a subject of no more characters than count, both in UTF-8.

    Raises:
        struct.error: a number is no unsigned one of 64 bits.
    """
    head = _HEAD.pack(_LEAF, MAGIC, sequence, time_ns, len(subject))
    return sha256(head + subject + _LENGTH.pack(len(id)) + id + data).digest()


def leaves_of(events: Iterable[Event]) -> bytes:
    """The leaf hashes of events, one after the other."""
    return b"".join([leaf_of(*event) for event in events])


class Run(NamedTuple):
    """Leaves in a row: events of one life of the stream with sequences in a row."""

    position: int
    """Of the first, from 0."""
    stream: str
    first: int
    hashes: bytes

    @property
    def leaves(self) -> int:
        """Leaves."""
        return len(self.hashes) // HASH_BYTES

    @property
    def last(self) -> int:
        """The last sequence."""
        return self.first + self.leaves - 1

    def at(self, sequence: int) -> bytes:
        """The leaf hash of a sequence of the run."""
        begin = (sequence - self.first) * HASH_BYTES
        return self.hashes[begin : begin + HASH_BYTES]

    def part(self, first: int, last: int) -> "Run":
        """Its sequences from ``first`` to ``last``, both included."""
        begin, end = (first - self.first) * HASH_BYTES, (last - self.first + 1) * HASH_BYTES
        return Run(self.position + first - self.first, self.stream, first, self.hashes[begin:end])


Told = Callable[[int], None]
"""Told how many events were checked since the last time."""
