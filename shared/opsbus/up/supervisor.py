"""Starts the processes in the order of their needs, starts dead ones again with back-off, stops them by phase.

What is started lives in plan.py, what is seen of it in screen.py.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from opsbus.up.advice import advice
from opsbus.up.model import Phase, Ready, Row, Spec, State
from opsbus.up.process import Process

SETTINGS_EXIT_CODE = 2
"""A process that ends with this has a wrong setting: to start it again is in vain."""


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is. Seconds."""

    back_off_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    window_s: float = 120.0
    """More deaths than ``back_off_s`` has entries within this long: given up."""
    first_starts_max: int = 3
    """A process that was never ready is given up after this many deaths."""
    ready_timeout_s: float = 120.0
    probe_every_s: float = 0.05


class Screen(Protocol):
    """Who is told."""

    def changed(self, row: Row) -> None:
        """A row has changed."""

    def say(self, text: str, *, style: str = "") -> None:
        """Something worth a line of its own."""

    def trouble(self, name: str, what: str, log_lines: Sequence[str], hint: str) -> None:
        """A process ended that should not have."""


class _Member:
    """A process with its history."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.row = Row(spec.name)
        self.process: Process | None = None
        self.ready: Ready | None = None
        self.settled = asyncio.Event()
        """Set as soon as it is ready for the first time or has failed."""
        self.deaths: deque[float] = deque()
        self.last_words: list[str] = []


class Supervisor:
    """The processes of one platform."""

    def __init__(self, specs: Sequence[Spec], screen: Screen, policy: Policy | None = None) -> None:
        self._members = {spec.name: _Member(spec) for spec in specs}
        self._screen = screen
        self._policy = policy or Policy()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._failed = asyncio.Event()

    @property
    def rows(self) -> list[Row]:
        return [member.row for member in self._members.values()]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running processes by name."""
        return {
            name: member.process.pid
            for name, member in self._members.items()
            if member.process is not None and member.process.exit_code is None
        }

    def facts(self, name: str) -> dict[str, object]:
        """What a process wrote into its ready file; empty when it is not (yet) ready."""
        member = self._members.get(name)
        return dict(member.ready.facts) if member is not None and member.ready is not None else {}

    def add(self, specs: Sequence[Spec]) -> None:
        """More processes for the next ``start``."""
        self._members.update({spec.name: _Member(spec) for spec in specs})

    async def start(self) -> list[str]:
        """Start all that do not run yet; returns when each is ready or has failed. The names of the failed."""
        begun = {keeper.get_name() for keeper in self._keepers}
        for name, member in self._members.items():
            if name not in begun:
                self._keepers.append(asyncio.create_task(self._keep(member), name=name))
        for keeper in self._keepers:
            await self._members[keeper.get_name()].settled.wait()
            if keeper.done():
                keeper.result()  # a mistake of ours must not look like a process that waits
        return self.failed

    @property
    def failed(self) -> list[str]:
        return [name for name, member in self._members.items() if member.row.state is State.FAILED]

    async def wait_failed(self) -> None:
        """Wait until a process of the bus or the edge is given up: without it there is no platform."""
        await self._failed.wait()

    async def stop(self) -> bool:
        """Stop all, the highest phase first, each phase at once. Whether all ended by themselves."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        clean = True
        for phase in sorted(Phase, reverse=True):
            members = [member for member in self._members.values() if member.spec.phase is phase]
            clean = all(await asyncio.gather(*(self._stop(member) for member in members))) and clean
        return clean

    def kill(self) -> None:
        """SIGKILL to all, at once."""
        self._stopping = True
        for member in self._members.values():
            if member.process is not None:
                member.process.kill()

    # -- one process -------------------------------------------------------------------------------------------------

    def _change(self, member: _Member, state: State, detail: str | None = None, seconds: float | None = None) -> None:
        row = member.row
        row.state, row.since = state, time.monotonic()
        row.detail = row.detail if detail is None else detail
        row.seconds = row.seconds if seconds is None else seconds
        self._screen.changed(row)

    def _give_up(self, member: _Member, detail: str) -> None:
        self._change(member, State.FAILED, detail)
        member.settled.set()
        if member.spec.phase in (Phase.BUS, Phase.EDGE):
            self._failed.set()

    async def _keep(self, member: _Member) -> None:
        """Run it, and run it again when it dies, until it is given up or cancelled."""
        try:
            await self._run_again_and_again(member)
        finally:
            member.settled.set()

    async def _run_again_and_again(self, member: _Member) -> None:
        if missing := await self._needs(member):
            return self._give_up(member, f"needs {missing}")
        while True:
            try:
                code = await self._run_once(member)
            except OSError as error:
                self._screen.trouble(member.spec.name, f"cannot be started: {error.strerror or error}", [], "")
                return self._give_up(member, "cannot be started")
            delay_s = self._after_death(member, code, was_ready=member.row.state is State.READY)
            if delay_s is None:
                return None
            await asyncio.sleep(delay_s)

    async def _needs(self, member: _Member) -> str | None:
        """Wait for what comes before it; the name of one that it needs and that failed."""
        for name in (*member.spec.needs, *member.spec.after):
            other = self._members.get(name)
            if other is not None and other is not member:
                await other.settled.wait()
                if other.row.state is State.FAILED and name in member.spec.needs:
                    return name
        return None

    async def _run_once(self, member: _Member) -> int:
        """Start it, see it become ready, wait for its end; the exit code."""
        spec = member.spec
        spec.before_start()
        self._change(member, State.STARTING, "")
        started = time.monotonic()
        member.process = await Process.spawn(spec.command(), spec.log)
        ended = asyncio.create_task(member.process.wait())
        probing = asyncio.create_task(self._probe(spec))
        try:
            done, _ = await asyncio.wait(
                {ended, probing}, timeout=self._policy.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._screen.say(f"{spec.name} is not ready after {self._policy.ready_timeout_s:.0f} s", style="yellow")
                member.process.kill()
            if ended not in done and probing in done:
                member.ready = probing.result()
                self._change(member, State.READY, member.ready.detail, time.monotonic() - started)
                member.settled.set()
            return await ended
        finally:
            for task in (probing, ended):
                task.cancel()
            await asyncio.gather(probing, ended, return_exceptions=True)

    async def _probe(self, spec: Spec) -> Ready:
        while True:
            if (ready := await spec.probe()) is not None:
                return ready
            await asyncio.sleep(self._policy.probe_every_s)

    def _after_death(self, member: _Member, code: int, *, was_ready: bool) -> float | None:
        """Say it, and how long to wait before the next start; None: given up."""
        process = member.process
        log_lines = process.log_tail() if process is not None else []
        what, hint = advice(code, log_lines, member.spec)
        member.ready = None
        now = time.monotonic()
        member.deaths.append(now)
        while member.deaths and member.deaths[0] < now - self._policy.window_s:
            member.deaths.popleft()
        if self._hopeless(member, code, was_ready=was_ready):
            self._screen.trouble(member.spec.name, f"{what}; given up", log_lines, hint)
            self._give_up(member, what)
            return None
        delay_s = self._policy.back_off_s[len(member.deaths) - 1]
        again = _same(log_lines, member.last_words)
        member.last_words = log_lines
        self._screen.trouble(
            member.spec.name,
            f"{what}{' again' if again else ''}; starts again in {delay_s:g} s",
            [] if again else log_lines,
            "" if again else hint,
        )
        self._change(member, State.DIED, f"{what}, starts again in {delay_s:g} s")
        return delay_s

    def _hopeless(self, member: _Member, code: int, *, was_ready: bool) -> bool:
        if code == SETTINGS_EXIT_CODE and not was_ready:
            return True
        if not member.settled.is_set() and len(member.deaths) >= self._policy.first_starts_max:
            return True
        return len(member.deaths) > len(self._policy.back_off_s)

    async def _stop(self, member: _Member) -> bool:
        process = member.process
        if process is None or process.exit_code is not None:
            return True
        started = time.monotonic()
        self._change(member, State.STOPPING, "")
        clean = await process.stop(member.spec.stop_timeout_s)
        detail = "" if clean else f"did not drain within {member.spec.stop_timeout_s:g} s, killed"
        self._change(member, State.STOPPED, detail, time.monotonic() - started)
        with contextlib.suppress(OSError):
            member.spec.before_start()  # the ready file must not outlive it
        return clean


def _same(log_lines: Sequence[str], before: Sequence[str]) -> bool:
    """Whether a process died with the same last word as the last time; the time it wrote is no difference."""

    def word(lines: Sequence[str]) -> str:
        return "".join(character for character in lines[-1] if not character.isdigit()) if lines else ""

    return bool(log_lines) and word(log_lines) == word(before)
