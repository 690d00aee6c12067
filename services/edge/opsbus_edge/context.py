"""The process's wired parts, as every face gets them. Wiring them is app.py's matter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsbus_edge.catalog import Catalog
from opsbus_edge.model import Caller, Denied
from opsbus_edge.pipeline import Pipeline

if TYPE_CHECKING:
    from nats.aio.client import Client


@dataclass(slots=True)
class Edge:
    """One edge process.

    The ASGI application authenticates every request to /mcp before it hands it to ``mcp_face.app.build(edge)`` and
    leaves the Caller in ``scope["opsbus.caller"]``; the ASGI lifespan protocol is passed on to that application too.
    """

    settings: Any
    instance: str
    """``edge-4f1c0a9b``: token of ``edge.<instance>.session`` and of the inbox."""
    nc: "Client"
    catalog: Catalog
    pipeline: Pipeline
    sealer: Any
    metrics: Any
    audit: Any

    async def authenticate(self, headers: Mapping[str, str]) -> Caller | Denied:
        """The caller behind a request's headers (lower-case names). Cheap when repeated: verified tokens are cached."""
        raise NotImplementedError

    def stdio_caller(self) -> Caller:
        """The caller of a stdio session: who and in which role is a setting, since no header carries it."""
        raise NotImplementedError
