"""A piece of ``events.ndjson``: the lines that begin in a range of its bytes, read and hashed. As a program, every
n-th piece of a file, for hashing.py.

Imports little on purpose: a program that hashes is there in a moment.
"""

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from opsbus_audit.proof.leaf import UNREADABLE
from opsbus_audit.proof.line import hash_lines
from opsbus_audit.proof.merkle import HASH_BYTES

PIECE_BYTES = 1024 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024

_HEAD = struct.Struct("<Q?I")
"""First sequence, whether they are in a row, lines. All sequences follow where they are not, then the hashes."""
_NONE = 0
"""Stands for ``UNREADABLE`` between the processes: no event has this sequence."""


class Hashed(NamedTuple):
    """The lines of a piece."""

    sequences: range | list[int]
    """A range where they are in a row. ``UNREADABLE``: the line holds no event."""
    hashes: bytes
    """Leaf hashes, one after the other."""


def read(path: Path, at: int, length: int) -> bytes:
    """The lines that begin in a range of bytes; a line that began before belongs to the piece before."""
    with path.open("rb") as file:
        begin, end = _line_at(file, at), _line_at(file, at + length)
        if begin >= end:
            return b""
        file.seek(begin)
        # In one go: putting a rest to it would copy everything.
        return file.read(end - begin)


def _line_at(file: BinaryIO, at: int) -> int:
    """Where the first line begins that begins at ``at`` or after."""
    if not at:
        return 0
    file.seek(at - 1)
    return at - 1 + len(file.readline(LINE_BYTES_MAX))


def hash_piece(path: Path, at: int, length: int) -> Hashed:
    """Hash the lines that begin in a range of bytes."""
    sequences, hashes = hash_lines(read(path, at, length))
    first = sequences[0] if sequences else 0
    row = range(first, first + len(sequences))
    return Hashed(row if first > 0 and sequences == list(row) else sequences, hashes)


def places(size: int, piece: int, start: int = 0, step: int = 1) -> Iterator[tuple[int, int]]:
    """``(at, length)`` of every ``step``-th piece of a file, from the ``start``-th on."""
    for at in range(start * piece, size, step * piece):
        yield at, min(piece, size - at)


def send(hashed: Hashed, out: BinaryIO) -> None:
    """Write what was hashed."""
    row = isinstance(hashed.sequences, range)
    out.write(_HEAD.pack(hashed.sequences[0] if row else 0, row, len(hashed.sequences)))
    if not row:
        out.write(array("Q", [_NONE if one == UNREADABLE else one for one in hashed.sequences]).tobytes())
    out.write(hashed.hashes)
    out.flush()


def receive(source: BinaryIO) -> Hashed | None:
    """Read what ``send`` wrote; None: it ends before the piece does."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    first, row, count = _HEAD.unpack(head)
    sequences: range | list[int] = range(first, first + count)
    if not row:
        text = source.read(count * 8)
        if len(text) < count * 8:
            return None
        sequences = [UNREADABLE if one == _NONE else one for one in array("Q", text)]
    hashes = source.read(count * HASH_BYTES)
    return Hashed(sequences, hashes) if len(hashes) == count * HASH_BYTES else None


def main(path: str, size: int, piece: int, start: int, step: int) -> int:
    """Hash every ``step``-th piece and write it to the standard output."""
    try:
        for place in places(size, piece, start, step):
            send(hash_piece(Path(path), *place), sys.stdout.buffer)
    except BrokenPipeError:
        # Nobody wants the rest. What is in the buffer cannot be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"{path} cannot be read: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
