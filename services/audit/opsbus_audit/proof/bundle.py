"""An export that proves itself: a folder, and how its proof is written and checked. No bus, no store.

events.ndjson     an event a line, in the order of the stream (line.py)
leaves.bin        the leaf hashes of the whole range, 32 bytes each, in the order of the tree
checkpoints.txt   the signed checkpoints over the range, and the last one (checkpoint.py's entries)
proof.json        where the range is in the tree, and the hashes beside it: ``Proof``
manifest.json     what is in the folder, with each file's SHA-256; manifest.sig signs it (export/manifest.py)
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsbus_audit.proof import merkle
from opsbus_audit.proof.checkpoint import Checkpoint, open_checkpoint, read_entries
from opsbus_audit.proof.leaf import Run
from opsbus_audit.proof.merkle import HASH_BYTES, Frontier, ProofError
from opsbus_audit.proof.note import VerifierKey

EVENTS = "events.ndjson"
LEAVES = "leaves.bin"
CHECKPOINTS = "checkpoints.txt"
PROOF = "proof.json"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT = "opsbus.proof.v1"

_READ_LEAVES = 16_384
_MANIFEST_BYTES_MAX = 64 * 1024 * 1024
M = TypeVar("M", bound=BaseModel)


class BundleError(Exception):
    """The folder is no export that can be checked; one line."""


class Proof(BaseModel):
    """``proof.json``."""

    model_config = ConfigDict(extra="ignore")

    format: str = FORMAT
    origin: str
    position: int = Field(ge=0, description="Of the first leaf of leaves.bin, from 0.")
    size: int = Field(ge=0, description="Leaves under the last checkpoint; 0: there is none.")
    left: list[str] = Field(max_length=64, description="Frontier of the leaves before, hex.")
    right: list[tuple[int, str]] = Field(max_length=128, description="Perfect subtrees after: level, root.")
    runs: list[tuple[int, str, int, int]] = Field(description="position, stream, first sequence, leaves; in order.")
    let_go: list[tuple[int, int]] = Field(default=[], description="Sequences that retention let go of.")


class Part(BaseModel):
    """A file of the export."""

    sha256: str


class Span(BaseModel):
    """``range`` of the manifest."""

    first: int
    last: int


class Claim(BaseModel):
    """``proof`` of the manifest."""

    streams: list[str] = Field(description="The lives of the stream it is of: name@created.")
    complete: bool = Field(description="Every event of the range; false: a filter left some out.")


class Manifest(BaseModel):
    """What a verifier needs of ``manifest.json``."""

    format: str
    range: Span | None = None
    events: int = Field(ge=0, description="Lines of events.ndjson.")
    files: dict[str, Part]
    proof: Claim | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest.

    Raises:
        BundleError: there is none.
    """
    return _model(Manifest, folder / MANIFEST)


def read_proof(folder: Path) -> Proof:
    """The proof.

    Raises:
        BundleError: there is none.
    """
    return _model(Proof, folder / PROOF)


def changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files that are not what the manifest says, or are not there."""
    wrong = []
    for name, part in manifest.files.items():
        if Path(name).name != name:
            raise BundleError(f"the manifest names a file outside of the folder: {name!r}")
        try:
            with (folder / name).open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == part.sha256
        except OSError:
            same = False
        if not same:
            wrong.append(name)
    return wrong


def signed_by(folder: Path, key: Ed25519PublicKey) -> bool:
    """Whether this key signed the manifest."""
    try:
        key.verify((folder / SIGNATURE).read_bytes(), (folder / MANIFEST).read_bytes())
    except (InvalidSignature, OSError):
        return False
    return True


def checkpoints_of(folder: Path, keys: Sequence[VerifierKey]) -> Iterator[Checkpoint]:
    """The checkpoints of the folder, each verified.

    Raises:
        NoteError: one is not signed by any of the keys.
        BundleError: there is no such file.
    """
    try:
        with (folder / CHECKPOINTS).open("rb") as file:
            for entry in read_entries(file):
                yield open_checkpoint(str(entry.note), *keys)[0]
    except OSError as error:
        raise BundleError(f"{folder / CHECKPOINTS} cannot be read: {error.strerror}") from None


def runs_of(folder: Path, proof: Proof) -> Iterator[Run]:
    """The leaves of the folder in the order of the tree.

    Raises:
        BundleError: there are not as many as the proof says.
    """
    with _opened(folder / LEAVES) as file:
        at = proof.position
        for position, stream, first, count in proof.runs:
            if position != at or count < 1:
                raise BundleError("proof.json does not say which leaves these are")
            done = 0
            while done < count:
                some = min(_READ_LEAVES, count - done)
                hashes = file.read(some * HASH_BYTES)
                if len(hashes) != some * HASH_BYTES:
                    raise BundleError(f"leaves.bin ends at position {at + done}")
                yield Run(position + done, stream, first + done, hashes)
                done += some
            at += count
        if file.read(1):
            raise BundleError("leaves.bin has more leaves than proof.json says")


def runs_by_sequence(folder: Path, proof: Proof, streams: Sequence[str], first: int, last: int) -> Iterator[Run]:
    """The leaves of the sequences ``first`` to ``last`` of these lives of the stream, in its order."""
    with _opened(folder / LEAVES) as file:
        for position, name, begin, count in sorted(proof.runs, key=lambda run: run[2]):
            if name not in streams:
                continue
            at, end = max(begin, first), min(begin + count - 1, last)
            while at <= end:
                some = min(_READ_LEAVES, end - at + 1)
                file.seek((position - proof.position + at - begin) * HASH_BYTES)
                hashes = file.read(some * HASH_BYTES)
                if len(hashes) != some * HASH_BYTES:
                    raise BundleError("leaves.bin is shorter than proof.json says")
                yield Run(position + at - begin, name, at, hashes)
                at += some


def left_of(proof: Proof) -> Frontier:
    """The tree before the range.

    Raises:
        BundleError: the proof has none.
    """
    try:
        return Frontier(proof.position, [bytes.fromhex(text) for text in proof.left])
    except (ValueError, ProofError) as error:
        raise BundleError(f"proof.json: {error}") from None


def right_of(proof: Proof) -> list[tuple[int, bytes]]:
    """The subtrees after the range.

    Raises:
        BundleError: they are not those that follow it.
    """
    end = proof.position + sum(count for *_, count in proof.runs)
    parts = merkle.perfect_parts(end, proof.size) if proof.size > end else []
    if [level for level, _ in parts] != [level for level, _ in proof.right]:
        raise BundleError("proof.json has not the hashes that follow the range")
    try:
        return [(level, bytes.fromhex(text)) for level, text in proof.right]
    except ValueError:
        raise BundleError("proof.json has hashes that are none") from None


def write_leaves(folder: Path, runs: Iterable[Run]) -> None:
    """Append leaves to ``leaves.bin``."""
    with (folder / LEAVES).open("ab") as file:
        for run in runs:
            file.write(run.hashes)


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None


def _model(model: type[M], path: Path) -> M:
    try:
        if path.stat().st_size > _MANIFEST_BYTES_MAX:
            raise BundleError(f"{path} is too large")
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path.name}: {where + ': ' if where else ''}{first['msg']}") from None
