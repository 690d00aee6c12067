"""What changed, on its way to who subscribed: ``subscriptions/listen`` streams and initialized sessions.

Fed by the catalogue (lists), by ``event.*.resource_updated`` and ``edge.task.*`` on the bus, so that every edge tells
its own clients. An event says "this changed": equal ones that still wait are one, and one that was told a moment ago is
told again after a rest, however often it is said meanwhile.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from opsbus import logs
from opsbus.nats_client import flush_twice
from opsbus_contracts.errors import ErrorCode
from opsbus_contracts.events import Event
from opsbus_contracts.events import ResourceUpdated as Updated
from opsbus_contracts.subjects import task_subject
from opsbus_edge.answers import LEGACY
from opsbus_edge.mcp_face.exchange import Ctx, caller_of
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import refuse
from opsbus_edge.mcp_face.rights import may_watch, present, proof_of
from opsbus_edge.mcp_face.sessions import Session, session_of
from opsbus_edge.mcp_face.streams import Streams
from opsbus_edge.mcp_face.watchers import Shares, Watchers

log = logs.get("edge")

UPDATED_SUBJECT = "event.*.resource_updated"
REST_S = 0.5
"""The same resource is not told twice within this long."""
AGAIN_S = 5.0
"""What could not be told, since its caller's proof did not hold, is tried again this often. Seconds."""
GAP_LOOK_S = 1.0
"""How soon it is seen that the connection to the bus was lost and is back."""

_OF_KIND: dict[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}


