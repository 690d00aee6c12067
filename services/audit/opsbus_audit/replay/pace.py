"""How fast a replay goes: all at once, or in the time it took."""

import asyncio
import re

from opsbus_audit.ordered import Recorded

_SPEED = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)x?")


def speed_of(text: str) -> float:
    """``1x``, ``10x``, ``0.5x``; ``max``: 0, as fast as it goes.

    Raises:
        ValueError: no speed.
    """
    if text.strip().lower() == "max":
        return 0.0
    found = _SPEED.fullmatch(text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"{text[:40]!r} is no speed: 1x is as it was, 10x ten times as fast, max as fast as it goes")
    return float(found[1])


class Pace:
    """Waits until an event is due: as long after the first one as it was then, divided by the speed."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began_ns: int | None = None
        self._began = 0.0

    @property
    def waits(self) -> bool:
        """Whether there is anything to wait for."""
        return self._speed > 0

    async def wait(self, recorded: Recorded) -> None:
        """Returns when the event is due."""
        loop = asyncio.get_running_loop()
        if self._began_ns is None:
            self._began_ns, self._began = recorded.stored_ns, loop.time()
        due = self._began + (recorded.stored_ns - self._began_ns) / 1e9 / self._speed
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
