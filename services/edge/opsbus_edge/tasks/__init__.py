"""Calls that their clients poll for: the MCP extension ``io.modelcontextprotocol/tasks``. On the wire: asgi/tasks.py.

A task is a pipeline run in the background of one edge; what became of it stands in the bucket TASKS for every edge.
"""

from opsbus_edge.tasks.desk import Desk
from opsbus_edge.tasks.extension import EXTENSION, declares, missing
from opsbus_edge.tasks.runner import Handle, Runner
from opsbus_edge.tasks.sealing import TaskSeal
from opsbus_edge.tasks.store import TaskStore

__all__ = ["EXTENSION", "Desk", "Handle", "Runner", "TaskSeal", "TaskStore", "declares", "missing"]
