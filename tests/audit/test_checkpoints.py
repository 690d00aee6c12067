"""The worker signs what it has, hands it on to three places, and stops when somebody changed the tree."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.js.errors import NotFoundError
from sqlalchemy import delete, select, update

from opsbus.identity import Signer
from opsbus.settings import SettingsError
from opsbus.testing.bus import Bus
from opsbus_audit import tables
from opsbus_audit.app import build
from opsbus_audit.proof import merkle, tree
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, open_checkpoint, read_entries
from opsbus_audit.proof.note import VerifierKey
from opsbus_audit.store import AuditStore

WAIT_S = 60


@pytest.fixture
def signing(tmp_path: Path) -> dict[str, Any]:
    """Settings of a worker that signs, quickly."""
    key = tmp_path / "signing.pem"
    key.write_bytes(Signer.generate().pem())
    return {
        "database_url": f"sqlite:///{tmp_path}/audit.sqlite3",
        "checkpoint_key_file": key,
        "checkpoint_file": tmp_path / "checkpoints.txt",
        "checkpoint_events": 100,
        "checkpoint_every_s": 0.5,
    }


def key_of(signing: dict[str, Any]) -> VerifierKey:
    return VerifierKey.parse(signing["checkpoint_file"].with_suffix(".pub").read_text())


def filed(signing: dict[str, Any]) -> list[Entry]:
    path: Path = signing["checkpoint_file"]
    if not path.exists():
        return []
    with path.open("rb") as file:
        return list(read_entries(file))


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not check():
            await asyncio.sleep(0.05)


async def until_signed(signing: dict[str, Any], size: int) -> list[Checkpoint]:
    """The checkpoints of the file, as soon as one covers so many events."""
    found: list[Checkpoint] = []

    def check() -> bool:
        found[:] = [Checkpoint.of(entry.note) for entry in filed(signing)]
        return bool(found) and found[-1].size >= size

    await until(check)
    return found


async def until_told(signing: dict[str, Any]) -> None:
    """The stream is told after the file: a worker that is stopped between the two leaves that to the next one."""
    untold = select(tables.checkpoint.c.size).where(tables.checkpoint.c.published.is_(False))
    store = AuditStore(signing["database_url"])
    async with asyncio.timeout(WAIT_S):
        while True:
            async with store.engine.connect() as connection:
                if not (await connection.execute(untold)).all():
                    break
            await asyncio.sleep(0.05)
    await store.close()


async def published(bus: Bus) -> list[Any]:
    js = await bus.jetstream("witness")
    last = (await js.stream_info("CHECKPOINTS")).state.last_seq
    provisioner = await bus.jetstream()
    return [await provisioner.get_msg("CHECKPOINTS", number) for number in range(1, last + 1)]


async def heads(bus: Bus, signing: dict[str, Any]) -> list[Checkpoint]:
    """The stream's checkpoints, each verified."""
    return [open_checkpoint(message.data, key_of(signing))[0] for message in await published(bus)]


async def until_faulty(running: Any) -> str:
    """What /ready says is wrong."""
    async with asyncio.timeout(WAIT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{running.http_url}/ready") as response:
                body = await response.json()
                if response.status == 503 and "faults" in body:
                    return str(body["faults"]["record"])
            await asyncio.sleep(0.05)


async def said(js: Any) -> Any:
    """What the audit worker put into the record last; None: nothing yet. /ready is red a moment before."""
    try:
        return await js.get_last_msg("AUDIT", "audit.audit.*", direct=True)
    except NotFoundError:
        return None


async def change(signing: dict[str, Any], *statements: Any) -> None:
    """As somebody does who has the database."""
    store = AuditStore(signing["database_url"])
    async with store.engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)
    await store.close()


