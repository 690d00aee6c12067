"""One task under way at this edge: its call, and what is heard of it meanwhile."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import orjson

from opsbus_contracts.calls import Status
from opsbus_contracts.tasks import Task, TaskStatus
from opsbus_edge.model import OnMessage, Reply, Request
from opsbus_edge.tasks.outcomes import End, failed, lost


class Progress:
    """Hears of a call's progress: for the client that still waits, and for the task's message."""

    def __init__(self, forward: OnMessage | None) -> None:
        self._forward = forward
        self.message = ""

    def leave(self) -> None:
        """Nobody waits any more."""
        self._forward = None

    async def __call__(self, status: Status, body: bytes) -> None:
        if status is Status.PROGRESS:
            with contextlib.suppress(orjson.JSONDecodeError):
                told = orjson.loads(body)
                self.message = _sentence(told) if isinstance(told, dict) else ""
        if self._forward is not None:
            await self._forward(status, body)


def _sentence(progress: dict[str, Any]) -> str:
    text, done, total = progress.get("message"), progress.get("progress"), progress.get("total")
    counted = f"{done} of {total}" if total is not None else str(done)
    return f"{text} ({counted})"[:1_000] if isinstance(text, str) and text else counted[:1_000]


@dataclass(eq=False)
class Running:
    """A task under way here."""

    digest: str
    task: Task
    revision: int
    request: Request
    call: asyncio.Task[Reply]
    progress: Progress
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: bool = True
    """False: its client has cancelled it."""


def cut_short(running: Running) -> End:
    """How a task ends whose call was cancelled."""
    if running.wanted:
        return failed(lost("The edge that ran the call was shut down"))
    return End(TaskStatus.CANCELLED, "Cancelled by its caller; what it had done by then is not undone.")
