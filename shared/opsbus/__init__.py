"""opsbus: the kit every worker is built on. A worker's author needs what is exported here and nothing else.

What is exported is loaded when it is asked for: the edge and the commands use parts of the kit, and not its worker.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_WHERE = {
    "Audio": "opsbus.content",
    "Change": "opsbus.plan",
    "Context": "opsbus.context",
    "Elicit": "opsbus.ask",
    "Embedded": "opsbus.content",
    "ErrorCode": "opsbus_contracts",
    "Executed": "opsbus_contracts",
    "Header": "opsbus.schema",
    "Image": "opsbus.content",
    "Page": "opsbus.page",
    "PageInfo": "opsbus.page",
    "Plan": "opsbus.plan",
    "PromptMessage": "opsbus.content",
    "ResourceContents": "opsbus.content",
    "ResourceLink": "opsbus.content",
    "Roots": "opsbus.ask",
    "Sample": "opsbus.ask",
    "Sampled": "opsbus.ask",
    "Service": "opsbus.service",
    "Settings": "opsbus.settings",
    "Text": "opsbus.content",
    "ToolError": "opsbus.toolerror",
    "ToolResult": "opsbus.content",
    "Undo": "opsbus.plan",
    "Worker": "opsbus.worker",
    "near": "opsbus.toolerror",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'opsbus' has no attribute {name!r}")
    import_module("opsbus.nats_light")
    found = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
