"""What ``opsbus audit report`` does: read the store, write one page."""

import getpass
import os
from datetime import datetime
from pathlib import Path

import typer

from opsbus.commands.output import fail
from opsbus_audit.access import Source, opened, run
from opsbus_audit.proof.command import PUBLIC_FILE, keys_of, said
from opsbus_audit.proof.in_store import verify_store
from opsbus_audit.proof.note import VerifierKey
from opsbus_audit.report.facts import Facts, gather
from opsbus_audit.report.page import page
from opsbus_audit.search import Question
from opsbus_contracts.audit import PlatformStage


def report(
    since: datetime,
    until: datetime,
    out: Path,
    *,
    key: list[str],
    force: bool,
    database_url: str | None,
    folder: str,
) -> None:
    """Write the page for a period; with the log's key, here or in the data folder, the store is verified for it."""
    if out.exists() and not force:
        fail(f"{out} is there", "name another file, or --force to write over it")
    question = Question(since=since, until=until)
    keys = _keys(key, folder)

    async def work() -> Facts:
        async with opened(
            PlatformStage.LOG_READ, question, source=Source.STORE, folder=folder, database_url=database_url,
            what="report", out=str(out),
        ) as access:  # fmt: skip
            if access.engine is None:
                raise ValueError("a report is made from the store")
            facts = await gather(access.engine, since, until, getpass.getuser())
            access.reading.events = sum(part.events for part in facts.completeness)
            if keys:
                verified = await verify_store(access.engine, keys)
                facts.verified, facts.verified_well = said(verified), verified.ok
            return facts

    facts = run(work())
    if facts is None:
        raise SystemExit(130)
    try:
        made = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(made, "w", encoding="utf-8", errors="replace") as file:
            file.write(page(facts))
    except OSError as error:
        fail(f"{out}: {error.strerror}")
    if not keys:
        typer.echo("not verified: no verifier key here ('opsbus audit key' prints it, --key takes it)", err=True)
    typer.echo(f"{facts.calls} calls, {facts.write_calls} writes, {facts.ended('denied')} denials: {out}", err=True)


def _keys(given: list[str], folder: str) -> list[VerifierKey]:
    return keys_of(given, folder) if given or (Path(folder) / PUBLIC_FILE).exists() else []
