"""What the runner knows of a process: its specification, its state, and what it said when it became ready."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any


class State(StrEnum):
    """Where a process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    """Ended by itself; it will be started again."""
    FAILED = "failed"
    """Ended by itself too often, or can never start: given up."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class Phase(IntEnum):
    """Processes stop phase by phase, the highest first: nobody loses what it still writes to."""

    BUS = 0
    BACKEND = 1
    RECORD = 2
    WORKER = 3
    EDGE = 4


@dataclass(frozen=True)
class Ready:
    """What a process answered when it became ready."""

    detail: str
    """A few words for the screen: an address."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The ready file's object."""


@dataclass(frozen=True)
class Command:
    """How a process is started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Spec:
    """A process of the platform."""

    name: str
    phase: Phase
    log: Path
    command: Callable[[], Command]
    """Asked at each start, when all in ``needs`` are ready."""
    probe: Callable[[], Awaitable[Ready | None]]
    """Asked again and again until it answers with a Ready."""
    needs: tuple[str, ...] = ()
    """Names of processes that must be ready first; a name nobody has is no obstacle."""
    after: tuple[str, ...] = ()
    """Names of processes that are waited for, be they ready or given up."""
    before_start: Callable[[], None] = lambda: None
    stop_timeout_s: float = 20.0
    """How long it may drain before it is killed."""


@dataclass
class Row:
    """A process as the screen shows it."""

    name: str
    state: State = State.WAITING
    detail: str = ""
    seconds: float = 0.0
    """How long the last start or stop took; seconds."""
    since: float = 0.0
    """Monotonic time of the last change of state."""
