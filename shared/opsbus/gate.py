"""How many calls run at once: a bounded number, a short queue before it, and `busy` at once beyond that."""

import asyncio
from collections import deque

from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed


class Gate:
    """Places for running calls. First come, first served."""

    def __init__(self, places: int, queue: int) -> None:
        self.places = places
        self.queue = queue
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    def enter(self) -> asyncio.Future[None] | None:
        """Takes a place: None when it is taken, a future when one has to be waited for.

        Raises:
            ToolError: ``busy``, nothing was executed; another instance may have room.
        """
        if self.in_flight < self.places:
            self.in_flight += 1
            return None
        if len(self._waiting) >= self.queue:
            raise ToolError(
                ErrorCode.BUSY,
                f"all {self.places} places and {self.queue} in the queue are taken",
                hint="Try again in a moment.",
                executed=Executed.NO,
                retry_after_ms=500,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return turn

    def give_up(self, turn: asyncio.Future[None]) -> None:
        """Leaves the queue; a place that was just handed over goes to the next."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            self.leave()

    def leave(self) -> None:
        """Gives a place back: to the first that waits, or to all."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
