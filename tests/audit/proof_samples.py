"""A record with signed checkpoints, made without a bus, and an export of it."""

import asyncio
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from opsbus_audit import tables
from opsbus_audit.export.manifest import described, write_manifest
from opsbus_audit.proof import bundle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, Entry
from opsbus_audit.proof.leaf import Event
from opsbus_audit.proof.line import line
from opsbus_audit.proof.note import SigningKey
from opsbus_audit.proof.part_of_export import PARTS, write_proof
from opsbus_audit.proof.stored import events
from opsbus_audit.record import Stored
from opsbus_audit.store import AuditStore

LIFE = "AUDIT@20260101T000000.000000Z"
BEGIN_NS = 1_780_000_000_000_000_000
KEY = SigningKey("log.example/audit", Ed25519PrivateKey.generate())
EXPORTER = Ed25519PrivateKey.generate()


def message(sequence: int) -> Stored:
    """The event of a sequence."""
    data = b'{"n":%d,"text":"%s"}' % (sequence, b"x" * (sequence % 50))
    headers = {"Nats-Msg-Id": f"event-{sequence}"} if sequence % 5 else {}
    return Stored(LIFE, sequence, "audit.edge.completed", BEGIN_NS + sequence * 1_000_003, headers, data)


async def filled(url: str, count: int, *, signed: int | None = None, every: int = 100) -> AuditStore:
    """A store with so many events, the first ``signed`` of them under checkpoints."""
    store = AuditStore(url)
    await store.create()
    for start in range(1, count + 1, 150):
        batch = [message(number) for number in range(start, min(start + 150, count + 1))]
        await store.append(store.prepare(batch))
    await sign(store, count if signed is None else signed, every)
    return store


async def sign(store: AuditStore, upto: int, every: int = 100) -> None:
    """Checkpoints as the worker makes them."""
    old = 0
    for size in sorted({*range(every, upto + 1, every), upto} - {0}):
        async with store.engine.begin() as connection:
            root = (await tree.frontier_at(connection, size)).root()
            proof = await tree.consistency(connection, old, size)
            entry = Entry(old, tuple(proof), Checkpoint(KEY.name, size, root).signed(KEY))
            row = {"size": size, "entry": str(entry), "signed_us": time.time_ns() // 1_000, "published": True}
            await connection.execute(insert(tables.checkpoint).values(row))
        old = size


async def exported(store: AuditStore, folder: Path, first: int, last: int, keep: Any = None) -> Path:
    """An export of the range; ``keep`` is a filter."""
    await asyncio.to_thread(folder.mkdir)
    await write_proof(store.engine, folder, [LIFE], first, last)
    written: list[Event] = []
    async for chunk in events(store.engine, LIFE, first, last):
        written += [event for event in chunk.events() if event is not None and (keep is None or keep(event))]
    await asyncio.to_thread((folder / bundle.EVENTS).write_bytes, b"".join(line(event) for event in written))
    seal(folder, first, last, len(written), complete=keep is None)
    return folder


def seal(folder: Path, first: int, last: int, count: int, *, complete: bool = True) -> None:
    """The manifest over what is in the folder now, signed."""
    for name in ("manifest.json", "manifest.sig"):
        (folder / name).unlink(missing_ok=True)
    facts = {
        "range": {"first": first, "last": last},
        "events": count,
        "proof": {"streams": [LIFE], "complete": complete},
        "files": described(folder, (bundle.EVENTS, *PARTS)),
    }
    write_manifest(folder, facts, EXPORTER)
