"""Keeps a worker's calls from a backend that is down, and repeats reads that met a passing fault.

A circuit breaker: after some failures in a row the backend is shut out, at first shortly, then longer; then one request
is let through to see. While it is shut, calls fail at once in place of each waiting for its own timeout. What is a
failure, and what a caller is told, is the matter of whoever speaks with the backend.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

FAILURES = 5
"""In a row, before a backend is shut out."""
SHUT_S = 2.0
SHUT_MAX_S = 30.0
"""How long, at first and at most: it doubles while the backend stays down. Seconds."""
TRIES = 3
WAIT_S = 0.2
"""Before a read is repeated; doubled and scattered each time. Seconds."""


class BackendShutError(Exception):
    """The backend was not asked, for it failed several times in a row; ``last`` is how it failed the last time."""

    def __init__(self, retry_in_s: float, last: Exception) -> None:
        super().__init__(f"shut for another {retry_in_s:.1f} s: {last}")
        self.retry_in_s = retry_in_s
        self.last = last


class Guard:
    """Of one backend.

    Args:
        is_outage: Whether an error says that the backend is not there, or not itself; others are answers.
        repeats: Whether a read that met this error is tried again; the same unless given.
    """

    def __init__(
        self,
        is_outage: Callable[[Exception], bool],
        repeats: Callable[[Exception], bool] | None = None,
        *,
        failures: int = FAILURES,
        shut_s: float = SHUT_S,
        shut_max_s: float = SHUT_MAX_S,
        tries: int = TRIES,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_outage = is_outage
        self._repeats = repeats or is_outage
        self._failures_max = failures
        self._shut_first_s, self._shut_max_s = shut_s, shut_max_s
        self._tries, self._wait_s = tries, wait_s
        self._clock = clock
        self._failures = 0
        self._shut_s = shut_s
        self._shut_until = 0.0
        self._looking = False
        self._last = Exception()

    @property
    def shut(self) -> bool:
        """Whether the next call would not be let through."""
        return self._failures >= self._failures_max and (self._looking or self._clock() < self._shut_until)

    async def read(self, work: Callable[[], Awaitable[T]]) -> T:
        """Something that may be done twice.

        Raises:
            BackendShutError: it was not tried.
        """
        for attempt in range(1, self._tries):
            try:
                return await self.once(work)
            except Exception as error:
                if isinstance(error, BackendShutError) or not self._repeats(error) or self.shut:
                    raise
            await asyncio.sleep(self._wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - a scatter
        return await self.once(work)

    async def once(self, work: Callable[[], Awaitable[T]]) -> T:
        """Something that is done once: a write, or a part of a read.

        Raises:
            BackendShutError: it was not tried.
        """
        looking = self._enter()
        try:
            found = await work()
        except Exception as error:
            if self._is_outage(error):
                self._last = error
                self._failed()
            else:
                self._answered()
            raise
        else:
            self._answered()
            return found
        finally:
            if looking:
                self._looking = False

    def _enter(self) -> bool:
        """Whether this is the one that looks if the backend is there again."""
        if self._failures < self._failures_max:
            return False
        left = self._shut_until - self._clock()
        if self._looking or left > 0:
            raise BackendShutError(max(left, 0.1), self._last)
        self._looking = True
        return True

    def _failed(self) -> None:
        self._failures += 1
        if self._failures < self._failures_max:
            return
        if self._failures > self._failures_max:
            self._shut_s = min(self._shut_s * 2, self._shut_max_s)
        self._shut_until = self._clock() + self._shut_s

    def _answered(self) -> None:
        self._failures = 0
        self._shut_s = self._shut_first_s
