"""Checkpoints (C2SP tlog-checkpoint): origin, size and root of the tree, as a signed note; and how they are handed on
with their consistency proof (the body of C2SP tlog-witness's add-checkpoint), one after the other in a file.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from opsbus_audit.proof.merkle import HASH_BYTES, ProofError
from opsbus_audit.proof.note import Note, NoteError, SigningKey, VerifierKey, sign

ENTRY_LINES_MAX = 200
LINE_BYTES_MAX = 10_000
_EMPTY_LINES = 3
"""After the proof, after the text, and at the end."""


@dataclass(frozen=True)
class Checkpoint:
    """A tree head."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed(self, *keys: SigningKey) -> Note:
        """As a signed note."""
        return sign(self.text(), keys)

    @classmethod
    def of(cls, note: Note) -> "Checkpoint":
        """What a note's text says; extension lines are passed over.

        Raises:
            NoteError: it is no checkpoint.
        """
        lines = note.text.split("\n")
        if len(lines) < 4 or not lines[0]:
            raise NoteError("this is no checkpoint: it has origin, size and root")
        size = lines[1]
        if not (size.isascii() and size.isdigit()) or len(size) > 19 or (size[0] == "0" and size != "0"):
            raise NoteError("the checkpoint has no size")
        root = decode_hash(lines[2])
        return cls(lines[0], int(size), root)


def open_checkpoint(given: bytes | str, *keys: VerifierKey) -> tuple[Checkpoint, Note]:
    """A checkpoint that one of the keys signed; its origin must be that key's name.

    Raises:
        NoteError: it is not.
    """
    note = Note.parse(given)
    found = Checkpoint.of(note)
    signers = note.verified(keys)
    if not signers:
        raise NoteError(f"the checkpoint of {found.size} leaves is not signed by {_said(keys)}")
    if all(found.origin != key.name for key in signers):
        raise NoteError(f"the checkpoint is of {found.origin!r}, the key of {signers[0].name!r}")
    return found, note


def _said(keys: Sequence[VerifierKey]) -> str:
    return " or ".join(f"{key.name}+{key.id.hex()}" for key in keys) or "any key"


@dataclass(frozen=True)
class Entry:
    """A checkpoint with the proof that it goes on from the tree of ``old`` leaves."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __str__(self) -> str:
        hashes = "".join(f"{base64.b64encode(hash_).decode()}\n" for hash_ in self.proof)
        return f"old {self.old}\n{hashes}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Reads ``str(entry)``.

        Raises:
            NoteError: it is none.
        """
        head, _, rest = text.partition("\n\n")
        first, *hashes = head.split("\n")
        old = first.removeprefix("old ")
        if not first.startswith("old ") or not (old.isascii() and old.isdigit()) or len(hashes) > 63:
            raise NoteError("this is no checkpoint with its proof")
        return cls(int(old), tuple(decode_hash(line) for line in hashes), Note.parse(rest))


def read_entries(file: BinaryIO) -> Iterator[Entry]:
    """The entries of a file, in constant memory. An unfinished one at the end is passed over: it is being written.

    Raises:
        NoteError: something else is in it.
    """
    lines: list[str] = []
    empty = 0
    while raw := file.readline(LINE_BYTES_MAX):
        lines.append(raw.decode("utf-8", "replace"))
        empty += lines[-1] == "\n"
        if empty == _EMPTY_LINES:
            yield Entry.parse("".join(lines).removesuffix("\n"))
            lines, empty = [], 0
        elif len(lines) > ENTRY_LINES_MAX or not lines[0].startswith("old "[: len(lines[0])]):
            raise NoteError("this is no file of checkpoints")


def frame(entry: Entry) -> bytes:
    """An entry as the file has it: an empty line ends it."""
    return f"{entry}\n".encode()


def decode_hash(text: str) -> bytes:
    """A hash in base64.

    Raises:
        NoteError: it is none.
    """
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("a hash is written in base64") from None
    if len(found) != HASH_BYTES:
        raise NoteError(f"a hash has {HASH_BYTES} bytes")
    return found


def encode_hashes(hashes: Sequence[bytes]) -> str:
    """Hashes for a header: base64, with commas."""
    return ",".join(base64.b64encode(hash_).decode() for hash_ in hashes)


def decode_hashes(text: str) -> tuple[bytes, ...]:
    """What ``encode_hashes`` gave.

    Raises:
        NoteError, ProofError: it is something else.
    """
    if text.count(",") > 63:
        raise ProofError("a proof has 63 hashes at most")
    return tuple(decode_hash(part) for part in text.split(",")) if text else ()
