"""The witness remembers, cosigns what goes on, and cries out when the log has two pasts."""

import asyncio
import io
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus_audit.app import build
from opsbus_audit.proof import merkle
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, encode_hashes, frame, read_entries
from opsbus_audit.proof.merkle import Frontier
from opsbus_audit.proof.note import COSIGNATURE, Note, NoteError, SigningKey, VerifierKey
from opsbus_audit.proof.signer import FRONTIER, OLD, PROOF
from opsbus_audit.proof.witness import ForkError, Witness

KEY = SigningKey("log.example/a", Ed25519PrivateKey.generate())
OWN = SigningKey("witness.example/w", Ed25519PrivateKey.generate(), COSIGNATURE)
WAIT_S = 60


class Log:
    """A log in memory; ``salt`` makes it another one."""

    def __init__(self, salt: bytes = b"", common: int = 0) -> None:
        self.hashes = [merkle.leaf_hash(b"%d" % n + (salt if n >= common else b"")) for n in range(200)]

    def root(self, first: int, last: int) -> bytes:
        level = Frontier()
        level.extend(b"".join(self.hashes[first:last]))
        return level.root()

    def entry(self, old: int, size: int, key: SigningKey = KEY) -> Entry:
        """A checkpoint with its proof."""
        proof = merkle.consistency_proof(old, size, self.root)
        return Entry(old, tuple(proof), Checkpoint(key.name, size, self.root(0, size)).signed(key))

    def file(self, *sizes: int) -> bytes:
        """A file of checkpoints."""
        return b"".join(frame(self.entry(old, size)) for old, size in zip((0, *sizes), sizes, strict=False))


def test_it_cosigns_what_goes_on_and_remembers(tmp_path: Path) -> None:
    log, path = Log(), tmp_path / "seen.txt"
    watching = Witness(path, [KEY.public], OWN)
    for old, size in ((0, 3), (3, 70), (70, 128)):
        (note,) = watching.take(log.entry(old, size))
        assert note.verified([KEY.public, OWN.public]) == [KEY.public, OWN.public]
        assert watching.take(log.entry(old, size)) == []
    with pytest.raises(OSError, match="another witness"):
        Witness(path, [KEY.public])
    watching.close()
    again = Witness(path, [KEY.public], OWN)
    assert (again.seen.size, again.seen.root) == (128, log.root(0, 128))
    # In the wrong order: what is too early waits for what is between.
    assert again.take(log.entry(140, 150)) == []
    again.overdue(WAIT_S)
    assert [Checkpoint.of(note).size for note in again.take(log.entry(128, 140))] == [140, 150]
    again.overdue(0)
    with pytest.raises(NoteError, match="not signed by"):
        again.take(log.entry(150, 199, SigningKey(KEY.name, Ed25519PrivateKey.generate())))
    assert again.seen.size == 150
    again.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9_999))
