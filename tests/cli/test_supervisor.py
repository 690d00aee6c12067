"""The supervisor with real processes: order, readiness, restarts, giving up, stopping, dying with the parent."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from opsbus.up.model import Command, Phase, Row, Spec, State
from opsbus.up.probe import service_ready
from opsbus.up.supervisor import Policy, Supervisor

FAKE = str(Path(__file__).with_name("fake_service.py"))
QUICK = Policy(back_off_s=(0.01, 0.02, 0.03), window_s=60.0, ready_timeout_s=30.0, probe_every_s=0.02)


class Told:
    """Keeps what a user would have seen."""

    def __init__(self) -> None:
        self.history: list[tuple[str, State]] = []
        self.lines: list[str] = []
        self.troubles: list[tuple[str, str, list[str], str]] = []
        self._news = asyncio.Condition()

    def changed(self, row: Row) -> None:
        self.history.append((row.name, row.state))

    def say(self, text: str, *, style: str = "") -> None:
        self.lines.append(text)

    def trouble(self, name: str, what: str, log_lines: Sequence[str], hint: str) -> None:
        self.troubles.append((name, what, list(log_lines), hint))

    def when(self, name: str, state: State) -> int:
        return self.history.index((name, state))


def fake(
    folder: Path, name: str, *words: str, phase: Phase = Phase.WORKER, needs: tuple[str, ...] = (), **options
) -> Spec:
    ready_file = folder / f"{name}.json"
    argv = options.pop("argv", (sys.executable, FAKE, str(ready_file), *words))
    return Spec(
        name=name,
        phase=phase,
        log=folder / f"{name}.log",
        command=lambda: Command(argv, dict(os.environ)),
        probe=service_ready(ready_file),
        needs=needs,
        before_start=lambda: ready_file.unlink(missing_ok=True),
        **options,
    )


@contextlib.asynccontextmanager
async def running(specs: list[Spec], policy: Policy = QUICK) -> AsyncIterator[tuple[Supervisor, Told]]:
    told = Told()
    supervisor = Supervisor(specs, told, policy)
    try:
        yield supervisor, told
    finally:
        supervisor.kill()
        await supervisor.stop()


async def until(condition, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return True


async def test_what_is_needed_is_ready_first_and_stops_last(tmp_path: Path) -> None:
    specs = [
        fake(tmp_path, "edge", phase=Phase.EDGE, needs=("bus", "worker")),
        fake(tmp_path, "worker", phase=Phase.WORKER, needs=("bus", "nobody-has-this-name")),
        fake(tmp_path, "bus", phase=Phase.BUS),
    ]
    async with running(specs) as (supervisor, told):
        assert await supervisor.start() == []
        pids = supervisor.pids
        assert set(pids) == {"edge", "worker", "bus"}
        assert all(alive(pid) for pid in pids.values())
        assert supervisor.facts("worker")["service"] == "fake"

        assert await supervisor.stop()

    assert told.when("bus", State.READY) < told.when("worker", State.STARTING)
    assert told.when("worker", State.READY) < told.when("edge", State.STARTING)
    assert told.when("edge", State.STOPPED) < told.when("worker", State.STOPPING)
    assert told.when("worker", State.STOPPED) < told.when("bus", State.STOPPING)
    assert not any(alive(pid) for pid in pids.values())
    assert "drained" in (tmp_path / "edge.log").read_text()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".json")], "a ready file outlived its process"
    assert told.troubles == []


async def test_a_process_that_dies_is_started_again_and_said(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker")]) as (supervisor, told):
        await supervisor.start()
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        await until(lambda: told.history.count(("worker", State.READY)) == 2)
        assert supervisor.pids["worker"] != first

    [(name, what, log_lines, hint)] = told.troubles
    assert name == "worker"
    assert "died of SIGKILL" in what
    assert "starts again in 0.01 s" in what
    assert log_lines == ["hello from the fake service"]
    assert "memory" in hint


async def test_a_process_that_dies_before_it_is_ready_gets_more_chances(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker", "die_once", str(tmp_path / "flag"))]) as (supervisor, told):
        assert await supervisor.start() == []

    [(_, what, log_lines, hint)] = told.troubles
    assert "exit code 7" in what
    assert log_lines[-1] == "the first time it dies"
    assert str(tmp_path / "worker.log") in hint


async def test_a_process_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    specs = [fake(tmp_path, "worker", "die_after", "0.2", "3"), fake(tmp_path, "other")]
    async with running(specs) as (supervisor, told):
        await supervisor.start()
        await until(lambda: supervisor.failed == ["worker"])
        assert "other" in supervisor.pids

    assert len(told.troubles) == len(QUICK.back_off_s) + 1
    assert "given up" in told.troubles[-1][1]
    assert told.troubles[-1][2][-1] == "out of luck"


async def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    specs = [fake(tmp_path, "worker", "die_at_start", "2"), fake(tmp_path, "edge", needs=("worker",))]
    async with running(specs) as (supervisor, told):
        assert sorted(await supervisor.start()) == ["edge", "worker"]
        assert supervisor.pids == {}

    [(name, what, log_lines, hint)] = told.troubles
    assert (name, log_lines[-1]) == ("worker", "setting port: 'x' is no number")
    assert "given up" in what
    assert "setting" in hint


async def test_what_is_only_waited_for_may_fail(tmp_path: Path) -> None:
    specs = [fake(tmp_path, "edge", after=("worker",)), fake(tmp_path, "worker", "die_at_start", "2")]
    async with running(specs) as (supervisor, told):
        assert await supervisor.start() == ["worker"]
        assert set(supervisor.pids) == {"edge"}
    assert told.when("worker", State.FAILED) < told.when("edge", State.STARTING)


async def test_the_end_of_the_bus_is_the_end_of_the_platform(tmp_path: Path) -> None:
    specs = [fake(tmp_path, "bus", "die_at_start", "2", phase=Phase.BUS), fake(tmp_path, "worker", needs=("bus",))]
    async with running(specs) as (supervisor, _):
        assert sorted(await supervisor.start()) == ["bus", "worker"]
        async with asyncio.timeout(30):
            await supervisor.wait_failed()


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker", argv=(str(tmp_path / "nothing"),))]) as (supervisor, told):
        assert await supervisor.start() == ["worker"]

    assert "cannot be started: No such file" in told.troubles[0][1]


async def test_a_process_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    policy = Policy(back_off_s=(), ready_timeout_s=0.5, probe_every_s=0.02)
    async with running([fake(tmp_path, "worker", "silent")], policy) as (supervisor, told):
        assert await supervisor.start() == ["worker"]

    assert "not ready after" in told.lines[0]


async def test_a_deaf_process_is_killed_after_its_time(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker", "deaf", stop_timeout_s=0.3)]) as (supervisor, told):
        await supervisor.start()
        pid = supervisor.pids["worker"]
        assert await supervisor.stop() is False

    assert not alive(pid)
    assert told.history[-1] == ("worker", State.STOPPED)


async def test_kill_takes_the_children_of_a_process_too(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker", "deaf", "heir", str(tmp_path / "heir"))]) as (supervisor, _):
        await supervisor.start()
        heir = int((tmp_path / "heir").read_text())
        assert alive(heir)
        supervisor.kill()
        await supervisor.stop()

    await until(lambda: not alive(heir))


async def test_stop_while_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker", "silent"), fake(tmp_path, "late", needs=("worker",))]) as (
        supervisor,
        _,
    ):
        start = asyncio.create_task(supervisor.start())
        await until(lambda: "worker" in supervisor.pids)
        pid = supervisor.pids["worker"]
        async with asyncio.timeout(60):
            await supervisor.stop()
        start.cancel()

    assert not alive(pid)


RUNNER = """
import asyncio, os, sys
from opsbus.up.model import Command
from opsbus.up.process import Process

async def main():
    command = Command((sys.executable, "-c", "import time; time.sleep(600)"), dict(os.environ))
    process = await Process.spawn(command, __import__("pathlib").Path(sys.argv[1]))
    print(process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_processes_die_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert runner.stdout is not None
    pid = int(await asyncio.wait_for(runner.stdout.readline(), 30))
    assert alive(pid)
    runner.send_signal(signal.SIGKILL)
    await runner.wait()
    await until(lambda: not alive(pid))


async def test_logs_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with running([fake(tmp_path, "worker")]) as (supervisor, _):
        await supervisor.start()

    assert (tmp_path / "worker.log").stat().st_mode & 0o777 == 0o600
