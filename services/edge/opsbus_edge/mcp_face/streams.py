"""Streams of ``subscriptions/listen``: each hears what was acknowledged to it, for as long as its caller may."""

import asyncio
from typing import Any, NamedTuple, cast

import orjson
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    ResourceUpdated,
    ServerEvent,
    event_matches,
    event_to_notification,
)
from mcp_types import (
    Notification,
    ServerNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from opsbus import logs
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_contracts.tasks import TaskStatus, task_digest
from opsbus_edge.answers import MODERN
from opsbus_edge.mcp_face.exchange import Ctx, caller_of, exchange_of
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import refuse, rpc_error
from opsbus_edge.mcp_face.rights import Proof, may_watch, present, proof_in
from opsbus_edge.mcp_face.watchers import Shares, Watchers
from opsbus_edge.model import Caller
from opsbus_edge.tasks import declares, missing
from opsbus_edge.tasks.wire import whole

log = logs.get("edge")

TASKS_METHOD = "notifications/tasks"
LOOK_EVERY_S = 5.0
"""A watched task is looked at this often though nothing is heard of it: its edge may have died."""
UNSEEN_MAX = 3
"""A task that is not found so often has expired; of several servers of the bus one may not know it yet."""
_GOING_ON = (TaskStatus.WORKING, TaskStatus.INPUT_REQUIRED)


class TaskChanged(NamedTuple):
    """A task is no longer what it was."""

    digest: str


class Stream:
    """One stream, and what waits to be told on it: no more than what it watches."""

    def __init__(
        self, caller: Caller, proof: Proof | None, honoured: SubscriptionFilter, tasks: dict[str, str]
    ) -> None:
        self.sub = caller.sub
        self.proof = proof
        self.honoured = honoured
        self.uris = frozenset(honoured.resource_subscriptions or ())
        self.tasks = tasks
        """Ids by digest."""
        self.told: dict[str, bytes] = {}
        """What was told of a task last, by digest."""
        self.unseen: dict[str, int] = {}
        """How often a task was not found, by digest."""
        self.waiting: dict[ServerEvent | TaskChanged, None] = {}
        self.some = asyncio.Event()
        self.closed = False

    def put(self, change: ServerEvent | TaskChanged) -> None:
        """To be told; equal ones that still wait are one."""
        self.waiting[change] = None
        self.some.set()

    def close(self) -> None:
        """What waits is told, then it ends."""
        self.closed = True
        self.some.set()


class Streams:
    """All streams of this edge.

    Args:
        shares: How much callers watch, sessions' subscriptions included.
    """

    def __init__(self, face: Face, shares: Shares) -> None:
        self._face = face
        self._shares = shares
        self._counts = Shares(face.settings.listens_per_caller)
        self._streams: set[Stream] = set()
        self.by_uri: Watchers[Stream] = Watchers()
        self._by_task: Watchers[Stream] = Watchers()

    def put(self, event: ServerEvent) -> None:
        """To whom it concerns."""
        if isinstance(event, ResourceUpdated):
            for stream in self.by_uri.of(event.uri):
                stream.put(event)
            return
        for stream in list(self._streams):
            if event_matches(stream.honoured, stream.uris, event):
                stream.put(event)

    def task_changed(self, digest: str) -> None:
        """A task is to be looked at by who watches it."""
        for stream in self._by_task.of(digest):
            stream.put(TaskChanged(digest))

    async def look_at_tasks(self) -> None:
        """Looks at the tasks that are watched, now and then, whatever is heard of them."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for digest in self._by_task.all():
                self.task_changed(digest)

    def close(self) -> None:
        """Every stream ends with its final result; this does not wait for it."""
        for stream in list(self._streams):
            stream.close()

    async def listen(self, ctx: Ctx, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Serves one stream. The acknowledgement says which part of what was asked is honoured.

        Raises:
            MCPError: it asks for tasks and does not declare the extension, or there are too many streams.
        """
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        stream = await self._opened(ctx, params.notifications)
        if self._face.edge.drain.is_set():
            stream.close()  # it came when those that were open had been closed
        try:
            acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=stream.honoured, _meta=meta)
            await self._send(ctx, SubscriptionsAcknowledgedNotification(params=acknowledged))
            await self._serve(ctx, stream, meta)
        finally:
            self._left(stream)
        return SubscriptionsListenResult(_meta=meta)

    async def _opened(self, ctx: Ctx, wanted: SubscriptionFilter) -> Stream:
        edge = self._face.edge
        caller = caller_of(edge, ctx)
        if self._counts.left(caller.sub) < 1 or len(self._streams) >= self._face.settings.sessions_max:
            refuse(ErrorCode.RATE_LIMITED, "There are too many streams already.", hint="Close some that you listen to.")
        tasks = await self._tasks(ctx, caller)
        room = self._shares.left(caller.sub)
        tasks = dict(list(tasks.items())[: max(0, room)])
        room -= len(tasks)
        asked = dict.fromkeys((wanted.resource_subscriptions or [])[: self._shares.most])
        uris = [uri for uri in asked if may_watch(edge, caller, uri)][: max(0, room)]
        honoured = SubscriptionFilter(
            tools_list_changed=wanted.tools_list_changed or None,
            prompts_list_changed=wanted.prompts_list_changed or None,
            resources_list_changed=wanted.resources_list_changed or None,
            resource_subscriptions=uris or None,
            **cast("dict[str, Any]", {"taskIds": list(tasks.values())} if tasks else {}),
        )
        stream = Stream(caller, proof_in(ctx), honoured, tasks)
        self._streams.add(stream)
        self._counts.take(stream.sub)
        self._shares.take(stream.sub, len(stream.uris) + len(stream.tasks))
        for uri in stream.uris:
            self.by_uri.add(uri, stream)
        for digest in stream.tasks:
            self._by_task.add(digest, stream)
            stream.put(TaskChanged(digest))  # how it stands: it may have ended before anybody listened
        return stream

    def _left(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._counts.give_back(stream.sub)
        self._shares.give_back(stream.sub, len(stream.uris) + len(stream.tasks))
        for uri in stream.uris:
            self.by_uri.discard(uri, stream)
        for digest in stream.tasks:
            self._by_task.discard(digest, stream)

    async def _tasks(self, ctx: Ctx, caller: Caller) -> dict[str, str]:
        """Of the tasks that were asked for, those that are the caller's: ids by digest."""
        edge = self._face.edge
        filter = (ctx.params or {}).get("notifications")
        asked = filter.get("taskIds") if isinstance(filter, dict) else None
        if not asked:
            return {}
        if not declares(exchange_of(edge, ctx).client.capabilities):
            raise rpc_error(missing(), MODERN)
        found: dict[str, str] = {}
        if edge.tasks is None or ctx.request is None or not isinstance(asked, list):
            return found
        most = self._face.settings.tasks_per_caller  # nobody has more
        for id in dict.fromkeys(one for one in asked[:most] if isinstance(one, str)):
            seen = await edge.tasks.get(caller, id)
            if not isinstance(seen, ErrorBody):
                found[task_digest(id)] = id
            elif seen.code is ErrorCode.UNAVAILABLE:
                raise rpc_error(seen, MODERN)
        return found

    async def _serve(self, ctx: Ctx, stream: Stream, meta: dict[str, Any]) -> None:
        """Tells what comes, until the edge closes the stream or its caller's proof holds no more."""
        while True:
            await stream.some.wait()
            stream.some.clear()
            while stream.waiting:
                change = next(iter(stream.waiting))
                del stream.waiting[change]
                caller = await present(self._face.edge, stream.proof)
                if caller is None:
                    log.info("a stream ends: its caller's proof holds no more", sub=stream.sub)
                    return
                if isinstance(change, TaskChanged):
                    await self._tell_task(ctx, stream, caller, change.digest, meta)
                elif not isinstance(change, ResourceUpdated) or may_watch(self._face.edge, caller, change.uri):
                    await self._send(ctx, event_to_notification(change, meta))
            if stream.closed:
                return

    async def _tell_task(self, ctx: Ctx, stream: Stream, caller: Caller, digest: str, meta: dict[str, Any]) -> None:
        """The whole task, as tasks/get would give it; nothing, when that is what was told last."""
        desk = self._face.edge.tasks
        if desk is None:
            return
        id = stream.tasks[digest]
        seen = await desk.get(caller, id)
        if isinstance(seen, ErrorBody):
            if seen.code is ErrorCode.INVALID_REQUEST:
                stream.unseen[digest] = stream.unseen.get(digest, 0) + 1
                if stream.unseen[digest] >= UNSEEN_MAX:
                    self._by_task.discard(digest, stream)
            return
        body = whole(id, seen)
        if stream.told.get(digest) == body:
            return
        stream.told[digest] = body if seen.task.status in _GOING_ON else b""
        if seen.task.status not in _GOING_ON:
            self._by_task.discard(digest, stream)
        params = {**orjson.loads(body), "_meta": meta}
        await self._send(ctx, Notification[dict[str, Any], str](method=TASKS_METHOD, params=params))

    async def _send(self, ctx: Ctx, notification: Any) -> None:
        await ctx.session.send_notification(cast("ServerNotification", notification), related_request_id=ctx.request_id)
