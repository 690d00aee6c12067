"""How long a run may take, and where it is: said at the terminal while it runs."""

import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Plan:
    """Of one run of the bench. Times in seconds."""

    rounds: int = 3
    seconds: int = 2
    """Of a round of load, in the suite that runs."""
    round_s: int = 2
    """Of a round of load."""
    short_s: int = 1
    """The same, in suites that are brief."""
    warm_s: int = 1
    trial: bool = False
    """Only to see that it works: the figures mean nothing."""
    brief: bool = True
    """Fewer events, assets and the like, so that everything fits into ten minutes."""
    only: str = ""
    """Rows of the door suite with this in their names, and those that they need; empty: all."""
    screen: TextIO = sys.stderr
    suite: str = ""
    ends_s: float = 0.0
    """When the suite should be through, on the monotonic clock."""
    after_s: float = 0.0
    """What is to come after it."""
    _shown: bool = field(default=False, repr=False)

    @property
    def passing(self) -> bool:
        """Whether nothing of the run is kept."""
        return self.trial or bool(self.only)

    def begin(self, suite: str, takes_s: float, after_s: float) -> None:
        """A suite begins."""
        self.suite, self.after_s = suite, after_s
        self.ends_s = time.monotonic() + takes_s
        if not self.screen.isatty():
            print(f"{suite}: about {takes_s:.0f} s, then {after_s:.0f} s more", file=self.screen, flush=True)
        self.step("starts")

    def step(self, what: str) -> None:
        """It is here now: ``row 4 session era, round 2 of 3``."""
        if not self.screen.isatty():
            return
        left = max(0.0, self.ends_s - time.monotonic()) + self.after_s
        minutes = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        self.screen.write(f"\r\x1b[2K{f'{self.suite}: {what}; about {minutes} left'[:98]}")
        self.screen.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away: something else is printed."""
        if self._shown:
            self.screen.write("\r\x1b[2K")
            self.screen.flush()
            self._shown = False


_PLAN: ContextVar[Plan | None] = ContextVar("plan", default=None)


def use(plan: Plan) -> None:
    """This is the run from now on."""
    _PLAN.set(plan)


def current() -> Plan:
    """The run that is under way; a short one of its own where there is none."""
    found = _PLAN.get()
    if found is None:
        found = Plan()
        _PLAN.set(found)
    return found
