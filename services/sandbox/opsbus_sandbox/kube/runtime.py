"""What the emulated nodes need to know about the software they run. The estate's story answers it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Obj = dict[str, Any]
LogLine = tuple[datetime, str]


@dataclass(frozen=True)
class RunPlan:
    """How one run of a container will go, in simulated seconds. `exits_after_s` None: it runs until stopped."""

    ready_after_s: float = 1.0
    exits_after_s: float | None = None
    exit_code: int = 0
    exit_reason: str = "Completed"
    exit_message: str = ""


@dataclass(frozen=True)
class ContainerRun:
    """One run of one container, as far as its log is concerned. `finished` is None while it runs."""

    pod: Obj
    container: str
    image: str
    restart: int
    started: datetime
    finished: datetime | None = None
    exit_reason: str = ""


class Software(Protocol):
    """The images that exist, how their containers behave, and what they write."""

    def image_problem(self, image: str) -> str:
        """Why an image cannot be pulled, or "" when it can."""

    def plan(self, pod: Obj, container: Obj, restart: int) -> RunPlan:
        """What the next run of a container will do."""

    def log(self, run: ContainerRun, since: datetime, until: datetime) -> Iterator[LogLine]:
        """The lines a run wrote in [since, until), oldest first; the same for the same run and times, always."""
