"""Slows down who guesses passwords: failures are counted per user name and per source, in this edge's memory.

An attempt counts as a failure from its beginning, and is taken back when it succeeds: a hundred at once are no way
around the bound. Known and unknown names count alike.
"""

import math
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from time import monotonic

KEYS_MAX = 50_000
"""Counters of each kind; beyond it the oldest is forgotten."""
_V6_PREFIX = 64
"""One customer has as many addresses as he likes below it."""


@dataclass(slots=True)
class _Count:
    failures: int
    until: float


class _Counters:
    """Failures by key, each for one window from its first."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """How long nothing more is taken; 0: now."""
        count = self._counts.get(key)
        return max(0.0, count.until - now) if count is not None and count.failures >= self._most else 0.0

    def add(self, key: str, now: float) -> None:
        count = self._counts.get(key)
        if count is None or count.until <= now:
            self._counts[key] = _Count(1, now + self._window_s)
            self._counts.move_to_end(key)
            if len(self._counts) > KEYS_MAX:
                self._counts.popitem(last=False)
        else:
            count.failures += 1

    def forgive(self, key: str) -> None:
        """Take one back."""
        count = self._counts.get(key)
        if count is not None:
            count.failures -= 1


class Throttle:
    """Attempts by user and source.

    Args:
        per_user: Failures of a user name in a window.
        per_source: Failures from an address in a window.
        window_s: Seconds.
    """

    def __init__(self, per_user: int, per_source: int, window_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._users = _Counters(per_user, window_s)
        self._sources = _Counters(per_source, window_s)
        self._clock = clock

    def begin(self, user: str, source: str) -> int:
        """An attempt begins and counts as failed; 0: go on. Else it is not made: seconds to wait."""
        now = self._clock()
        user, source = _same(user), _network(source)
        wait_s = max(self._users.wait_s(user, now), self._sources.wait_s(source, now))
        if wait_s:
            return max(1, math.ceil(wait_s))
        self._users.add(user, now)
        self._sources.add(source, now)
        return 0

    def no_failure(self, user: str, source: str) -> None:
        """It succeeded, or nobody could tell: it does not count."""
        self._users.forgive(_same(user))
        self._sources.forgive(_network(source))


def _same(user: str) -> str:
    """Names that a directory takes for one are counted as one."""
    return " ".join(unicodedata.normalize("NFKC", user).casefold().split())


def _network(source: str) -> str:
    try:
        address = ip_address(source)
    except ValueError:
        return source
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> (128 - _V6_PREFIX) << (128 - _V6_PREFIX)))
    return str(address)
