"""opsbus: the kit every worker is built on. A worker's author needs what is exported here and nothing else."""

from opsbus.ask import Elicit, Roots, Sample, Sampled
from opsbus.content import Audio, Embedded, Image, PromptMessage, ResourceContents, ResourceLink, Text, ToolResult
from opsbus.context import Context
from opsbus.page import Page, PageInfo
from opsbus.plan import Change, Plan, Undo
from opsbus.schema import Header
from opsbus.service import Service
from opsbus.settings import Settings
from opsbus.toolerror import ToolError, near
from opsbus.worker import Worker
from opsbus_contracts import ErrorCode, Executed

__all__ = [
    "Audio",
    "Change",
    "Context",
    "Elicit",
    "Embedded",
    "ErrorCode",
    "Executed",
    "Header",
    "Image",
    "Page",
    "PageInfo",
    "Plan",
    "PromptMessage",
    "ResourceContents",
    "ResourceLink",
    "Roots",
    "Sample",
    "Sampled",
    "Service",
    "Settings",
    "Text",
    "ToolError",
    "ToolResult",
    "Undo",
    "Worker",
    "near",
]
