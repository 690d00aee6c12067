"""The edge's own queue: requests that have come whole and that it has not begun with. What is too much is refused here,
before a byte of it is parsed.

In each turn of the event loop at most TURN requests are begun, so that a turn stays short and answers, probes and the
bus get theirs. What comes beyond that waits, by caller: callers take turns, and when the queue is full the newest of
whoever has most in it makes room. So a caller who sends too much waits behind nobody but himself. Nothing here lets
anybody in: what is begun passes every gate.
"""

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Protocol

from opsbus import logs
from opsbus_edge.metrics import Metrics

log = logs.get("edge")

TURN = 64
"""Requests begun, and refusals sent, in one turn of the event loop, at most."""
TURN_MIN = 32
TURN_CPU_S = 0.03
"""A turn that took more of the processor is followed by a smaller one."""
REFUSED_WITHIN_S = 0.5
"""Refusals wait for their turn too, but not longer than this: who is answered at once asks again at once."""
CREDENTIALS_MAX = 10_000
QUIET_S = 1.0
"""Without a refusal for this long it is over."""

FULL = "full"
SHARE = "share"
LATE = "late"


class Waiting(Protocol):
    """A connection with a request that waits."""

    waits: bool
    """False: it has gone."""
    since: float
    """When it came, or was given up, in the event loop's time."""

    def begin(self) -> None:
        """Its turn has come."""

    def give_up(self) -> None:
        """It will be refused; what it has sent is of no use any more."""

    def refuse(self) -> None:
        """Tell it."""


class Admission:
    """The queue of one edge.

    Args:
        waiting_max: Requests in it.
        wait_max_s: While requests are refused, one that has waited longer is refused as well: a queue that stays full
            would make all wait, and serve no more.
    """

    def __init__(self, waiting_max: int, wait_max_s: float, metrics: Metrics) -> None:
        self._waiting_max = waiting_max
        self._wait_max_s = wait_max_s
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._most = TURN
        self._free = TURN
        self._armed_at: float | None = None
        """What the processor had spent by then; None: nobody waited."""
        self._now = 0.0
        """The event loop's time, as of this turn."""
        self._armed = False
        self._waiting = 0
        self._queues: dict[Hashable, deque[Waiting]] = {}
        self._turns: deque[Hashable] = deque()
        self._fattest: Hashable = None
        """Whose queue was the longest when it grew last."""
        self._owed: deque[Waiting] = deque()
        self._refused: dict[str, int] = {}
        self._refused_since = 0
        self._refused_at = 0.0
        self._callers: dict[int, str] = {}

    @property
    def waiting(self) -> int:
        """Requests not begun."""
        return self._waiting

    def enters(self) -> bool:
        """Whether a request may begin at once; counts it. Whoever got False calls ``wait``."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        if not self._armed:
            self._arm()
        return True

    def wait(self, connection: Waiting, credential: int | None, otherwise: Hashable) -> None:
        """Queue a request: it is begun or refused later.

        Args:
            credential: ``hash`` of it, as it was sent. Only one that has proved a caller lately counts as that caller.
            otherwise: Whose request it is then.
        """
        if not self._armed:
            self._arm()
        whose: Hashable = self._callers.get(credential, otherwise) if credential is not None else otherwise
        queue = self._queues.get(whose)
        connection.waits, connection.since = True, self._now
        if self._waiting >= self._waiting_max and not self._make_room(0 if queue is None else len(queue)):
            self._give_up(connection, FULL)
            return
        if queue is None:
            queue = self._queues[whose] = deque()
            self._turns.append(whose)
        queue.append(connection)
        self._waiting += 1
        if len(queue) > len(self._queues.get(self._fattest, ())):
            self._fattest = whose

    def proved(self, headers: Mapping[str, str], sub: str) -> None:
        """A request's credential has proved a caller."""
        credential = headers.get("authorization") or headers.get("x-api-key")
        if credential is not None and self._callers.get(number := hash(credential)) != sub:
            if len(self._callers) >= CREDENTIALS_MAX:
                self._callers.clear()
            self._callers[number] = sub

    def _make_room(self, of_newcomer: int) -> bool:
        """Whether somebody has more waiting than the newcomer, and so one less now."""
        longest = self._queues.get(self._fattest)
        # One alone is left: whoever has a single request waiting loses it to nobody.
        if longest is None or len(longest) <= of_newcomer + 1:
            return False
        self._waiting -= 1
        self._give_up(longest.pop(), SHARE)
        return True

    def _give_up(self, connection: Waiting, why: str) -> None:
        if not connection.waits:
            return
        connection.since = self._now
        connection.give_up()
        self._refused[why] = self._refused.get(why, 0) + 1
        self._owed.append(connection)

    def _arm(self) -> None:
        self._armed = True
        self._now = self._loop.time()
        # Asking for it is dear, and only with requests that wait is it of interest.
        self._armed_at = time.process_time() if self._turns else None
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        now = self._now = self._loop.time()
        if self._turns and self._armed_at is not None:
            self._pace(time.process_time() - self._armed_at)
        self._free = self._begin(now)
        self._refuse(now)
        if self._refused:
            self._count(now)
        if self._turns or self._owed or self._free < self._most:
            self._arm()

    def _pace(self, took_s: float) -> None:
        if took_s > TURN_CPU_S:
            self._most = max(min(TURN_MIN, TURN), self._most // 2)
        elif self._most < TURN:
            self._most = min(TURN, self._most + 4)

    def _begin(self, now: float) -> int:
        free = self._most
        while free and self._turns:
            whose = self._turns.popleft()
            queue = self._queues[whose]
            connection = queue.popleft()
            self._waiting -= 1
            if queue:
                self._turns.append(whose)
            else:
                del self._queues[whose]
            if not connection.waits:
                continue
            if self._refused_at and now - connection.since > self._wait_max_s:
                self._give_up(connection, LATE)
                continue
            connection.begin()
            free -= 1
        return free

    def _refuse(self, now: float) -> None:
        free = TURN
        while self._owed and (free > 0 or now - self._owed[0].since > REFUSED_WITHIN_S):
            self._owed.popleft().refuse()
            free -= 1

    def _count(self, now: float) -> None:
        for why, times in self._refused.items():
            self._metrics.shed.labels(why).inc(times)
            self._refused_since += times
        self._refused.clear()
        self._metrics.requests_waiting.set(self._waiting)
        if not self._refused_at:
            log.warning("overload: requests are refused", waiting=self._waiting, callers=len(self._queues))
            self._loop.call_later(QUIET_S, self._look)
        self._refused_at = now

    def _look(self) -> None:
        self._metrics.requests_waiting.set(self._waiting)
        quiet_s = self._loop.time() - self._refused_at
        if quiet_s < QUIET_S:
            self._loop.call_later(QUIET_S - quiet_s + 0.01, self._look)
            return
        log.info("overload is over", refused=self._refused_since)
        self._refused_since, self._refused_at = 0, 0.0
