"""Events per second of ``opsbus audit verify`` over an export of a million, against bare ``hashlib`` over the same
bytes, and the memory it takes. ``python -m bench.record.verify [EVENTS]``."""

import asyncio
import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from opsbus_audit import tables
from opsbus_audit.export.manifest import described, write_manifest
from opsbus_audit.proof import bundle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, Entry
from opsbus_audit.proof.leaf import Event, leaf_of
from opsbus_audit.proof.line import line
from opsbus_audit.proof.note import SigningKey, read_key
from opsbus_audit.proof.offline import verify_folder
from opsbus_audit.proof.part_of_export import PARTS
from opsbus_audit.proof.stored import write_proof
from opsbus_audit.store import AuditStore

EVENTS = 1_000_000
BATCH = 1_000
LIFE = "AUDIT@20260101T000000.000000Z"
BEGIN_NS = 1_780_000_000_000_000_000


def event(number: int) -> Event:
    """A completed read, as an edge records it."""
    data = {
        "stage": "completed", "seq": number, "call": f"{number:032x}", "actor": "ada@shop.example",
        "roles": ["operator"], "auth": "jwt", "client": "inspector 1.0", "protocol": "2026-07-28",
        "method": "tools/call", "tool": "k8s_get_pods", "service": "k8s", "version": "0.1.0",
        "instance": "k8s-12345678", "executed": "yes", "attempts": 1, "duration_ms": 12.3, "result_bytes": 4096,
        "result_digest": "ab" * 32, "trace_id": "cd" * 16, "rule": "policy.yaml:12 operator allow k8s:*",
    }  # fmt: skip
    body = {
        "specversion": "1.0", "id": f"edge-1-{number}", "source": "/opsbus/edge/edge-1",
        "type": "opsbus.audit.v1.completed", "time": "2026-11-21T00:00:00.123456Z", "data": data,
    }  # fmt: skip
    payload = json.dumps(body).encode()
    return Event(number, BEGIN_NS + number * 100_003, "audit.edge.completed", f"edge-1-{number}", payload)


async def make(folder: Path, count: int, key: SigningKey) -> None:
    """An export, with a checkpoint for each thousand events. The tree alone is made in a store: no event is needed."""
    store = AuditStore(f"sqlite:///{folder}/tree.sqlite3")
    await store.create()
    out = folder / "export"
    await asyncio.to_thread(out.mkdir)
    old = 0
    with (out / bundle.EVENTS).open("wb") as file:
        for start in range(1, count + 1, BATCH):
            events = [event(number) for number in range(start, min(start + BATCH, count + 1))]
            file.writelines(line(one) for one in events)
            leaves = [tree.Leaf(LIFE, one.sequence, leaf_of(*one)) for one in events]
            async with store.engine.begin() as connection:
                frontier = await tree.lock(connection)
                await connection.run_sync(tree.append, frontier, leaves)
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


def bare(path: Path) -> tuple[float, int]:
    """Seconds that ``hashlib`` alone takes for the same bytes, each event by itself, and how many bytes they are."""
    seconds, size = 0.0, 0
    with path.open("rb") as file:
        while lines := file.readlines(8 * 1024 * 1024):
            data = [base64.b64decode(json.loads(line)["data"]) for line in lines]
            began = time.perf_counter()
            for one in data:
                sha256(one).digest()
            seconds += time.perf_counter() - began
            size += sum(map(len, data))
    return seconds, size


def child(folder: str, key: str, processes: str) -> None:
    """Verify in a process of its own, so that its memory is its own."""
    report = verify_folder(Path(folder), [read_key(key)], processes=int(processes))
    kilobytes = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(
        part.ru_utime + part.ru_stime
        for part in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    print(
        json.dumps(
            {"cpu": used, "ok": report.ok, "events": report.events, "seconds": report.seconds, "kilobytes": kilobytes}
        )
    )


def main(count: int = EVENTS) -> None:
    """Print the table."""
    key = SigningKey("bench/audit", Ed25519PrivateKey.generate())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(make(folder, count, key))
        seconds, size = bare(folder / "export" / bundle.EVENTS)
        hashed = count / seconds
        print(f"{count:,} events, {size / count:,.0f} bytes each, {len(os.sched_getaffinity(0))} processors")
        print(f"{'hashlib alone, one process':<34}{hashed:>12,.0f} events/s")
        for processes in (1, 2):
            command = [sys.executable, "-m", "bench.record.verify", "--child", str(folder / "export"), str(key.public)]
            done = subprocess.run([*command, str(processes)], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            if not found["ok"] or found["events"] != count:
                raise SystemExit("the export was not found to be what it is")
            rate = found["events"] / found["seconds"]
            own, others = (kilobytes / 1024 for kilobytes in found["kilobytes"])
            print(
                f"{f'verify, {processes} hashing':<34}{rate:>12,.0f} events/s{rate / hashed:>8.2f} of hashlib's,"
                f" {own:,.0f} MB itself, {others:,.0f} MB the largest helper; {found['cpu']:.1f} s of processor time"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main(*map(int, sys.argv[1:2]))
