"""What the entry point group ``opsbus.services`` points at: a process ``opsbus run`` and ``opsbus up`` can start."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Service:
    """A process of the platform."""

    name: str
    """As in ``opsbus run NAME``: the distribution's short name, ``k8s-ops``."""
    token: str
    """Its identity on the bus: a service token, or ``edge``."""
    main: Callable[[], None]
    """Runs the process until it is told to stop."""
    order: int = 50
    """Starting order; stopping is the reverse."""
    needs: tuple[str, ...] = field(default=("nats",))
    """What must answer before it starts: ``nats``, ``catalog`` or names of other services."""
    kind: Literal["worker", "edge", "backend"] = "worker"
    description: str = ""
