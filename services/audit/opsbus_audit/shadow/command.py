"""What ``opsbus audit shadow`` does: the catalogue, the calls, the run, and what is shown of it."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import typer
from nats.aio.client import Client
from nats.js import errors as js_errors
from pydantic import ValidationError

from opsbus import shadow
from opsbus.bucket_keys import bucket_keys
from opsbus.commands.output import fail
from opsbus.commands.where import edge_access
from opsbus_audit.access import Source, opened, run
from opsbus_audit.replay.forms import printable
from opsbus_audit.search import Question
from opsbus_audit.shadow.compare import Compared, Picked, by_tool, compare, pick
from opsbus_audit.shadow.difference import VOLATILE
from opsbus_audit.shadow.eligible import reads_of
from opsbus_audit.shadow.send import Candidate, NoCandidateError, Present
from opsbus_contracts import Manifest
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.streams import CATALOG

_SHOWN = 20


def shadow_run(
    question: Question, *, service: str, edge: str | None, most: int, at_once: int, timeout_s: float,
    ignore: list[str], key_file: Path | None, source: Source, as_json: bool, database_url: str | None, folder: str,
) -> None:  # fmt: skip
    """Send recorded reads to the candidate of a service, and show what is different. Differences end with code 3."""
    path = key_file or Path(folder) / "keys" / shadow.KEY_NAME
    try:
        signer = shadow.signer(path)
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}", "--key names an Ed25519 key in PEM; the candidate believes its public part")
    access_edge = edge_access(edge or "", os.environ.get("OPSBUS_TOKEN", ""), Path(folder))

    async def work() -> tuple[Picked, list[Compared]]:
        async with opened(
            PlatformStage.LOG_READ, question, source=source, folder=folder, database_url=database_url,
            what="shadow", service=service,
        ) as access:  # fmt: skip
            reads, others = reads_of(service, await catalogue(access.client))
            if not reads:
                raise ValueError(f"the catalogue has no tool of {service!r} that only reads; is its worker running?")
            picked = await pick(access.events(question), service, reads, others, most)
            candidate = Candidate(access.client, service, signer, timeout_s)
            headers = {"Authorization": f"Bearer {access_edge.token}"} if access_edge.token else {}
            wait = aiohttp.ClientTimeout(total=timeout_s + 5.0)
            async with aiohttp.ClientSession(headers=headers, timeout=wait) as http:
                present = Present(http, access_edge.url) if access_edge.url and edge != "none" else None
                ignored = {*VOLATILE, *ignore}
                return picked, await compare(picked, reads, candidate, present, at_once=at_once, ignored=ignored)

    try:
        done = run(work())
    except NoCandidateError as error:
        fail(str(error), f"start one beside it: opsbus run {service} --shadow")
    if done is None:
        raise SystemExit(130)
    picked, found = done
    (_print_json if as_json else _print)(picked, found)
    if any(item.verdict == "different" for item in found):
        raise SystemExit(3)


async def catalogue(client: Client) -> list[Manifest]:
    """What live workers announce; an announcement that cannot be read counts for nobody."""
    js = client.jetstream(timeout=5.0)
    bucket = await js.key_value(CATALOG.name)
    found: list[Manifest] = []
    for key in await bucket_keys(js, CATALOG.name):
        try:
            found.append(Manifest.model_validate_json((await bucket.get(key)).value or b""))
        except (ValidationError, js_errors.KeyNotFoundError):
            continue
    return found


def _print_json(picked: Picked, found: list[Compared]) -> None:
    report: dict[str, Any] = {
        "sent": len(found),
        "skipped": dict(picked.skipped),
        "tools": [asdict(line) for line in by_tool(found)],
        "differences": [
            {**asdict(item), "differences": [part._asdict() for part in item.differences]}
            for item in found
            if item.verdict == "different"
        ],
    }
    typer.echo(json.dumps(report, indent=2, default=str))


def _print(picked: Picked, found: list[Compared]) -> None:
    header = (
        f"{'tool':<32} {'calls':>6} {'same':>6} {'differ':>6} {'n/a':>5} {'ms then':>8} {'ms p50':>8} {'ms p95':>8}"
    )
    typer.echo(header)
    for line in by_tool(found):
        then = f"{line.recorded_ms_p50:.1f}" if line.recorded_ms_p50 is not None else "-"
        typer.echo(
            f"{printable(line.tool):<32} {line.calls:>6} {line.same:>6} {line.different:>6} {line.not_comparable:>5}"
            f" {then:>8} {line.candidate_ms_p50:>8.1f} {line.candidate_ms_p95:>8.1f}"
        )
    different = [item for item in found if item.verdict == "different"]
    for item in different[:_SHOWN]:
        typer.echo(f"\n{printable(item.tool)}  call {printable(item.call[:8])}")
        for path, present, candidate in item.differences:
            typer.echo(f"  {printable(path)}: {printable(present)} → {printable(candidate)}")
    if len(different) > _SHOWN:
        typer.echo(f"\n... and {len(different) - _SHOWN} more; --json shows all")
    for why, count in sorted(picked.skipped.items()):
        typer.echo(f"not sent: {count} ({why})", err=True)
    if any(item.verdict == "not comparable" for item in found):
        typer.echo("n/a: the record keeps a digest of a result alone; --edge URL asks the version in service", err=True)
    if not found:
        typer.echo("nothing was sent", err=True)
