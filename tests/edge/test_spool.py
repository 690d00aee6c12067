"""The edge's disk spool: what it holds comes back, once each and in order, whatever happened to the process."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from opsbus.testing.bus import Bus
from opsbus_contracts.audit import Stage
from opsbus_edge.audit import AuditLog, Queue, Spool, SpoolError
from opsbus_edge.audit.event import Event
from opsbus_edge.audit.spool import EMPTY_FROM_BYTES
from opsbus_edge.metrics import Metrics

MIB = 1024 * 1024


def event(number: int, size: int = 200) -> Event:
    return Event("audit.edge.completed", f"edge-{number}", f"{number:08d}{chr(252) * (size // 2)}".encode())


def spool(folder: Path, bytes_max: int = 16 * MIB) -> Spool:
    return Spool(folder, "edge-1", bytes_max=bytes_max)


def left_by_another(folder: Path, count: int) -> Path:
    """A spool of a process that ended without a word; returns its file."""
    before = spool(folder)
    for number in range(count):
        assert before.append(event(number))
    _let_go(before)
    return before.active.path


def _let_go(dead: Spool) -> None:
    """What the kernel does when a process is killed: its descriptors close, nothing else."""
    for handle in dead._locks.values():
        os.close(handle)
    dead._locks.clear()


def drain(queue: Queue, batch: int = 100) -> list[Event]:
    found: list[Event] = []
    while taken := queue.take(batch):
        found += [one.event for one in taken]
        queue.stored(taken)
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_what_a_killed_process_left_is_taken_over_as_it_was(tmp_path: Path) -> None:
    left_by_another(tmp_path, 50)
    queue = Queue(10, spool(tmp_path))
    assert queue.take_over() == 50
    assert drain(queue) == [event(number) for number in range(50)]
    assert len(queue) == 0
    queue.close()
    assert files(tmp_path) == []


def test_what_was_stored_is_not_sent_again(tmp_path: Path) -> None:
    dead = spool(tmp_path)
    queue = Queue(100, dead)
    for number in range(20):
        queue.put(event(number))
    queue.stored(queue.take(7))
    middle = queue.take(3)
    queue.stored(queue.take(5))
    queue.give_back(middle)
    _let_go(dead)

    after = Queue(100, spool(tmp_path))
    assert after.take_over() == 8
    assert drain(after) == [event(number) for number in (7, 8, 9, 15, 16, 17, 18, 19)]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = left_by_another(tmp_path / "spool", 1)
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_living_process_keeps_its_own(tmp_path: Path) -> None:
    living = spool(tmp_path)
    living.append(event(1))
    other = Queue(10, spool(tmp_path))
    assert other.take_over() == 0
    other.close()
    living.close()
    after = Queue(10, spool(tmp_path))
    assert after.take_over() == 1


@pytest.mark.parametrize("missing", [1, 5, 9, 100, 230])
def test_an_entry_cut_short_is_the_end(tmp_path: Path, missing: int) -> None:
    path = left_by_another(tmp_path, 3)
    entry = path.stat().st_size // 3
    assert missing < entry
    os.truncate(path, path.stat().st_size - missing)
    queue = Queue(10, spool(tmp_path))
    assert queue.take_over() == 2
    assert drain(queue) == [event(0), event(1)]
    queue.close()
    assert files(tmp_path) == []


@pytest.mark.parametrize("offset", [0, 2, 6, 20, 150])
def test_damage_is_told_and_kept_and_what_is_before_it_is_sent(
    tmp_path: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = left_by_another(tmp_path, 5)
    content = bytearray(path.read_bytes())
    content[len(content) // 5 * 2 + offset] ^= 0xFF
    path.write_bytes(content)
    queue = Queue(10, spool(tmp_path))
    assert queue.take_over() == 2
    assert drain(queue) == [event(0), event(1)]
    queue.close()
    assert files(tmp_path) == ["00000001.spool.damaged"]
    assert (path.parent / "00000001.spool.damaged").read_bytes() == content
    assert "damaged" in caplog.text


def test_a_file_that_is_no_spool_is_kept(tmp_path: Path) -> None:
    path = left_by_another(tmp_path, 1)
    path.write_bytes(b"something else entirely, and long enough to hold a head")
    queue = Queue(10, spool(tmp_path))
    assert queue.take_over() == 0
    queue.close()
    assert files(tmp_path) == ["00000001.spool.damaged"]


def test_what_memory_has_no_room_for_waits_on_disk_in_order(tmp_path: Path) -> None:
    queue = Queue(10, spool(tmp_path, 8 * MIB))
    expected = []
    for number in range(6_000):
        assert queue.put(event(number, 1_000))
        expected.append(event(number, 1_000))
    assert len(queue) == 6_000
    assert len(queue._memory) == 10
    assert len(files(tmp_path)) > 3
    found = []
    for number in range(6_000, 6_100):  # and more come while it is emptied
        taken = queue.take(7)
        queue.give_back(taken)
        taken = queue.take(5)
        found += [one.event for one in taken]
        queue.stored(taken)
        assert queue.put(event(number, 1_000))
        expected.append(event(number, 1_000))
    found += drain(queue)
    assert [one.id for one in found] == [one.id for one in expected]
    assert found == expected
    assert len(queue) == 0
    assert len(files(tmp_path)) == 1


def test_a_file_whose_events_are_stored_does_not_grow(tmp_path: Path) -> None:
    queue = Queue(10, spool(tmp_path))
    for number in range(2_000):
        queue.put(event(number))
        queue.stored(queue.take(1))
    assert queue.bytes_on_disk < 2 * EMPTY_FROM_BYTES


def test_what_is_sent_at_once_is_on_disk_meanwhile(tmp_path: Path) -> None:
    dead = spool(tmp_path)
    queue = Queue(10, dead)
    done, failed, open_ = (queue.hold(event(number)) for number in range(3))
    queue.release(done)
    assert queue.put_held(failed)
    assert [one.event for one in queue.take(5)] == [event(1)]
    assert open_.place is not None
    _let_go(dead)
    after = Queue(10, spool(tmp_path))
    after.take_over()
    assert drain(after) == [event(1), event(2)]


def test_what_is_sent_at_once_behind_others_is_not_sent_twice(tmp_path: Path) -> None:
    queue = Queue(10, spool(tmp_path))
    for number in range(20):
        queue.put(event(number))
    held = queue.hold(event(20))
    assert [one.id for one in drain(queue)] == [f"edge-{number}" for number in range(20)]
    queue.release(held)
    assert len(queue) == 0


def test_the_bound_refuses_and_twice_the_bound_loses(tmp_path: Path) -> None:
    queue = Queue(10, spool(tmp_path, MIB))
    taken = 0
    while not queue.problem():
        assert queue.put(event(taken, 1_000))
        taken += 1
    assert "bound is reached" in queue.problem()
    assert MIB <= queue.bytes_on_disk < MIB + 2_000
    while queue.put(event(taken, 1_000)):
        taken += 1
    assert queue.bytes_on_disk <= 2 * MIB + 2_000
    assert len(drain(queue)) == taken
    assert not queue.problem()


def test_a_disk_that_takes_nothing_is_a_problem_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(10, spool(tmp_path))
    assert queue.put(event(0))
    with monkeypatch.context() as patch:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "write", full)
        assert queue.put(event(1))  # in memory alone
    assert "No space left" in queue.problem()
    assert queue.in_memory_alone == 1
    assert queue.put(event(2))
    assert not queue.problem()
    assert [one.id for one in drain(queue)] == ["edge-0", "edge-1", "edge-2"]


def test_half_a_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = spool(tmp_path)
    assert dead.append(event(0))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        assert dead.append(event(1)) is None
    assert dead.append(event(2))
    _let_go(dead)
    queue = Queue(10, spool(tmp_path))
    queue.take_over()
    assert drain(queue) == [event(0), event(2)]


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file"):
        spool(tmp_path / "file")


async def test_an_edge_with_a_wrong_folder_does_not_start(run_edge, tmp_path: Path) -> None:
    from opsbus.settings import SettingsError

    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"setting audit_spool_folder: .*file"):
        async with run_edge(audit_spool_folder=tmp_path / "file"):
            pass


async def test_a_log_that_is_closed_without_the_stream_leaves_its_events_to_the_next(
    bus: Bus, tmp_path: Path, audit_events
) -> None:
    js = await bus.jetstream()
    await js.delete_stream("AUDIT")
    first = AuditLog(await bus.connect("edge"), "edge-1", Metrics(), Queue(10, spool(tmp_path)), timeout_s=0.2)
    await first.start()
    for number in range(300):
        first.write(Stage.COMPLETED, {"call": f"{number:032x}"})
    assert not await first.store(Stage.REQUESTED, {"call": "f" * 32})
    assert await first.close(0.1) == 0

    from opsbus.provision import provision

    await provision(js)
    second = AuditLog(await bus.connect("edge"), "edge-2", Metrics(), Queue(10, spool(tmp_path)))
    await second.start()
    second.write(Stage.COMPLETED, {"call": "e" * 32})
    assert await second.close(60) == 0
    events = await audit_events(302)
    assert [one["seq"] for one in events] == [*range(1, 302), 1]
    assert files(tmp_path) == []


@pytest.mark.timeout(300)  # some hundred calls
async def test_a_full_spool_refuses_reads_until_the_stream_is_back(
    run_edge, run_worker, bus: Bus, tmp_path: Path, audit_events
) -> None:
    from opsbus import Worker
    from opsbus.provision import provision

    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look() -> str:
        return "fine"

    js = await bus.jetstream()
    settings = {"audit_spool_folder": tmp_path / "spool", "audit_spool_bytes_max": MIB, "audit_timeout_s": 0.2}
    async with run_worker(worker), run_edge(**settings) as running:
        await running.knows("demo_look")
        await js.delete_stream("AUDIT")
        answered = 0
        while (answer := await running.call("demo_look")).result["isError"] is False:
            answered += 1
        assert answer.tool_error["code"] == "audit_unavailable"
        assert answered > 200
        ready = await running.ready()
        assert (ready.status_code, "bound is reached" in str(ready.json()["reasons"])) == (503, True)
        await provision(js)
        async with asyncio.timeout(60):
            while (await running.ready()).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await running.call("demo_look")).result["isError"] is False
    events = await audit_events(2 * answered + 1)
    numbers = sorted(event["seq"] for event in events)
    assert numbers == list(range(1, len(numbers) + 1)), "nothing is missing, the refused call's event included"
