"""Events on their way into the stream: in memory up to a bound, and on disk where there is a spool. Sending them:
log.py.

With a spool each event is on disk before the call it tells of is answered. What memory has no room for is on disk
alone, and is read back, a file at a time, when memory is empty. Without one, what is beyond twice the bound is lost;
only the ends of calls that were let in before can reach it.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from opsbus_edge.audit.event import Event
from opsbus_edge.audit.segment import Segment
from opsbus_edge.audit.spool import Place, Spool


class Waiting(NamedTuple):
    """An event that is not yet stored, and where it is on disk."""

    event: Event
    place: Place | None


class Queue:
    """Events not yet acknowledged, in order.

    Args:
        memory_max: Events in memory; with a spool its bytes are the bound, and this the part that is held ready.
        spool: None: memory alone.
    """

    def __init__(self, memory_max: int, spool: Spool | None = None) -> None:
        self._memory: deque[Waiting] = deque()
        self._memory_max = memory_max
        self._spool = spool
        self._on_disk: deque[Segment] = deque()
        """Files whose events are not in memory, oldest first; the last may be the one being written."""
        self._on_disk_alone = 0
        self._taken = 0

    def take_over(self) -> int:
        """Queue what processes before left in the spool; returns how many events. Raises OSError. Blocks."""
        if self._spool is None:
            return 0
        self._on_disk.extend(self._spool.take_over())
        self._on_disk_alone = sum(segment.waiting for segment in self._on_disk)
        return self._on_disk_alone

    def __len__(self) -> int:
        return len(self._memory) + self._taken + self._on_disk_alone

    @property
    def bytes_on_disk(self) -> int:
        """Size of the spool."""
        return 0 if self._spool is None else self._spool.bytes

    @property
    def in_memory_alone(self) -> int:
        """Events that end with the process."""
        return sum(one.place is None for one in self._memory)

    def problem(self) -> str:
        """Why no new call may be let in; empty when one may."""
        if self._spool is None:
            many = len(self) >= self._memory_max
            return f"{len(self)} audit events wait to be stored, which is the bound" if many else ""
        if self._spool.problem:
            return f"the audit spool cannot be written: {self._spool.problem}"
        if self._spool.full:
            return f"{len(self)} audit events wait in the spool, whose bound is reached"
        return ""

    def put(self, event: Event) -> bool:
        """Take an event; False when there is no room for it, nowhere."""
        in_memory = len(self._memory) + self._taken
        if self._spool is not None:
            behind = bool(self._on_disk) or in_memory >= self._memory_max
            place = self._spool.append(event)
            if place is not None:
                if behind:
                    self._leave_on_disk(place)
                else:
                    self._memory.append(Waiting(event, place))
                return True
        if in_memory >= 2 * self._memory_max:
            return False
        self._memory.append(Waiting(event, None))
        return True

    def hold(self, event: Event) -> Waiting:
        """Write an event that is being sent at once, past the queue; then ``release`` it, or ``put_held``."""
        # Behind others on disk it would be read back, and sent, beside this.
        place = self._spool.append(event) if self._spool is not None and not self._on_disk else None
        return Waiting(event, place)

    def release(self, held: Waiting) -> None:
        """The stream has it."""
        if held.place is not None and self._spool is not None:
            self._spool.stored([held.place])

    def put_held(self, held: Waiting) -> bool:
        """It was not taken: queue it; False when there is no room for it, nowhere."""
        if held.place is None:
            return self.put(held.event)
        self._memory.append(held)
        return True

    def take(self, count: int) -> list[Waiting]:
        """The next events, until ``stored`` or ``give_back``."""
        if not self._memory:
            self._read_back()
        taken = [self._memory.popleft() for _ in range(min(count, len(self._memory)))]
        self._taken += len(taken)
        return taken

    def stored(self, taken: Sequence[Waiting]) -> None:
        """The stream has them."""
        self._taken -= len(taken)
        places = [one.place for one in taken if one.place is not None]
        if places and self._spool is not None:
            self._spool.stored(places)

    def give_back(self, taken: Sequence[Waiting]) -> None:
        """The stream does not have them: to their place again."""
        self._taken -= len(taken)
        self._memory.extendleft(reversed(taken))

    def unsynced(self) -> list[int]:
        """Descriptors of files that are not on the disk itself yet; the caller syncs and closes them."""
        return self._spool.unsynced() if self._spool is not None and len(self) else []

    def close(self) -> None:
        """Let go of the spool."""
        if self._spool is not None:
            self._spool.close()

    def _leave_on_disk(self, place: Place) -> None:
        if not self._on_disk or self._on_disk[-1] is not place.segment:
            place.segment.read_from = place.number  # those before it are in memory
            self._on_disk.append(place.segment)
        self._on_disk_alone += 1

    def _read_back(self) -> None:
        if self._spool is None or not self._on_disk:
            return
        found = self._spool.read(self._on_disk[0])
        self._on_disk.popleft()
        self._on_disk_alone -= len(found)
        self._memory.extend(Waiting(event, place) for event, place in found)
