"""Checking an export: in constant memory, with as many processes as there are processors.

The processes read, parse and hash; this one compares. Each is handed the place of a piece of the file, not the piece.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opsbus_audit.proof import bundle
from opsbus_audit.proof.bundle import BundleError, Manifest, Proof, Span
from opsbus_audit.proof.check import UNREADABLE, Chunk, Finding, Kind, Matcher, Report, Roots
from opsbus_audit.proof.leaf import Event, Told, leaf_of
from opsbus_audit.proof.merkle import HASH_BYTES
from opsbus_audit.proof.note import NoteError, VerifierKey

try:  # three times as fast; an offline verifier does without where it is not installed
    from orjson import loads as _loads
except ImportError:
    from json import loads as _loads  # type: ignore[assignment]

R = TypeVar("R")

PIECE_BYTES = 4 * 1024 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024
SMALL_BYTES = 8 * 1024 * 1024
"""A file up to this size is not worth starting processes for."""
PROCESSES_MAX = 8


def verify_folder(
    folder: Path,
    keys: Sequence[VerifierKey],
    told: Told | None = None,
    processes: int = 0,
    exporter: Ed25519PublicKey | None = None,
) -> Report:
    """Check an export.

    Args:
        folder: As ``opsbus audit export`` wrote it.
        keys: Verifier keys of the log.
        told: Of progress.
        processes: How many hash; 0: one for each processor.
        exporter: Whose signature the manifest must have; None: it is not looked at.

    Raises:
        BundleError: it is no export; nothing can be said about its events.
    """
    began = time.perf_counter()
    manifest = bundle.read_manifest(folder)
    if manifest.proof is None:
        raise BundleError("this export has no proof: it was made without the store, or before anything was signed")
    proof, span = bundle.read_proof(folder), manifest.range or Span(first=0, last=0)
    report = Report(f"export {folder}", first=span.first, last=span.last, complete=manifest.proof.complete)
    if exporter is None:
        report.notes.append("who made the export was not checked (--export-key)")
    elif not bundle.signed_by(folder, exporter):
        report.found(Finding(Kind.FORGED, 0, "manifest.sig is not this key's signature of manifest.json"))
    try:
        with Hashing(folder / bundle.EVENTS, processes) as hashing:
            # Beside the events, in processes of their own where there are some.
            changed = hashing.beside(bundle.changed_files, folder, manifest)
            roots = hashing.beside(check_roots, folder, keys)
            _check_events(folder, manifest, proof, hashing.chunks(), report, told)
            _take_roots(report, roots())
            if names := changed():
                report.found(Finding(Kind.FORGED, 0, f"not what the manifest says: {', '.join(names)}"))
    except BrokenProcessPool:
        raise BundleError("a process that hashed was killed: is there memory enough?") from None
    report.seconds = time.perf_counter() - began
    return report


def _take_roots(report: Report, roots: Report) -> None:
    report.signed, report.unsigned, report.root = roots.signed, roots.unsigned, roots.root
    report.checkpoints = roots.checkpoints
    report.notes += roots.notes
    report.found(roots.finding)


def check_roots(folder: Path, keys: Sequence[VerifierKey]) -> Report:
    """That the leaf hashes of an export are those that were signed.

    Raises:
        BundleError: there are none, or they are not what proof.json says.
    """
    proof, report = bundle.read_proof(folder), Report("")
    try:
        known = list(bundle.checkpoints_of(folder, keys))
    except NoteError as error:
        report.found(Finding(Kind.FORGED, 0, str(error)))
        known = []
    report.signed = max((one.size for one in known), default=0)
    end = proof.position + sum(count for *_, count in proof.runs)
    report.unsigned = max(0, end - max(report.signed, proof.position))
    if report.signed > end and report.signed != proof.size:
        raise BundleError("proof.json leads to another checkpoint than the last one of checkpoints.txt")
    last = max(known, key=lambda one: one.size, default=None)
    report.root = last.root.hex() if last is not None else ""
    roots = Roots(bundle.left_of(proof), (one for one in known if one.size > proof.position))
    for run in bundle.runs_of(folder, proof):
        roots.take(run)
    report.found(roots.end(bundle.right_of(proof) if report.signed > end else []))
    report.checkpoints = roots.passed
    if not known and report.ok:
        report.notes.append("no checkpoint covers this range yet: its leaf hashes are not signed")
    return report


def _check_events(
    folder: Path, manifest: Manifest, proof: Proof, pieces: Iterator[Chunk], report: Report, told: Told | None
) -> None:
    """That the events are those of the leaf hashes."""
    matcher = Matcher(proof.let_go, complete=report.complete)
    streams = manifest.proof.streams if manifest.proof is not None else []
    drive(matcher, bundle.runs_by_sequence(folder, proof, streams, report.first, report.last), pieces, told)
    report.events, report.let_go_events = matcher.matched, matcher.skipped
    report.let_go = list(proof.let_go) if matcher.skipped else []
    report.found(matcher.finding)
    if matcher.finding is None and matcher.matched != manifest.events:
        what = f"the manifest speaks of {manifest.events} events, there are {matcher.matched}"
        report.found(Finding(Kind.FORGED, 0, what))


def drive(matcher: Matcher, leaves: Iterator[Any], events: Iterator[Chunk], told: Told | None = None) -> None:
    """Feed a matcher until it has seen all, or found something."""
    last_leaf = last_event = False
    before = 0
    while matcher.finding is None and not (last_leaf and last_event):
        while matcher.wants_leaves and not last_leaf:
            run = next(leaves, None)
            last_leaf = run is None
            if run is not None:
                matcher.leaves(run)
        if matcher.wants_events and not last_event:
            chunk = next(events, None)
            last_event = chunk is None
            if chunk is not None:
                matcher.events(chunk)
        matcher.step(last_leaf=last_leaf, last_event=last_event)
        if last_event and not last_leaf and matcher.finding is None:
            # Nothing will come for the leaves that are left.
            for run in leaves:
                matcher.leaves(run)
                matcher.step(last_leaf=False, last_event=True)
            last_leaf = True
            matcher.step(last_leaf=True, last_event=True)
        if told is not None and matcher.matched > before:
            told(matcher.matched - before)
            before = matcher.matched


class Hashing:
    """Processes that hash the events of a file, and do other things beside."""

    def __init__(self, path: Path, processes: int) -> None:
        self._path = path
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from None
        count = processes or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, PROCESSES_MAX)
        self._count = 1 if self._size <= SMALL_BYTES and not processes else count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Hashing":
        if self._count > 1:
            # Not fork: the caller may have threads.
            self._pool = ProcessPoolExecutor(self._count, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def beside(self, work: Callable[..., R], *arguments: Any) -> Callable[[], R]:
        """Begin some other work; what is given back waits for its result."""
        if self._pool is None:
            return partial(work, *arguments)
        return self._pool.submit(work, *arguments).result

    def chunks(self) -> Iterator[Chunk]:
        """The events in order, hashed."""
        places = [(at, min(PIECE_BYTES, self._size - at)) for at in range(0, self._size, PIECE_BYTES)]
        if self._pool is None:
            for at, length in places:
                yield self._chunk(at, length, hash_piece(str(self._path), at, length))
            return
        waiting: deque[tuple[int, int, Future[Any]]] = deque()
        upcoming = iter(places)
        while True:
            while len(waiting) < 2 * self._count and (place := next(upcoming, None)) is not None:
                waiting.append((*place, self._pool.submit(hash_piece, str(self._path), *place)))
            if not waiting:
                return
            at, length, done = waiting.popleft()
            yield self._chunk(at, length, done.result())

    def _chunk(self, at: int, length: int, hashed: tuple[int, list[int], bytes]) -> Chunk:
        first, sequences, hashes = hashed
        numbers = sequences or range(first, first + len(hashes) // HASH_BYTES)
        return Chunk(numbers, hashes, partial(_list, str(self._path), at, length))


def _list(path: str, at: int, length: int) -> list[Event | None]:
    return list(_parsed(path, at, length))


def hash_piece(path: str, at: int, length: int) -> tuple[int, list[int], bytes]:
    """Hash the lines that begin in a piece of a file.

    Returns:
        The first sequence; all of them where they are not in a row, else nothing; the leaf hashes.
    """
    sequences: list[int] = []
    hashes: list[bytes] = []
    for event in _parsed(path, at, length):
        sequences.append(UNREADABLE if event is None else event[0])
        hashes.append(bytes(HASH_BYTES) if event is None else leaf_of(*event))
    first = sequences[0] if sequences else 0
    in_a_row = bool(sequences) and first > 0 and sequences == list(range(first, first + len(sequences)))
    return first, [] if in_a_row else sequences, b"".join(hashes)


def _parsed(path: str, at: int, length: int) -> Iterator[Event | None]:
    with Path(path).open("rb") as file:
        begin, end = at, at + length
        if at:
            # A line that began before belongs to the piece before.
            file.seek(at - 1)
            begin = at - 1 + len(file.readline(LINE_BYTES_MAX))
        if begin >= end:
            return
        text = file.read(end - begin)
        if not text.endswith(b"\n"):
            text += file.readline(LINE_BYTES_MAX)
    for one in text.removesuffix(b"\n").split(b"\n"):
        yield bundle.parse_line(one, _loads)
