"""Checking an export: in constant memory, with as many processes as there are processors.

hashing.py reads and hashes the events; here they are compared with their leaf hashes, and these with what was signed.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opsbus_audit.proof import bundle
from opsbus_audit.proof.bundle import BundleError, Manifest, Proof, Span
from opsbus_audit.proof.finding import Finding, Kind, Report
from opsbus_audit.proof.hashing import Hashing
from opsbus_audit.proof.leaf import Told
from opsbus_audit.proof.match import Chunk, Matcher, drive
from opsbus_audit.proof.note import NoteError, VerifierKey
from opsbus_audit.proof.roots import Roots


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
    with Hashing(folder / bundle.EVENTS, processes) as hashing:
        # Beside the events: the one leaves Python while it hashes, the other needs little.
        changed = hashing.beside(bundle.changed_files, folder, manifest)
        roots = hashing.beside(check_roots, folder, keys)
        _check_events(folder, manifest, proof, hashing.chunks(), report, told)
        _take_roots(report, roots())
        if names := changed():
            report.found(Finding(Kind.FORGED, 0, f"not what the manifest says: {', '.join(names)}"))
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
