"""Events per second of ``opsbus audit verify`` over an export, against bare ``hashlib`` over the same bytes, and the
memory it takes. ``python -m bench.record.verify [EVENTS]``."""

import asyncio
import base64
import json
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from bench import report
from bench.measure import Asked, Measure, Round, measure
from bench.record.sample import BEGAN_NS, LIFE, event, message_id, subject
from opsbus_audit import tables
from opsbus_audit.export.manifest import described, write_manifest
from opsbus_audit.proof import bundle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, Entry
from opsbus_audit.proof.leaf import Event, leaf_of
from opsbus_audit.proof.line import line
from opsbus_audit.proof.note import SigningKey
from opsbus_audit.proof.part_of_export import PARTS, write_proof
from opsbus_audit.store import AuditStore

EVENTS = 1_000_000
ROUNDS = 3
PROCESSES = (1, 2)
ASKED = Asked(per_s=100_000)
"""With two processes on two processors."""
_BATCH = 1_000
_STEP_NS = 100_003


def exported(number: int) -> Event:
    """An event of the export."""
    return Event(number, BEGAN_NS + number * _STEP_NS, subject(), message_id(number), event(number))


async def make(folder: Path, count: int, key: SigningKey) -> None:
    """An export, with a checkpoint for each thousand events. The tree alone is made in a store: no event is needed."""
    store = AuditStore(f"sqlite:///{folder}/tree.sqlite3")
    await store.create()
    out = folder / "export"
    await asyncio.to_thread(out.mkdir)
    old = 0
    with (out / bundle.EVENTS).open("wb") as file:
        for start in range(1, count + 1, _BATCH):
            events = [exported(number) for number in range(start, min(start + _BATCH, count + 1))]
            file.writelines(line(one) for one in events)
            sequences, leaves = [one.sequence for one in events], [leaf_of(*one) for one in events]
            async with store.engine.begin() as connection:
                frontier = await tree.lock(connection)
                await connection.run_sync(tree.append, frontier, LIFE, sequences, leaves)
                proof = await tree.consistency(connection, old, frontier.size)
                entry = Entry(old, tuple(proof), Checkpoint(key.name, frontier.size, frontier.root()).signed(key))
                row = {"size": frontier.size, "entry": str(entry), "signed_us": 0, "published": True}
                await connection.execute(insert(tables.checkpoint).values(row))
            old = frontier.size
    await write_proof(store.engine, out, [LIFE], 1, count)
    await store.close()
    facts = {
        "range": {"first": 1, "last": count},
        "events": count,
        "proof": {"streams": [LIFE], "complete": True},
        "files": described(out, (bundle.EVENTS, *PARTS)),
    }
    write_manifest(out, facts, Ed25519PrivateKey.generate())


def bare(path: Path, count: int) -> Round:
    """``hashlib`` alone for the same bytes, each event by itself."""
    seconds = 0.0
    with path.open("rb") as file:
        while lines := file.readlines(8 * 1024 * 1024):
            data = [base64.b64decode(orjson.loads(one)["data"]) for one in lines]
            began = time.perf_counter()
            for one in data:
                sha256(one).digest()
            seconds += time.perf_counter() - began
    return Round(count / seconds)


async def verified(folder: Path, key: SigningKey, processes: int, count: int) -> Round:
    """One verification, in a process of its own."""
    command = ["-m", "bench.record.verifying", str(folder), str(key.public), str(processes)]
    made = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    said, _ = await made.communicate()
    found = json.loads(said or "{}")
    if made.returncode or not found["ok"] or found["events"] != count:
        raise RuntimeError("the export was not found to be what it is")
    helpers = processes if processes > 1 else 0
    return Round(
        per_s=count / found["seconds"],
        cpu_us={name: seconds / count * 1e6 for name, seconds in found["cpu_s"].items() if seconds},
        memory_mb=found["mb"]["own"] + helpers * found["mb"]["helper"],
    )


async def run(count: int = EVENTS, rounds: int = ROUNDS) -> list[Measure]:
    """Bare hashlib, one process, and two; in turns."""
    key = SigningKey("bench/audit", Ed25519PrivateKey.generate())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await make(folder, count, key)
        export = folder / "export"
        hashed: list[Round] = []
        found: dict[int, list[Round]] = {}
        for _ in range(rounds):
            hashed.append(await asyncio.to_thread(bare, export / bundle.EVENTS, count))
            for processes in PROCESSES:
                found.setdefault(processes, []).append(await verified(export, key, processes, count))
    yardstick = measure("hashlib alone, one process", hashed)
    return [
        yardstick,
        measure("verify, one process", found[1], yardstick),
        measure("verify, two processes that hash", found[2], yardstick, ASKED),
    ]


def main(count: int = EVENTS) -> bool:
    """Print the table; whether what is asked holds."""
    rows = asyncio.run(run(count))
    report.show(f"{count:,} events of an export: events per second", rows)
    return all(row.met for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:2])) else 1)
