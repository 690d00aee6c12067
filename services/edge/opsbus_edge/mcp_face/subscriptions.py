"""What changed, on its way to who subscribed: ``subscriptions/listen`` streams and initialized sessions.

Fed by the catalogue (lists) and by ``event.*.resource_updated`` on the bus, so that every edge tells its own clients.
An event says "this changed": equal ones that still wait are one.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import EmptyResult, SubscribeRequestParams, SubscriptionsListenRequestParams, UnsubscribeRequestParams
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from opsbus import logs
from opsbus.nats_client import flush_twice
from opsbus_contracts.catalog import ResourceSpec
from opsbus_contracts.errors import ErrorCode
from opsbus_contracts.events import Event
from opsbus_contracts.events import ResourceUpdated as Updated
from opsbus_edge.answers import LEGACY, MODERN
from opsbus_edge.mcp_face.exchange import Ctx, caller_of, exchange_of
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import refuse, rpc_error
from opsbus_edge.mcp_face.sessions import SUBSCRIPTIONS_MAX, Session, session_of
from opsbus_edge.model import Caller
from opsbus_edge.tasks import declares, missing

log = logs.get("edge")

WAITING_MAX = 10_000
"""Different events that wait to be told; further ones are dropped and logged."""

UPDATED_SUBJECT = "event.*.resource_updated"

_OF_KIND: dict[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}


class Changes:
    """Events of this edge, from where they arise to its subscribers."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self._bus, max_subscriptions=face.settings.sessions_max)
        self._waiting: dict[ServerEvent, None] = {}
        self._some = asyncio.Event()
        self._per_session: dict[Session, dict[ServerEvent, None]] = {}

    async def start(self) -> None:
        """On return, changes are heard."""
        self._stop_catalog = self._face.edge.catalog.subscribe(self._lists_changed)
        self._subscription: Subscription = await self._face.edge.nc.subscribe(
            UPDATED_SUBJECT, cb=self._resource_updated
        )
        await flush_twice(self._face.edge.nc)
        self._face.tasks.spawn(self._tell())

    async def stop(self) -> None:
        """Ends the streams of subscribers, with their final result."""
        self._stop_catalog()
        self.listen.close()
        if not self._face.edge.nc.is_closed:
            await self._subscription.unsubscribe()

    def _lists_changed(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self._put(_OF_KIND[kind])

    async def _resource_updated(self, msg: Msg) -> None:
        """A worker says that a resource changed; it is believed about its own ones alone."""
        try:
            uri = Updated.model_validate(Event.model_validate_json(msg.data).data).uri
        except ValidationError:
            log.warning("event ignored: no resource_updated", subject=msg.subject)
            return
        entry = self._face.edge.catalog.resource(uri)
        service = msg.subject.split(".")[1]
        if entry is None or entry.service != service:
            log.warning("event ignored: not the service's resource", subject=msg.subject)
            return
        self._put(ResourceUpdated(uri))

    def _put(self, event: ServerEvent) -> None:
        if len(self._waiting) >= WAITING_MAX and event not in self._waiting:
            log.warning("event dropped: too many wait", kind=type(event).__name__)
            return
        self._waiting[event] = None
        self._some.set()

    async def _tell(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            events, self._waiting = list(self._waiting), {}
            for event in events:
                await self._bus.publish(event)
            for session in self._face.sessions:
                self._tell_session(session, [event for event in events if _concerns(session, event)])

    def _tell_session(self, session: Session, events: list[ServerEvent]) -> None:
        """Each session has a task of its own: one whose client does not read holds up nobody else."""
        if not events:
            return
        waiting = self._per_session.get(session)
        if waiting is not None:
            waiting.update(dict.fromkeys(events))
            return
        self._per_session[session] = dict.fromkeys(events)
        self._face.tasks.spawn(self._drain(session))

    async def _drain(self, session: Session) -> None:
        try:
            while waiting := self._per_session[session]:
                event = next(iter(waiting))
                del waiting[event]
                await _notify(session, event)
        finally:
            del self._per_session[session]


def _concerns(session: Session, event: ServerEvent) -> bool:
    return not isinstance(event, ResourceUpdated) or event.uri in session.subscriptions


async def _notify(session: Session, event: ServerEvent) -> None:
    channel = session.channel
    if channel is None:
        return
    if isinstance(event, ResourceUpdated):
        await channel.send_resource_updated(event.uri)
    elif isinstance(event, ToolsListChanged):
        await channel.send_tool_list_changed()
    elif isinstance(event, PromptsListChanged):
        await channel.send_prompt_list_changed()
    else:
        await channel.send_resource_list_changed()


async def listen(face: Face, changes: Changes, ctx: Ctx, params: SubscriptionsListenRequestParams) -> Any:
    """``subscriptions/listen``: honours what the caller may see; the acknowledgement says which part that is.

    Tasks are polled, not told of: their ids are never acknowledged.

    Raises:
        MCPError: it asks for tasks and does not declare the extension.
    """
    wanted = (ctx.params or {}).get("notifications")
    if isinstance(wanted, dict) and wanted.get("taskIds") and not declares(_capabilities(face, ctx)):
        raise rpc_error(missing(), MODERN)
    asked = params.notifications.resource_subscriptions
    if asked:
        caller = caller_of(face.edge, ctx)
        honoured = [uri for uri in asked[:SUBSCRIPTIONS_MAX] if _may_watch(face, caller, str(uri))]
        notifications = params.notifications.model_copy(update={"resource_subscriptions": honoured})
        params = params.model_copy(update={"notifications": notifications})
    return await changes.listen(ctx, params)


def _capabilities(face: Face, ctx: Ctx) -> dict[str, Any]:
    return exchange_of(face.edge, ctx).client.capabilities


async def subscribe(face: Face, ctx: Ctx, params: SubscribeRequestParams) -> EmptyResult:
    """``resources/subscribe`` of the older eras.

    Raises:
        MCPError: no such resource, one that is not subscribable, or too many.
    """
    uri = str(params.uri)
    session = session_of(ctx)
    if not _may_watch(face, caller_of(face.edge, ctx), uri):
        refuse(
            ErrorCode.UNKNOWN_RESOURCE,
            f"There is no resource {uri[:200]!r} that can be subscribed to.",
            hint="resources/list shows what there is.",
            era=LEGACY,
            uri=uri,
        )
    if len(session.subscriptions) >= SUBSCRIPTIONS_MAX and uri not in session.subscriptions:
        refuse(
            ErrorCode.INVALID_REQUEST,
            f"This session watches {SUBSCRIPTIONS_MAX} resources already.",
            hint="Unsubscribe from some.",
            era=LEGACY,
        )
    session.subscriptions.add(uri)
    return EmptyResult()


async def unsubscribe(ctx: Ctx, params: UnsubscribeRequestParams) -> EmptyResult:
    """``resources/unsubscribe``; of what was not subscribed to, too."""
    session_of(ctx).subscriptions.discard(str(params.uri))
    return EmptyResult()


def _may_watch(face: Face, caller: Caller, uri: str) -> bool:
    entry = face.edge.catalog.resource(uri)
    if entry is None or not caller.sees(entry.spec.permission):
        return False
    return not isinstance(entry.spec, ResourceSpec) or entry.spec.subscribable
