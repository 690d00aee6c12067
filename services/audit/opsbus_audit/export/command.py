"""What ``opsbus audit export`` does: read what matches, write the files, sign the manifest."""

import getpass
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats import errors
from nats.aio.client import Client
from nats.js import errors as js_errors
from nats.js.api import ConsumerConfig, DeliverPolicy

from opsbus.commands.output import fail, warn
from opsbus_audit.access import Access, Source, asked, opened, run
from opsbus_audit.export.forms import NAMES, Form, has_parquet, open_forms
from opsbus_audit.export.manifest import KeyFileError, described, signing_key, write_manifest
from opsbus_audit.ordered import Recorded
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.part_of_export import PARTS, write_part
from opsbus_audit.reading import json_of
from opsbus_audit.replay.forms import stored_at
from opsbus_audit.search import Question
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.streams import CHECKPOINTS

_CHECKPOINT = "checkpoint.audit"
_CHECKPOINT_S = 3.0


@dataclass
class Seen:
    """What went into an export."""

    events: int = 0
    unreadable: int = 0
    first: Recorded | None = None
    last: Recorded | None = None
    stages: dict[str, int] = field(default_factory=dict)

    def count(self, recorded: Recorded, event: Any) -> None:
        """One more."""
        self.events += 1
        self.first = self.first or recorded
        self.last = recorded
        if event is None:
            self.unreadable += 1
            return
        stage = str(event["data"].get("stage", ""))[:64]
        if stage in self.stages or len(self.stages) < 200:
            self.stages[stage] = self.stages.get(stage, 0) + 1


def export(
    question: Question, *, out: Path, forms: str, key_file: Path | None, source: Source, database_url: str | None,
    folder: str,
) -> None:  # fmt: skip
    """Export what matches into a new folder."""
    wanted = _wanted(forms)
    try:
        key = signing_key(key_file or Path(folder) / "keys" / "audit-export.pem")
    except KeyFileError as error:
        fail(str(error), "--sign-key names an Ed25519 key in PEM; without one it is made in the data folder")
    try:
        out.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        fail(f"{out} is there", "an export goes into a new folder")

    async def work() -> Seen:
        async with opened(
            PlatformStage.EXPORTED, question, source=source, folder=folder, database_url=database_url,
            what="export", forms=wanted, out=str(out),
        ) as access:  # fmt: skip
            return await write(access, question, out, wanted, key)

    seen = None
    try:
        seen = run(work())
    finally:
        if seen is None and not any(out.iterdir()):
            out.rmdir()
    if seen is None:
        typer.echo(f"not finished: {out} has no manifest", err=True)
        raise SystemExit(130)
    typer.echo(f"{seen.events} events into {out}: {', '.join(sorted(path.name for path in out.iterdir()))}", err=True)


def _wanted(forms: str) -> list[str]:
    given = [word.strip() for word in forms.split(",") if word.strip()]
    if given == ["all"]:
        return [name for name in NAMES if name != "parquet" or has_parquet()]
    for name in given:
        if name not in NAMES and name != "ndjson":
            fail(f"--forms {name!r} is not known", f"there are: ndjson (always), {', '.join(NAMES)}, all")
    if "parquet" in given and not has_parquet():
        fail("Parquet needs pyarrow, which is not installed", "pip install 'opsbus-audit[parquet]', or leave it out")
    return [name for name in given if name != "ndjson"]


async def write(access: Access, question: Question, out: Path, wanted: list[str], key: Ed25519PrivateKey) -> Seen:
    """Write the files and the signed manifest into a folder that is there and empty."""
    note = await _checkpoint(access.client)
    files = open_forms(out, wanted)
    seen = Seen()
    async for batch in access.events(question):
        for recorded in batch:
            event = json_of(recorded.payload)
            seen.count(recorded, event)
            _add(files, recorded, event)
    proof = await _proof(access, question, out, seen)
    facts = {
        "made_at": datetime.now(UTC).isoformat(),
        "made_by": getpass.getuser(),
        "question": asked(question),
        "source": access.source.value,
        "range": _range(seen),
        "events": seen.events,
        "unreadable": seen.unreadable,
        "stages": dict(sorted(seen.stages.items())),
        "tree_size": _tree_size(note),
        "checkpoint": note,
        "proof": proof,
        "files": {form.name: form.close() for form in files} | described(out, PARTS),
    }
    write_manifest(out, facts, key)
    return seen


def _add(files: list[Form], recorded: Recorded, event: Any) -> None:
    for form in files:
        form.add(recorded, event)


def _range(seen: Seen) -> dict[str, Any] | None:
    if seen.first is None or seen.last is None:
        return None
    return {
        "first": seen.first.sequence,
        "last": seen.last.sequence,
        "first_time": stored_at(seen.first.stored_ns),
        "last_time": stored_at(seen.last.stored_ns),
    }


async def _checkpoint(client: Client) -> str | None:
    """The last signed checkpoint; None: there is none yet."""
    js = client.jetstream(timeout=_CHECKPOINT_S)
    try:
        if not (await js.stream_info(CHECKPOINTS.name)).state.messages:
            return None
        config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST)
        reader = await js.subscribe(_CHECKPOINT, stream=CHECKPOINTS.name, config=config, ordered_consumer=True)
        try:
            return (await reader.next_msg(timeout=_CHECKPOINT_S)).data.decode("utf-8", "replace")
        finally:
            await reader.unsubscribe()
    except (js_errors.Error, errors.Error, TimeoutError):
        return None


async def _proof(access: Access, question: Question, out: Path, seen: Seen) -> dict[str, Any] | None:
    """Leaf hashes, checkpoints and what joins them, of the range; None: there is no store to take them from."""
    if access.engine is None or seen.first is None or seen.last is None:
        return None
    unfiltered = not set(asked(question)) - {"since", "until", "first", "last"}
    try:
        return await write_part(
            access.engine, access.client, out, seen.first.sequence, seen.last.sequence, complete=unfiltered
        )
    except ProofError as error:
        warn(f"the export has no proof: {error}")
        return None


def _tree_size(note: str | None) -> int | None:
    lines = (note or "").splitlines()
    return int(lines[1]) if len(lines) > 1 and lines[1].isdecimal() else None
