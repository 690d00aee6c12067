"""The process's wired parts, as every face gets them. Wiring them: wiring.py."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nats.aio.client import Client

from opsbus_edge.audit import AuditLog
from opsbus_edge.catalog import Catalog
from opsbus_edge.catalog.watch import CatalogWatch
from opsbus_edge.dispatch import Dispatcher
from opsbus_edge.gates.api_key import ApiKeys
from opsbus_edge.gates.authenticate import Authenticator
from opsbus_edge.gates.policy.watch import PolicyWatch
from opsbus_edge.gates.proof import Proven
from opsbus_edge.gates.rates import RateLimits
from opsbus_edge.gates.refusals import Refusals
from opsbus_edge.gates.shut_out import ShutOut
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import NO_PEER, Caller, Denied, Peer
from opsbus_edge.pipeline import Pipeline
from opsbus_edge.seal import Sealer
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.sign_in.endpoint import SignIn
from opsbus_edge.signing import SigningKey
from opsbus_edge.tracing import Tracing

if TYPE_CHECKING:
    from opsbus_edge.tasks import Desk


@dataclass(slots=True)
class Edge:
    """One edge process.

    The ASGI application authenticates every request to /mcp before it hands it to ``mcp_face.app.build(edge)`` and
    leaves the Caller in ``scope["opsbus.caller"]``; the ASGI lifespan protocol is passed on to that application too.
    """

    settings: EdgeSettings
    instance: str
    """``edge-4f1c0a9b``: token of ``edge.<instance>.session`` and of the inbox."""
    nc: Client
    catalog: Catalog
    watch: CatalogWatch
    pipeline: Pipeline
    dispatcher: Dispatcher
    sealer: Sealer
    metrics: Metrics
    audit: AuditLog
    tracing: Tracing
    authenticator: Authenticator
    api_keys: ApiKeys
    signing: SigningKey
    policy_watch: PolicyWatch
    rates: RateLimits
    shut_out: ShutOut
    sign_in: SignIn | None = None
    """``POST /auth/token``; None without a directory."""
    tasks: "Desk | None" = None
    """Calls that clients poll for; None: every call is waited for."""
    refusals: Refusals | None = None
    """Told of every request without a good proof."""
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at SIGTERM: /ready is red, nothing new should come. Streams without an end of their own end now."""

    async def authenticate(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Caller | Denied:
        """The caller behind a request's headers (lower-case names). Cheap when repeated: verified tokens are cached."""
        found = await self.authenticator.authenticate(headers, peer)
        if isinstance(found, Denied) and self.refusals is not None:
            self.refusals.tell(found, peer)
        return found

    def stdio_caller(self) -> Caller:
        """The caller of a stdio session: who and in which role is a setting, since no header carries it."""
        settings = self.settings
        return self.authenticator.caller(Proven(settings.stdio_user, tuple(settings.stdio_roles), "stdio"))
