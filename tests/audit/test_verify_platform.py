"""`opsbus audit verify` on a running platform, on its export, and on what a backup, doctored or not, brought back."""

import asyncio
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from opsbus.cli import app
from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.proof import part_of_export
from opsbus_audit.proof.checkpoint import Checkpoint, read_entries

COUNT = 130
WAIT_S = 60


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A second server, with nothing on it."""
    made = Bus(tmp_path / "other")
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def signing(bus: Bus, run_worker: Any, edge: Any, tmp_path: Path) -> dict[str, Any]:
    """A record of so many events, all signed; the settings of the worker that made it, which has ended."""
    key = tmp_path / "signing.pem"
    key.write_bytes(Signer.generate().pem())
    made = {
        "database_url": f"sqlite:///{tmp_path}/audit.sqlite3",
        "checkpoint_key_file": key,
        "checkpoint_file": tmp_path / "data" / "checkpoints.txt",
        "checkpoint_events": 50,
        "checkpoint_every_s": 0.5,
    }
    await edge.many(COUNT)
    async with run_worker(build(), **made):
        await until_signed(made, COUNT)
        js = await bus.jetstream()
        async with asyncio.timeout(WAIT_S):
            while (await js.consumer_info("AUDIT", "audit-store")).num_ack_pending:
                await asyncio.sleep(0.05)
            # The file has a checkpoint a moment before the stream has it.
            while (await js.stream_info("CHECKPOINTS")).state.messages < len(await asyncio.to_thread(filed, made)):
                await asyncio.sleep(0.05)
    return made


async def until_signed(signing: dict[str, Any], size: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while max(await asyncio.to_thread(filed, signing), default=0) < size:
            await asyncio.sleep(0.05)


def filed(signing: dict[str, Any]) -> list[int]:
    """How many events each checkpoint of the file covers."""
    path: Path = signing["checkpoint_file"]
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [Checkpoint.of(entry.note).size for entry in read_entries(file)]


async def opsbus(bus: Bus, identity: str, signing: dict[str, Any], *arguments: str, store: bool = True) -> Any:
    environment = {
        "NATS_URL": bus.url,
        "OPSBUS_NATS_SEED_FILE": str(bus.credentials(identity)),
        "OPSBUS_AUDIT_DATABASE_URL": signing["database_url"] if store else "",
        "OPSBUS_CMDB_DATABASE_URL": "",
        "DATABASE_URL": "",
        "OPSBUS_DATA": str(signing["checkpoint_file"].parent),
    }
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)


async def verify(bus: Bus, signing: dict[str, Any], *arguments: str, **more: Any) -> tuple[int, list[dict[str, Any]]]:
    done = await opsbus(bus, "auditor", signing, "audit", "verify", "--json", *arguments, **more)
    assert done.exit_code in (0, 3, 4), done.output
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


async def test_a_running_platform(bus: Bus, signing: dict[str, Any]) -> None:
    code, reports = await verify(bus, signing)
    assert (code, [report["source"] for report in reports]) == (0, ["store", "stream AUDIT"])
    assert all((report["events"], report["signed"], report["unsigned"]) == (COUNT, COUNT, 0) for report in reports)
    said = await opsbus(bus, "auditor", signing, "audit", "verify")
    assert f"OK: store: {COUNT} events are what was recorded" in said.stdout
    # With nothing but the bus.
    code, (report,) = await verify(bus, signing, store=False)
    assert (code, report["events"], report["checkpoints"]) == (0, COUNT, report["checkpoints"])
    key = await opsbus(bus, "auditor", signing, "audit", "key")
    assert key.stdout.startswith("opsbus/audit+")


async def test_an_export_and_its_key_are_all_that_is_needed(
    bus: Bus, signing: dict[str, Any], run_worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine signs later than an export waits for.
    monkeypatch.setattr(part_of_export, "_SIGNED_WITHIN_S", WAIT_S)
    folder, data = tmp_path / "export", signing["checkpoint_file"].parent
    async with run_worker(build(), **signing):
        done = await opsbus(bus, "auditor", signing, "audit", "export", "--out", str(folder), "--forms", "csv")
    assert done.exit_code == 0, done.output
    arguments = ["--key", str(data / "checkpoints.pub"), "--export-key", str(data / "keys" / "audit-export.pub.pem")]
    nothing = {
        "NATS_URL": "",
        "OPSBUS_AUDIT_DATABASE_URL": "",
        "DATABASE_URL": "",
        "OPSBUS_DATA": str(tmp_path / "none"),
    }
    invoked = await asyncio.to_thread(
        CliRunner().invoke, app, ["audit", "verify", str(folder), *arguments, "--json"], env=nothing
    )
    assert invoked.exit_code == 0, invoked.output
    report = json.loads(invoked.stdout)
    # That it was exported is an event too, and in it.
    assert (report["events"], report["unsigned"], report["complete"]) == (COUNT + 1, 0, True)
    events = folder / "events.ndjson"
    lines = (await asyncio.to_thread(events.read_bytes)).splitlines(keepends=True)
    await asyncio.to_thread(events.write_bytes, b"".join([*lines[:41], *lines[42:]]))
    invoked = await asyncio.to_thread(
        CliRunner().invoke, app, ["audit", "verify", str(folder), *arguments], env=nothing
    )
    assert invoked.exit_code == 3
    assert "MISSING" in invoked.stdout
    assert "event 42 is missing" in invoked.stdout


async def restored(bus: Bus, to: Bus, signing: dict[str, Any], tmp_path: Path, doctor: Any = None) -> dict[str, Any]:
    """Back up, doctor the backup, restore into an empty platform."""
    folder = tmp_path / "backup"
    made = await opsbus(bus, "provisioner", signing, "backup", str(folder))
    assert made.exit_code == 0, made.output
    if doctor is not None:
        await doctor(folder)
    there = signing | {"database_url": f"sqlite:///{tmp_path}/restored.sqlite3"}
    taken = await opsbus(to, "provisioner", there, "restore", str(folder))
    assert taken.exit_code == 0, taken.output
    return there


async def test_what_was_restored_is_what_was_recorded(
    bus: Bus, other: Bus, signing: dict[str, Any], tmp_path: Path
) -> None:
    there = await restored(bus, other, signing, tmp_path)
    code, reports = await verify(other, there)
    assert (code, [report["events"] for report in reports]) == (0, [COUNT, COUNT])
    code, (report,) = await verify(other, there, store=False)
    assert (code, report["events"]) == (0, COUNT)
    await other.close()


def sealed(folder: Path, part: str, name: str, facts: dict[str, Any]) -> None:
    """The manifest of the backup over a part that was changed."""
    manifest = json.loads((folder / "backup.json").read_text())
    for entry in manifest[part]:
        if entry["name"] == name:
            data = (folder / entry["file"]).read_bytes()
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} | {
                key: facts[key] for key in facts if key not in ("sha256", "bytes", "file")
            }
    (folder / "backup.json").write_text(json.dumps(manifest))


async def test_a_doctored_store_in_a_backup(bus: Bus, other: Bus, signing: dict[str, Any], tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        path = next((folder / "stores").iterdir())
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        for line in lines:
            if line["table"] == "audit_event" and line["row"]["sequence"] == 77:
                line["row"]["subject"] = "audit.edge.denied"
        path.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
        sealed(folder, "stores", "audit", {})

    async def doctor(folder: Path) -> None:
        await asyncio.to_thread(change, folder)

    there = await restored(bus, other, signing, tmp_path, doctor)
    code, (store, stream) = await verify(other, there)
    assert code == 3
    assert (store["finding"]["kind"], store["finding"]["sequence"]) == ("altered", 77)
    assert stream["ok"]
    await other.close()


async def test_a_doctored_stream_in_a_backup(bus: Bus, other: Bus, signing: dict[str, Any], tmp_path: Path) -> None:
    """The stream denies deletion; who has the backup takes that away, restores it elsewhere, deletes, and backs up."""
    between = Bus(tmp_path / "between")
    await asyncio.to_thread(between.start)

    async def doctor(folder: Path) -> None:
        manifest = json.loads(await asyncio.to_thread((folder / "backup.json").read_text))
        audit = next(entry for entry in manifest["streams"] if entry["name"] == "AUDIT")
        for name in ("deny_delete", "deny_purge"):
            audit["about"]["config"][name] = False
        await asyncio.to_thread((folder / "backup.json").write_text, json.dumps(manifest))
        done = await opsbus(between, "provisioner", signing, "restore", str(folder), "--no-stores")
        assert done.exit_code == 0, done.output
        js = await between.jetstream()
        await js.delete_msg("AUDIT", 93)
        again = tmp_path / "again"
        done = await opsbus(between, "provisioner", signing, "backup", str(again), "--no-stores")
        assert done.exit_code == 0, done.output
        data = await asyncio.to_thread((again / "streams" / "AUDIT.snapshot").read_bytes)
        await asyncio.to_thread((folder / "streams" / "AUDIT.snapshot").write_bytes, data)
        doctored = json.loads(await asyncio.to_thread((again / "backup.json").read_text))
        facts = next(entry for entry in doctored["streams"] if entry["name"] == "AUDIT")
        await asyncio.to_thread(sealed, folder, "streams", "AUDIT", facts)

    try:
        there = await restored(bus, other, signing, tmp_path, doctor)
    finally:
        await between.close()
        await asyncio.to_thread(between.stop)
    code, (store, stream) = await verify(other, there)
    assert code == 3
    assert store["ok"]
    assert (stream["finding"]["kind"], stream["finding"]["sequence"]) == ("missing", 93)
    code, (stream,) = await verify(other, there, store=False)
    assert (code, stream["finding"]["kind"], stream["finding"]["sequence"]) == (3, "missing", 93)
    await other.close()


async def test_a_stream_made_anew_is_told(bus: Bus, signing: dict[str, Any], edge: Any) -> None:
    """Who may delete the stream can write another: none of it is what was signed."""
    js = await bus.jetstream()
    kept = [await js.get_msg("AUDIT", number) for number in range(1, COUNT + 1)]
    info = await js.stream_info("AUDIT")
    await js.delete_stream("AUDIT")
    await js.add_stream(info.config)
    for message in kept:
        await edge.raw(message.data, message.subject, message.headers)
    code, (store, stream) = await verify(bus, signing)
    assert (code, store["ok"]) == (3, True)
    # The server's time of each is another one.
    assert (stream["finding"]["kind"], stream["finding"]["sequence"]) == ("altered", 1)
    code, (stream,) = await verify(bus, signing, store=False)
    assert (code, stream["finding"]["kind"], stream["finding"]["sequence"]) == (3, "altered", 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "/nowhere"], "cannot be read"),
        (["verify", "--key", "nonsense"], "no verifier key"),
        (["verify", "--export-key", "/nowhere", "/nowhere"], "no public key"),
    ],
)
async def test_what_cannot_be_checked(bus: Bus, signing: dict[str, Any], arguments: list[str], says: str) -> None:
    done = await opsbus(bus, "auditor", signing, "audit", *arguments)
    assert done.exit_code == 1
    assert says in done.output