async def test_checkpoints_are_signed_and_handed_on(bus: Bus, run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(250)
    async with run_worker(build(), **signing):
        found = await until_signed(signing, 250)
        await edge.many(1, start=250)
        found = await until_signed(signing, 251)
        await until_told(signing)
    key = key_of(signing)
    # Every hundredth, whatever else was due by the time on the way there.
    assert [one.size for one in found if one.size % 100 == 0] == [100, 200]
    old = Checkpoint(key.name, 0, merkle.EMPTY_ROOT)
    for entry in filed(signing):
        one, _ = open_checkpoint(str(entry.note), key)
        assert entry.old == old.size
        merkle.verify_consistency(old.size, one.size, old.root, one.root, entry.proof)
        old = one
    store = AuditStore(signing["database_url"])
    async with store.engine.connect() as connection:
        assert (await tree.frontier_at(connection, 251)).root() == found[-1].root
        rows = (await connection.execute(select(tables.checkpoint).order_by(tables.checkpoint.c.size))).all()
    await store.close()
    assert [row.entry for row in rows] == [str(entry) for entry in filed(signing)]
    assert all(row.published for row in rows)
    assert [message.data.decode() for message in await published(bus)] == [str(entry.note) for entry in filed(signing)]


async def test_a_restart_goes_on_and_signs_nothing_twice(bus: Bus, run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(30)
    async with run_worker(build(), **signing):
        await until_signed(signing, 30)
    before = len(filed(signing))
    # A power cut in the middle of an entry, and a crash before the stream was told.
    with signing["checkpoint_file"].open("ab") as file:
        file.write(b"old 30\nAAA")
    await change(signing, update(tables.checkpoint).values(published=False))
    async with run_worker(build(), **signing):
        await edge.many(5, start=30)
        found = await until_signed(signing, 35)
        await until_told(signing)
    sizes = [one.size for one in found]
    assert sizes == sorted(set(sizes))
    assert len(sizes) > before
    texts = [message.data.decode() for message in await published(bus)]
    assert len(set(texts)) == len(texts) == len(sizes)


async def test_nothing_new_is_nothing_signed(run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(3)
    async with run_worker(build(), **signing):
        await until_signed(signing, 3)
        count = len(filed(signing))
        await asyncio.sleep(1.5)  # three times the interval: silence is what is looked for
        assert len(filed(signing)) == count


TAMPERED: dict[str, Any] = {
    "a leaf": update(tables.leaves).where(tables.leaves.c.position == 0).values(hashes=b"\x00" * 32 * 40),
    "the frontier": update(tables.tree).values(frontier=b"\x01" * 64),
    "fewer leaves": update(tables.tree).values(size=1, frontier=b"\x01" * 32),
    "no tree": delete(tables.tree),
    "no checkpoints": delete(tables.checkpoint),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_changed_tree_is_not_signed(bus: Bus, run_worker: Any, edge: Any, signing: Any, what: str) -> None:
    await edge.many(40)
    async with run_worker(build(), **signing):
        await until_signed(signing, 40)
    await change(signing, TAMPERED[what])
    before = filed(signing)
    async with run_worker(build(), **signing) as running:
        fault = await until_faulty(running)
        js = await bus.jetstream()
        async with asyncio.timeout(WAIT_S):
            while (last := await said(js)) is None:
                await asyncio.sleep(0.05)
    event = json.loads(last.data)
    assert event["data"]["stage"] == "record_at_odds"
    assert event["data"]["reason"] == fault
    assert filed(signing) == before


async def test_a_change_while_it_runs_is_noticed(run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(40)
    async with run_worker(build(), **signing) as running:
        found = await until_signed(signing, 40)
        await change(signing, update(tables.node).values(hash=b"\x02" * 32), TAMPERED["the frontier"])
        await edge.many(300, start=40)
        await until_faulty(running)
        assert max(one.size for one in await until_signed(signing, 40)) <= max(one.size for one in found) + 300


def put_back(database: Path, data: bytes) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    database.write_bytes(data)


async def test_a_store_rolled_back_to_an_older_copy_is_noticed(run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(20)
    database = Path(signing["database_url"].removeprefix("sqlite:///"))
    async with run_worker(build(), **signing):
        await until_signed(signing, 20)
    old = await asyncio.to_thread(database.read_bytes)
    async with run_worker(build(), **signing):
        await edge.many(20, start=20)
        await until_signed(signing, 40)
    put_back(database, old)
    async with run_worker(build(), **signing) as running:
        assert "40 were signed" in await until_faulty(running)


async def test_another_key_needs_the_former_one(run_worker: Any, edge: Any, signing: Any) -> None:
    await edge.many(5)
    async with run_worker(build(), **signing):
        await until_signed(signing, 5)
    former = key_of(signing)
    signing["checkpoint_key_file"].write_bytes(Signer.generate().pem())
    async with run_worker(build(), **signing) as running:
        assert "not signed by" in await until_faulty(running)
    async with run_worker(build(), **signing, checkpoint_former_keys=[str(former)]):
        await edge.many(5, start=5)
        found = await until_signed(signing, 10)
    assert open_checkpoint(str(filed(signing)[-1].note), key_of(signing))[0] == found[-1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"checkpoint_key_file": "/nowhere/key.pem"}, "checkpoint_key_file"),
        ({"checkpoint_former_keys": ["x"]}, "checkpoint_former_keys"),
        ({"checkpoint_origin": "a b"}, "checkpoint_origin"),
    ],
)
async def test_a_wrong_setting_ends_the_start(run_worker: Any, signing: Any, wrong: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        async with run_worker(build(), **(signing | wrong)):
            pass


async def test_two_instances_sign_one_log(bus: Bus, run_worker: Any, edge: Any, signing: Any, tmp_path: Path) -> None:
    other = signing | {"checkpoint_file": tmp_path / "other.txt"}
    async with run_worker(build(), **signing, batch_max=20), run_worker(build(), **other, batch_max=20):
        await edge.many(400)
        async with asyncio.timeout(WAIT_S):
            while max([one.size for one in await heads(bus, signing)], default=0) < 400:
                await asyncio.sleep(0.2)
    seen: dict[int, bytes] = {}
    for one in await heads(bus, signing):
        assert seen.setdefault(one.size, one.root) == one.root
