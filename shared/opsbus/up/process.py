"""One operating-system process: spawned so that it dies with its parent, ended politely, its log read back.

When a process starts, restarts and stops is the supervisor's matter.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from opsbus.up.logfile import tail
from opsbus.up.model import Command

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> Callable[[], None]:
    """A function for the moment between fork and exec: the kernel kills the process when ``parent`` dies.

    Linux only; elsewhere a runner that is killed leaves its processes to the user.
    """

    def arm() -> None:
        os.umask(0o077)  # what it writes is for its owner alone
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return arm


class Process:
    """A running process; its standard output and error go to a log file that only the user may read."""

    def __init__(self, child: "asyncio.subprocess.Process", log: Path, log_start: int) -> None:
        self._child = child
        self._log = log
        self._log_start = log_start

    @classmethod
    async def spawn(cls, command: Command, log: Path) -> "Process":
        """Start it in a session of its own, so that Ctrl-C reaches the runner alone.

        Raises:
            OSError: the program cannot be run.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            log_start = os.fstat(descriptor).st_size
            child = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(command.env),
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        finally:
            os.close(descriptor)
        return cls(child, log, log_start)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._child.returncode

    async def wait(self) -> int:
        """Wait for its end; the exit code."""
        return await self._child.wait()

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM, then SIGKILL after ``timeout_s`` seconds. Whether it ended by itself."""
        if self._child.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await self._child.wait()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to the process and all it started."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 8) -> list[str]:
        """The last lines this process wrote."""
        return tail(self._log, lines, start=self._log_start)
