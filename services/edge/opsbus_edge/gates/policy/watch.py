"""Takes a new policy when its file changes. One that is broken changes nothing: the policy before stays in force."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from opsbus import logs, tasks
from opsbus.settings import SettingsError
from opsbus_edge.gates.policy.policy import Policy
from opsbus_edge.gates.policy.read import load_policy

log = logs.get("edge")

LOOK_EVERY_S = 1.0

Check = Callable[[Policy], None]
Changed = Callable[[str, Policy], None]


class PolicyWatch:
    """Looks at the file every second: also an editor's rename and a cluster's exchanged link are seen.

    Args:
        path: The file; None: the policy shipped, which does not change.
        policy: In force; takes the content of a new one.
        check: Raises SettingsError when a policy does not fit the settings.
        changed: Told the digest before and the policy, after it was taken.
    """

    def __init__(self, path: Path | None, policy: Policy, check: Check, changed: Changed) -> None:
        self._path = path
        self._policy = policy
        self._check = check
        self._changed = changed
        self._seen = _state(path)
        self.problem = ""
        """What is wrong with the file as it is now; empty: it is in force."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._path is not None:
            self._task = asyncio.create_task(self._run(), name="policy-file")

    async def stop(self) -> None:
        """End it."""
        await tasks.end(self._task)

    def look(self) -> None:
        """Take the file when it is another than before."""
        state = _state(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            fresh = load_policy(self._path)
            self._check(fresh)
        except SettingsError as error:
            if str(error) != self.problem:
                self.problem = str(error)
                log.error("the new policy is not taken, the one before stays in force", error=str(error))
            return
        self.problem = ""
        before = self._policy.digest
        if fresh.digest != before:
            self._policy.take(fresh)
            log.info("a new policy is in force", digest=fresh.digest, before=before)
            self._changed(before, self._policy)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()


def _state(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
