"""What every controller is given: the store, the time, the recorder and a way to be called again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opsbus_sandbox.clock import Clock
from opsbus_sandbox.kube.podstatus import ready_since
from opsbus_sandbox.kube.recorder import Recorder
from opsbus_sandbox.kube.runtime import Software
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]
WorkKey = tuple[str, str, str]  # (controller, namespace, name)


@dataclass
class Context:
    """Shared by the controllers. Durations are in simulated seconds throughout."""

    store: ObjectStore
    software: Software
    recorder: Recorder
    after: Callable[[float, WorkKey], None]
    # Timestamps in objects are whole seconds, too coarse when time runs fast: when a pod became ready is kept here.
    ready_at: dict[str, float] = field(default_factory=dict)
    # When each unschedulable pod was last explained, by uid.
    scheduling_told: dict[str, float] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        """The estate's clock."""
        return self.store.clock

    def now(self) -> datetime:
        """The wall-clock time, for timestamps."""
        return self.clock.now()

    def elapsed(self) -> float:
        """Simulated seconds on a clock that only goes forward."""
        return time.monotonic() * self.clock.speed

    def simulated_age(self, moment: datetime) -> float:
        """How many simulated seconds ago something happened."""
        return (self.now() - moment).total_seconds() * self.clock.speed

    def ready_for(self, pod: Obj) -> float | None:
        """For how many simulated seconds the pod has been ready; None when it is not."""
        since = ready_since(pod)
        if since is None:
            return None
        exact = self.ready_at.get(pod["metadata"]["uid"])
        return self.elapsed() - exact if exact is not None else self.simulated_age(since)

    def is_available(self, pod: Obj, min_ready_s: int) -> bool:
        """Whether the pod has been ready for as long as its workload wants."""
        ready = self.ready_for(pod)
        return ready is not None and ready >= min_ready_s

    def set_status(self, resource: str, obj: Obj, status: Obj) -> Obj:
        """Store a new status; nothing happens when it is the old one."""
        return self.store.update(resource, {**obj, "status": status})

    def changed(self, obj: Obj) -> Obj:
        """A copy of a stored object, for changing."""
        return copy.deepcopy(obj)
