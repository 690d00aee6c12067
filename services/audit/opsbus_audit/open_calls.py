"""Calls that were requested and have no end yet, as far as this process has seen. Closing them: closing.py."""

from collections.abc import Sequence
from typing import NamedTuple

from opsbus_audit.record import Note
from opsbus_contracts.audit import ENDS, Stage

CALLS_MAX = 500_000
"""Held in memory; what is beyond is found again in the store at the next start."""
NO_DEADLINE_MS = 3_600_000
"""A call whose request names no deadline: the longest that an edge allows."""
ANSWERED = frozenset({stage.value for stage in ENDS} | {Stage.INPUT_REQUIRED.value})
"""Steps after which a request waits for nothing: a question is an answer too, what follows it is another request."""


class OpenCall(NamedTuple):
    """A request without an end."""

    call: str
    deadline_ms: int


class OpenCalls:
    """By call id."""

    def __init__(self) -> None:
        self._deadlines: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def saw(self, notes: Sequence[Note]) -> None:
        """Take note of stored events, in order."""
        for note in notes:
            if note.stage == Stage.REQUESTED:
                if len(self._deadlines) < CALLS_MAX:
                    self._deadlines[note.call] = note.deadline_ms or note.stored_ns // 1_000_000 + NO_DEADLINE_MS
            elif note.stage in ANSWERED:
                self._deadlines.pop(note.call, None)

    def take_overdue(self, now_ms: int) -> list[OpenCall]:
        """Those whose deadline is over; they are not held any more."""
        overdue = [OpenCall(call, deadline) for call, deadline in self._deadlines.items() if deadline < now_ms]
        for one in overdue:
            del self._deadlines[one.call]
        return overdue
