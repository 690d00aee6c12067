"""The estate's software as the emulated nodes see it: images, behaviour and logs in one object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from opsbus_sandbox.clock import Clock
from opsbus_sandbox.estate.behaviour import run_plan
from opsbus_sandbox.estate.images import image_problem
from opsbus_sandbox.estate.logbook.book import read_log
from opsbus_sandbox.kube.runtime import ContainerRun, LogLine, RunPlan

Obj = dict[str, Any]


class EstateSoftware:
    """Implements `opsbus_sandbox.kube.runtime.Software` for the shop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def image_problem(self, image: str) -> str:
        """Why an image cannot be pulled, or ""."""
        return image_problem(image)

    def plan(self, pod: Obj, container: Obj, restart: int) -> RunPlan:
        """What the next run of a container will do."""
        return run_plan(pod, container, restart)

    def log(self, run: ContainerRun, since: datetime, until: datetime) -> Iterator[LogLine]:
        """What a run wrote between two moments."""
        return read_log(run, since, until, self._clock.speed)
