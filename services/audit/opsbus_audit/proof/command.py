"""What ``opsbus audit verify`` and ``key`` do. Bus and database are imported only where they are asked."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opsbus.commands.output import fail
from opsbus_audit.proof.bundle import BundleError
from opsbus_audit.proof.finding import Report
from opsbus_audit.proof.leaf import Told
from opsbus_audit.proof.note import NoteError, VerifierKey, read_key
from opsbus_audit.proof.offline import verify_folder

TAMPERED, UNSIGNED = 3, 4
PUBLIC_FILE = "checkpoints.pub"


def verify(
    export: Path | None,
    *,
    stream: bool,
    store: bool,
    keys: Sequence[str],
    export_key: Path | None,
    processes: int,
    as_json: bool,
    database_url: str | None,
    folder: str,
) -> None:
    """Check, tell, and end with the exit code that says how it came out."""
    known = keys_of(keys, folder)
    if export is not None:
        if stream or store:
            fail("--stream and --store are about the platform, not about an export", code=2)
        with _progress(as_json) as told:
            try:
                reports = [verify_folder(export, known, told, processes, _public(export_key))]
            except BundleError as error:
                fail(str(error), "name the folder that 'opsbus audit export' wrote")
    else:
        from opsbus_audit.proof.platform import verify_platform

        with _progress(as_json) as told:
            reports = verify_platform(
                known, told, stream=stream or not store, store=store or not stream, url=database_url, folder=folder
            )
    for report in reports:
        typer.echo(json.dumps(report.as_dict(), default=str) if as_json else said(report))
    if not all(report.ok for report in reports):
        raise SystemExit(TAMPERED)
    if export is not None and reports[0].unsigned:
        raise SystemExit(UNSIGNED)


def key(folder: str) -> None:
    """Print the key."""
    path = Path(folder) / PUBLIC_FILE
    try:
        typer.echo(str(read_key(str(path))))
    except NoteError as error:
        fail(str(error), "the audit worker writes it beside its file of checkpoints (OPSBUS_AUDIT_CHECKPOINT_FILE)")


def keys_of(given: Sequence[str], folder: str) -> list[VerifierKey]:
    """The keys of the command, else the data folder's; without any the command ends."""
    try:
        if given:
            return [read_key(text) for text in given]
        return [read_key(str(Path(folder) / PUBLIC_FILE))]
    except NoteError as error:
        fail(str(error), "give --key: the verifier key ('opsbus audit key' prints it), or a file with it")


def said(report: Report) -> str:
    """What a person reads."""
    lines = []
    found = report.finding
    if found is None:
        lines.append(f"OK: {report.source}: {report.events:,} events are what was recorded")
    else:
        lines.append(f"{found.kind.upper()}: {report.source}: {found.what}")
        lines.append(f"  {report.events:,} events before that are what was recorded")
    if report.signed:
        root = f", root {report.root[:16]}..." if report.root else ""
        lines.append(f"  {report.checkpoints:,} signed checkpoints, the last over {report.signed:,} leaves{root}")
    if report.unsigned:
        lines.append(f"  {report.unsigned:,} events are not under a signed checkpoint yet")
    if report.let_go:
        spans = ", ".join(f"{first}-{last}" for first, last in report.let_go[:5])
        more = f" and {len(report.let_go) - 5} more" if len(report.let_go) > 5 else ""
        lines.append(f"  {report.let_go_events:,} events were let go by the retention policy: {spans}{more}")
    if not report.complete:
        lines.append("  the export holds some events only: what it left out is not looked for")
    lines += [f"  {note}" for note in report.notes]
    rate = report.events / report.seconds if report.seconds else 0
    lines.append(f"  {report.seconds:.1f} s, {rate:,.0f} events/s")
    return "\n".join(lines)


@contextmanager
def _progress(quiet: bool) -> Iterator[Told | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(), "verifying", MofNCompleteColumn(), "events", TimeElapsedColumn(), console=Console(stderr=True)
    ) as shown:
        task = shown.add_task("verify", total=None)
        yield lambda count: shown.advance(task, count)


def _public(path: Path | None) -> Ed25519PublicKey | None:
    if path is None:
        return None
    try:
        found = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        fail(f"{path} holds no public key in PEM ({type(error).__name__})")
    if not isinstance(found, Ed25519PublicKey):
        fail(f"{path} holds no Ed25519 key")
    return found