class Changes:
    """Events of this edge, from where they arise to its subscribers."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self.shares = Shares(face.settings.subscriptions_per_caller)
        self.streams = Streams(face, self.shares)
        self._sessions: Watchers[Session] = Watchers()
        face.sessions.ended.append(self._left)
        self._waiting: dict[ServerEvent, None] = {}
        self._resting: dict[ServerEvent, bool] = {}
        """Told a moment ago; True: said again since."""
        self._some = asyncio.Event()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """On return, changes are heard."""
        edge = self._face.edge
        self._stop_catalog = edge.catalog.subscribe(self._lists_changed)
        self._subscriptions.append(await edge.nc.subscribe(UPDATED_SUBJECT, cb=self._resource_updated))
        if edge.tasks is not None:
            self._subscriptions.append(await edge.nc.subscribe(task_subject("*"), cb=self._task_changed))
            self._face.tasks.spawn(self.streams.look_at_tasks())
        await flush_twice(edge.nc)
        self._face.tasks.spawn(self._tell())
        self._face.tasks.spawn(self._mind_gaps())
        self._face.tasks.spawn(self._try_again())

    async def stop(self) -> None:
        """Ends the streams of subscribers, with their final result."""
        self._stop_catalog()
        self.streams.close()
        for subscription in self._subscriptions:
            if not self._face.edge.nc.is_closed:
                await subscription.unsubscribe()

    def watch(self, session: Session, uri: str) -> bool:
        """The session hears of the resource from now on; False: its caller watches enough."""
        if uri in session.subscriptions:
            return True
        if self.shares.left(session.sub) < 1:
            return False
        self.shares.take(session.sub)
        session.subscriptions.add(uri)
        self._sessions.add(uri, session)
        return True

    def unwatch(self, session: Session, uri: str) -> None:
        """It hears of it no more."""
        if uri in session.subscriptions:
            session.subscriptions.discard(uri)
            self._sessions.discard(uri, session)
            self.shares.give_back(session.sub)

    def proved(self, session: Session, scope: Mapping[str, Any]) -> None:
        """A request of the session proved its caller anew."""
        session.proof = proof_of(scope)

    def stream_closed(self, sdk_id: str) -> None:
        """A session's GET stream has ended: what comes now waits for the next one."""
        self._face.sessions.stream_closed(sdk_id)

    def stream_opened(self, sdk_id: str) -> None:
        """A session's GET stream is open: what waited for that is told."""
        self._face.sessions.stream_opened(sdk_id)
        session = self._face.sessions.find(sdk_id)
        if session is not None:
            self._hand(session)

    def _left(self, session: Session) -> None:
        for uri in list(session.subscriptions):
            self.unwatch(session, uri)

    def _lists_changed(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self._put(_OF_KIND[kind])

    async def _task_changed(self, msg: Msg) -> None:
        self.streams.task_changed(msg.subject.rpartition(".")[2])

    async def _resource_updated(self, msg: Msg) -> None:
        """A worker says that a resource changed; it is believed about its own ones alone.

        Whose word it is the subject says: the bus lets each service publish under its own name only.
        """
        try:
            uri = Updated.model_validate(Event.model_validate_json(msg.data).data).uri
        except ValidationError:
            log.warning("event ignored: no resource_updated", subject=msg.subject)
            return
        if not self._is_watched(uri):
            return
        entry = self._face.edge.catalog.resource(uri)
        if entry is None or entry.service != msg.subject.split(".")[1]:
            log.warning("event ignored: not the service's resource", subject=msg.subject)
            return
        self._put(ResourceUpdated(uri))

    def _is_watched(self, uri: str) -> bool:
        return uri in self._sessions or uri in self.streams.by_uri

    def _put(self, event: ServerEvent) -> None:
        if event in self._resting:
            self._resting[event] = True
            return
        self._waiting[event] = None
        self._some.set()

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            self._some.clear()
            events, self._waiting = list(self._waiting), {}
            for number, event in enumerate(events):
                if isinstance(event, ResourceUpdated):
                    self._resting[event] = False
                    loop.call_later(REST_S, self._rested, event)
                self._told(event)
                if number % 100 == 99:
                    await asyncio.sleep(0)

    def _rested(self, event: ServerEvent) -> None:
        if self._resting.pop(event):
            self._put(event)

    def _told(self, event: ServerEvent) -> None:
        self.streams.put(event)
        sessions = self._sessions.of(event.uri) if isinstance(event, ResourceUpdated) else list(self._face.sessions)
        for session in sessions:
            self._hand(session, event)

    async def _mind_gaps(self) -> None:
        """What was said while the bus was away is lost: all that is watched may have changed. Lists mind themselves."""
        nc = self._face.edge.nc
        seen = nc.stats["reconnects"]
        while True:
            await asyncio.sleep(GAP_LOOK_S)
            if nc.stats["reconnects"] != seen:
                seen = nc.stats["reconnects"]
                for uri in {*self._sessions.all(), *self.streams.by_uri.all()}:
                    self._put(ResourceUpdated(uri))

    async def _try_again(self) -> None:
        """What waits for sessions whose caller could not be told to be who they were."""
        while True:
            await asyncio.sleep(AGAIN_S)
            for session in self._face.sessions:
                self._hand(session)

    def _hand(self, session: Session, event: ServerEvent | None = None) -> None:
        """Each session has a task of its own: one whose client does not read holds up nobody else."""
        if event is not None:
            session.waiting[event] = None
        if session.waiting and not session.telling and self._face.sessions.hears(session):
            session.telling = True
            self._face.tasks.spawn(self._drain(session))

    async def _drain(self, session: Session) -> None:
        edge = self._face.edge
        try:
            while session.waiting and self._face.sessions.hears(session):
                caller = await present(edge, session.proof)
                if caller is None:
                    return  # kept, until the session's caller is proved again
                event = next(iter(session.waiting))
                del session.waiting[event]
                if not isinstance(event, ResourceUpdated) or (
                    event.uri in session.subscriptions and may_watch(edge, caller, event.uri)
                ):
                    await _notify(session, event)
        finally:
            session.telling = False


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


def subscribe(face: Face, changes: Changes, ctx: Ctx, params: SubscribeRequestParams) -> EmptyResult:
    """``resources/subscribe`` of the older eras.

    Raises:
        MCPError: no such resource, one that is not subscribable or not for this caller, or too many.
    """
    uri = str(params.uri)
    caller = caller_of(face.edge, ctx)
    if not may_watch(face.edge, caller, uri):
        refuse(
            ErrorCode.UNKNOWN_RESOURCE,
            f"There is no resource {uri[:200]!r} that can be subscribed to.",
            hint="resources/list shows what there is.",
            era=LEGACY,
            uri=uri,
        )
    if not changes.watch(face.sessions.keep(ctx, caller.sub), uri):
        refuse(
            ErrorCode.INVALID_REQUEST,
            f"You watch {changes.shares.most} resources at this edge already.",
            hint="Unsubscribe from some.",
            era=LEGACY,
        )
    return EmptyResult()


def unsubscribe(changes: Changes, ctx: Ctx, params: UnsubscribeRequestParams) -> EmptyResult:
    """``resources/unsubscribe``; of what was not subscribed to, too."""
    changes.unwatch(session_of(ctx), str(params.uri))
    return EmptyResult()