def test_every_fork_is_found_and_stays_found(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    common = dice.randrange(150)
    one, other = Log(), Log(b"!", common)
    path = tmp_path_factory.mktemp("fork") / "seen.txt"
    watching = Witness(path, [KEY.public], OWN)
    seen = dice.randint(common + 1, 160)
    watching.take(one.entry(0, seen))
    size = dice.randint(seen, 200)

    def forked() -> None:
        # A proof from less than was seen would hold for a fork too.
        watching.take(other.entry(dice.choice([0, common, seen]), size))
        watching.overdue(0)

    with pytest.raises(ForkError):
        forked()
    watching.close()
    with pytest.raises(ForkError, match="seen before"):
        Witness(path, [KEY.public], OWN)
    evidence = path.with_suffix(".fork").read_bytes().partition(b"\n\n")[2]
    (kept,) = read_entries(io.BytesIO(evidence))
    assert Checkpoint.of(kept.note).size == size


def test_its_own_file_cannot_be_changed_and_survives_a_power_cut(tmp_path: Path) -> None:
    log, path = Log(), tmp_path / "seen.txt"
    watching = Witness(path, [KEY.public], OWN)
    watching.take(log.entry(0, 5))
    watching.take(log.entry(5, 9))
    watching.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b"old 9\nAAA")
    Witness(path, [KEY.public]).close()
    assert path.read_bytes() == whole
    path.write_bytes(whole[len(whole) // 2 :])
    with pytest.raises(NoteError):
        Witness(path, [KEY.public])
    path.write_bytes(frame(log.entry(0, 5)) + frame(Entry(5, (b"x" * 32,) * 3, log.entry(5, 9).note)))
    with pytest.raises(NoteError, match="was changed"):
        Witness(path, [KEY.public])


async def run(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "audit", "witness", *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.timeout(300)  # five processes, one after the other
async def test_it_watches_a_file_and_a_url(tmp_path: Path) -> None:
    log, source = Log(), tmp_path / "checkpoints.txt"
    source.write_bytes(log.file(10, 20))
    state = tmp_path / "seen.txt"
    arguments = ["--state", str(state), "--key", str(KEY.public), "--no-follow"]
    first = await run(str(source), *arguments)
    out, errors = await first.communicate()
    assert first.returncode == 0, errors
    assert out.decode().count("consistent") == 2

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=source.read_bytes())

    served = web.Application()
    served.router.add_get("/checkpoints.txt", answer)
    runner = web.AppRunner(served)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/checkpoints.txt"
    source.write_bytes(log.file(10, 20, 30))
    second = await run(url, *arguments)
    out, errors = await second.communicate()
    assert (second.returncode, out.decode().count("consistent")) == (0, 1), errors
    source.write_bytes(Log(b"!", 15).file(10, 40))
    for _ in range(2):
        third = await run(url, *arguments)
        _, errors = await third.communicate()
        assert third.returncode == 3
        assert b"FORK: THE RECORD HAS TWO PASTS" in errors
    await runner.cleanup()
    gone = await run(url, "--state", str(tmp_path / "other.txt"), "--key", str(KEY.public), "--no-follow")
    assert await gone.wait() == 1


@pytest.mark.timeout(300)
async def test_it_follows_the_bus_cosigns_and_tells_of_a_fork(
    bus: Bus, run_worker: Any, edge: Any, tmp_path: Path
) -> None:
    key, own = tmp_path / "signing.pem", tmp_path / "witness.pem"
    for path in (key, own):
        path.write_bytes(Signer.generate().pem())
    settings_ = {
        "database_url": f"sqlite:///{tmp_path}/audit.sqlite3", "checkpoint_key_file": key,
        "checkpoint_file": tmp_path / "checkpoints.txt", "checkpoint_events": 50, "checkpoint_every_s": 0.3,
    }  # fmt: skip
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("witness"))}
    arguments = [
        "--state",
        str(tmp_path / "seen.txt"),
        "--key",
        str(tmp_path / "checkpoints.pub"),
        "--sign-key",
        str(own),
    ]
    js = await bus.jetstream()

    async def cosigned(size: int) -> Note:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    note = Note.parse(
                        (await js.get_last_msg("CHECKPOINTS", "checkpoint.witness", direct=True)).data or b""
                    )
                    if Checkpoint.of(note).size >= size:
                        return note
                except Exception as error:
                    if type(error).__name__ != "NotFoundError":
                        raise
                await asyncio.sleep(0.1)

    await edge.many(60)
    async with run_worker(build(), **settings_):
        async with asyncio.timeout(WAIT_S):
            while not (tmp_path / "checkpoints.pub").exists():
                await asyncio.sleep(0.05)
        watching = await run(*arguments, **environment)
        note = await cosigned(60)
        watching.send_signal(signal.SIGINT)
        _, errors = await watching.communicate()
        assert watching.returncode == 0, errors
        line = next(text for text in errors.decode().splitlines() if text.startswith("cosigning as "))
        public = VerifierKey.parse(line.removeprefix("cosigning as "))
        log = VerifierKey.parse((tmp_path / "checkpoints.pub").read_text())
        assert note.verified([log, public]) == [log, public]
        watching = await run(*arguments, **environment)
        await edge.many(30, start=60)
        last = Checkpoint.of(await cosigned(90))
    # Whoever has the key signs another past.
    forger = SigningKey.load(log.name, key)
    frontier = Frontier()
    frontier.extend(b"".join(merkle.leaf_hash(b"%d" % n) for n in range(last.size + 1)))
    forged = Checkpoint(log.name, frontier.size, frontier.root()).signed(forger)
    headers = {OLD: str(last.size), PROOF: encode_hashes([b"x" * 32]), FRONTIER: encode_hashes(frontier.roots)}
    audit = await bus.jetstream("audit")
    await audit.publish("checkpoint.audit", str(forged).encode(), headers=headers)
    async with asyncio.timeout(WAIT_S):
        _, errors = await watching.communicate()
    assert watching.returncode == 3
    assert b"FORK" in errors
    told = json.loads((await js.get_last_msg("AUDIT", "audit.witness.fork_found", direct=True)).data or b"")
    assert told["data"]["stage"] == "fork_found"
    assert Checkpoint.of(await cosigned(90)).size == last.size
