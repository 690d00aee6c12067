"""The witness: somebody outside who follows the checkpoints, keeps them, and signs only what goes on from what it saw.

Its memory is a file of checkpoints of its own: a restart goes on there. A fork is told once and for ever: it stops.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from opsbus_audit.proof import merkle
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, frame, open_checkpoint, read_entries
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.note import Note, NoteError, SigningKey, VerifierKey

WAITING_MAX = 1_000


class ForkError(Exception):
    """The log has two pasts; in one line which."""


@dataclass(frozen=True)
class Seen:
    """The last checkpoint that was found to be consistent."""

    size: int = 0
    root: bytes = merkle.EMPTY_ROOT


class Witness:
    """Remembers and judges. One process at a time has the file.

    Args:
        file: Its memory; made when it is missing.
        keys: Verifier keys of the log.
        own: The key it cosigns with; None: it only watches.

    Raises:
        NoteError: the file holds something else, or another log's checkpoints.
        ForkError: a fork was seen before.
        OSError: it cannot be used, or another witness has it.
    """

    def __init__(self, file: Path, keys: Sequence[VerifierKey], own: SigningKey | None = None) -> None:
        self._keys = list(keys)
        self._own = own
        self._alarm = file.with_suffix(".fork")
        if self._alarm.exists():
            text = self._alarm.read_text(encoding="utf-8").splitlines()
            raise ForkError(f"{text[0] if text else 'a fork'} (seen before; the evidence is in {self._alarm})")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OSError(f"another witness has {file}") from None
        self.seen = Seen()
        self._roots: dict[int, bytes] = {0: merkle.EMPTY_ROOT}
        self._waiting: dict[int, tuple[float, Entry]] = {}
        with file.open("rb") as kept:
            end = self._read(kept)
        self._file.truncate(end)
        self._file.seek(end)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def take(self, entry: Entry) -> list[Note]:
        """Judge a checkpoint. One that does not begin where this witness is waits for those in between.

        Returns:
            The notes that are new, in order, with the cosignature where there is a key.

        Raises:
            ForkError: it does not go on from what was seen. The evidence is kept; nothing is signed any more.
            NoteError: the log did not sign it.
        """
        found, _ = open_checkpoint(str(entry.note), *self._keys)
        known = self._roots.get(found.size)
        if known is not None:
            if known != found.root:
                self._fork(f"two different trees of {found.size} leaves were signed", entry)
            return []
        # A proof from less than what was seen says nothing about what was seen.
        if entry.old != self.seen.size or found.size < self.seen.size:
            if len(self._waiting) >= WAITING_MAX:
                self.overdue(0)
            self._waiting.setdefault(entry.old, (time.monotonic(), entry))
            return []
        notes = [self._goes_on(entry, found)]
        _, following = self._waiting.pop(self.seen.size, (0.0, None))
        return notes if following is None else [*notes, *self.take(following)]

    def overdue(self, after_s: float) -> None:
        """What has waited so long for the checkpoints in between never will go on from what was seen.

        Raises:
            ForkError: there is such a one.
        """
        for since, entry in self._waiting.values():
            if time.monotonic() - since >= after_s:
                size = Checkpoint.of(entry.note).size
                what = f"a signed tree of {size} leaves does not go on from that of {self.seen.size} that was seen"
                self._fork(f"{what}: it comes with a proof from {entry.old}", entry)

    def _goes_on(self, entry: Entry, found: Checkpoint) -> Note:
        try:
            merkle.verify_consistency(self.seen.size, found.size, self.seen.root, found.root, entry.proof)
        except ProofError as error:
            what = f"the signed tree of {found.size} leaves does not go on from that of {self.seen.size}: {error}"
            self._fork(what, entry)
        note = entry.note
        signed = note if self._own is None else Note(note.text, note.signatures + self._own.sign(note.text))
        self._keep(Entry(entry.old, entry.proof, signed), found)
        return signed

    def _read(self, kept: BinaryIO) -> int:
        end = 0
        for entry in read_entries(kept):
            found, _ = open_checkpoint(str(entry.note), *self._keys)
            if entry.old != self.seen.size:
                raise NoteError("the witness's own file does not hang together")
            try:
                merkle.verify_consistency(entry.old, found.size, self.seen.root, found.root, entry.proof)
            except ProofError as error:
                raise NoteError(f"the witness's own file was changed: {error}") from None
            self._roots[found.size] = found.root
            self.seen = Seen(found.size, found.root)
            end += len(frame(entry))
        return end

    def _keep(self, entry: Entry, found: Checkpoint) -> None:
        data = frame(entry)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])
        os.fsync(self._file.fileno())
        self._roots[found.size] = found.root
        self.seen = Seen(found.size, found.root)

    def _fork(self, what: str, entry: Entry) -> NoReturn:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(FileExistsError), os.fdopen(os.open(self._alarm, flags, 0o600), "wb") as file:
            file.write(f"{what}\n\n".encode() + frame(entry))
            file.flush()
            os.fsync(file.fileno())
        raise ForkError(what)
