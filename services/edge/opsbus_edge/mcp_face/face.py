"""What the parts of the MCP face share: the edge, its settings, background tasks, sessions."""

import asyncio
from collections.abc import Awaitable

from opsbus import logs, tasks
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face.sessions import Sessions
from opsbus_edge.settings import EdgeSettings

log = logs.get("edge")


class Tasks:
    """Background tasks that end with the face; what one raises is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[None]] = set()

    def spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        """Starts work in the background."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def stop(self) -> None:
        """Cancels what still runs and waits for its end."""
        await tasks.end(*self._tasks)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.exception("background task failed", error)


class Face:
    """One edge's MCP face."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.settings: EdgeSettings = edge.settings
        self.sessions = Sessions()
        self.tasks = Tasks()
