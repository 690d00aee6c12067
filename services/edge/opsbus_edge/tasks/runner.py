"""The tasks that this edge runs: calls that outlasted the patience of their client's request, followed to their end."""

import asyncio
import contextlib
import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import KeyWrongLastSequenceError
from pydantic import ValidationError

from opsbus import logs, tasks
from opsbus.nats_client import flush_twice
from opsbus_contracts.calls import Cancel
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_contracts.tasks import Task, TaskStatus, task_digest
from opsbus_edge.catalog import Catalog
from opsbus_edge.mcp_face.relay import cancel_subject
from opsbus_edge.model import Caller, OnMessage, Reply, Request, error_body, new_call
from opsbus_edge.pipeline import Pipeline
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.tasks.outcomes import Asks, End, ask, ended_by, failed, lost, outcome
from opsbus_edge.tasks.running import Progress, Running, cut_short
from opsbus_edge.tasks.store import BEAT_S, STORE_ERRORS, TaskStore, TooLargeError, now_ms

log = logs.get("edge")

ROUNDS_MAX = 20
"""Rounds of questions of one task."""
AGAIN_S = (0.2, 1.0, 3.0, 10.0)
"""Waits between attempts to keep an outcome; the last one counts until the edge ends."""
STOP_S = 5.0
"""What was cut short by the edge's own end is kept within this long."""


class Handle(NamedTuple):
    """A task that was just made, for its client."""

    id: str
    task: Task


class Runner:
    """Runs calls of clients that declared the extension.

    Args:
        settings: ``task_after_s``, ``task_ttl_s``, ``tasks_per_caller``, ``task_result_bytes_max``.
    """

    def __init__(
        self, nc: Client, instance: str, catalog: Catalog, pipeline: Pipeline, store: TaskStore, settings: EdgeSettings
    ) -> None:
        self._nc = nc
        self._instance = instance
        self._catalog = catalog
        self._pipeline = pipeline
        self._store = store
        self._settings = settings
        self._running: dict[str, Running] = {}
        self._starting: set[str] = set()
        self._work: set[asyncio.Task[Any]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._beaten = False
        self._stopping = False

    async def start(self) -> None:
        """On return, cancellations that other edges pass on are heard."""
        subject = cancel_subject(self._instance)
        self._subscription = await self._nc.subscribe(subject, cb=self._cancelled_elsewhere)
        await flush_twice(self._nc)
        self._beating = asyncio.create_task(self._beat())

    async def stop(self, timeout_s: float) -> None:
        """Waits for what runs, this long; what then still runs is cut short, and said to be."""
        self._stopping = True
        if self._work:
            await asyncio.wait(self._work, timeout=timeout_s)
        for running in self._running.values():
            running.call.cancel()
        if self._work:
            await asyncio.wait(self._work, timeout=STOP_S)
        await tasks.end(self._beating, *self._work)
        if not self._nc.is_closed:
            await self._subscription.unsubscribe()

    def runs(self, digest: str) -> bool:
        """Whether a task is under way here."""
        return digest in self._running or digest in self._starting

    async def run(self, request: Request, on_message: OnMessage | None) -> Reply | Handle:
        """The call's reply, or the task that it became because it took long.

        A client that goes away before that ends the call; afterwards nothing but ``tasks/cancel`` does.
        """
        progress = Progress(on_message)
        request.wants_progress = True
        call = asyncio.create_task(self._pipeline.run(request, progress))
        try:
            await asyncio.wait({call}, timeout=self._settings.task_after_s)
            if not call.done():
                handle: Handle | None = await asyncio.shield(self._spawn(self._taken(request, call, progress)))
                if handle is not None:
                    return handle
                await asyncio.wait({call})
        except asyncio.CancelledError:
            await tasks.end(call)
            raise
        return call.result()

    async def died(self, task: Task, error: ErrorBody, caller: Caller) -> None:
        """Record the end of a task whose edge did not live to do it."""
        request = Request(
            method="tools/call",
            target=task.tool,
            params=b"{}",
            caller=caller,
            client=task.client,
            protocol=task.protocol,
            transport="http",
            call=task.call,
        )
        await self._pipeline.lost(request, error, (now_ms() - task.created_ms) / 1000)

    async def resume(self, digest: str, task: Task, revision: int, request: Request) -> None:
        """Go on with a task whose questions are answered, here.

        Raises:
            KeyWrongLastSequenceError: somebody else was quicker.
            STORE_ERRORS: the bus did not take it.
        """
        self._starting.add(digest)
        try:
            task = task.model_copy(
                update={
                    "status": TaskStatus.WORKING,
                    "call": request.call,
                    "message": "",
                    "owner": self._instance,
                    "questions": {},
                    "answers": {},
                    "again": None,
                    "updated_ms": now_ms(),
                }
            )
            revision = await self._store.update(digest, task, revision)
            progress = Progress(None)
            request.wants_progress = True
            call = asyncio.create_task(self._pipeline.run(request, progress))
            self._adopt(Running(digest, task, revision, request, call, progress))
        finally:
            self._starting.discard(digest)

    def cancel(self, digest: str) -> bool:
        """End a task that is under way here; False: it is not."""
        running = self._running.get(digest)
        if running is None:
            return False
        running.wanted = False
        running.call.cancel()
        return True

    async def cancel_at(self, instance: str, digest: str) -> bool:
        """Have another edge end a task; False: it did not say that it did."""
        body = Cancel(call=digest).model_dump_json().encode()
        with contextlib.suppress(*STORE_ERRORS):
            await self._nc.request(cancel_subject(instance), body, timeout=2.0)
            return True
        return False

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _taken(self, request: Request, call: asyncio.Task[Reply], progress: "Progress") -> Handle | None:
        """The call as a task, once the bucket has it; None: it stays a call that is waited for."""
        tool = self._catalog.tool(request.target)
        if tool is None or self._stopping:
            return None
        settings, now, id = self._settings, now_ms(), secrets.token_hex(20)
        task = Task(
            sub=request.caller.sub,
            call=request.call,
            tool=request.target,
            permission=tool.spec.permission,
            status=TaskStatus.WORKING,
            message=progress.message,
            created_ms=now,
            updated_ms=now,
            ttl_ms=int(settings.task_ttl_s * 1000),
            owner=self._instance,
            client=request.client,
            protocol=request.protocol,
        )
        digest = task_digest(id)
        try:
            if not self._beaten:
                await self._store.beat()
                self._beaten = True
            if not await self._store.admit(task.sub, digest, now + task.ttl_ms, settings.tasks_per_caller):
                log.info("a call stays no task: its caller has enough", sub=task.sub, most=settings.tasks_per_caller)
                return None
            revision = await self._store.create(digest, task)
        except (*STORE_ERRORS, TooLargeError, ValidationError) as error:
            log.warning("a call stays no task", tool=task.tool, error=str(error)[:200] or type(error).__name__)
            return None
        self._adopt(Running(digest, task, revision, request, call, progress))
        return Handle(id, task)

    def _adopt(self, running: Running) -> None:
        running.progress.leave()
        self._running[running.digest] = running
        self._spawn(self._follow(running))

    async def _follow(self, running: Running) -> None:
        try:
            await self._keep(running, await self._ended(running))
        except Exception as bug:
            log.exception("a task was lost", bug, call=running.request.call)
        finally:
            del self._running[running.digest]

    async def _ended(self, running: Running) -> End | Asks:
        client = running.task.client.capabilities
        for _ in range(ROUNDS_MAX):
            await asyncio.wait({running.call})
            if running.call.cancelled():
                return cut_short(running)
            if (bug := running.call.exception()) is not None:
                log.exception("the pipeline failed", bug, call=running.request.call)
                return failed(lost("The edge failed inside"))
            found = outcome(running.call.result(), client, self._settings.task_result_bytes_max)
            if not isinstance(found, Asks):
                return found
            if found.questions:
                return found if running.task.rounds < ROUNDS_MAX else ended_by(_asks_for_ever())
            # A worker that asks nothing only wants to be called again, with its state.
            running.request = replace(running.request, call=new_call(), request_state=found.state, input_responses=None)
            running.call = asyncio.create_task(self._pipeline.run(running.request, running.progress))
        return ended_by(_asks_for_ever())

    async def _keep(self, running: Running, end: End | Asks) -> None:
        """Into the bucket, however long that takes: a task that has ended must not seem to work."""
        waits = iter(AGAIN_S)
        wait_s = AGAIN_S[0]
        while True:
            try:
                async with running.lock:
                    await self._put(running, end)
                return
            except KeyWrongLastSequenceError:
                log.warning("a task's end came too late: another edge has ended it", call=running.request.call)
                return
            except TooLargeError as error:
                end = ended_by(_too_large(str(error)))
            except STORE_ERRORS as error:
                log.warning("a task's end is not kept yet", call=running.request.call, error=type(error).__name__)
                wait_s = next(waits, wait_s)
                await asyncio.sleep(wait_s)

    async def _put(self, running: Running, end: End | Asks) -> None:
        now = now_ms()
        changes: dict[str, Any] = {
            "updated_ms": now,
            # What has ended, or waits, is kept for its whole time from now on.
            "ttl_ms": now - running.task.created_ms + int(self._settings.task_ttl_s * 1000),
        }
        if isinstance(end, Asks):
            changes |= ask(running.task, end, running.request)
        else:
            if end.result is not None:
                await self._store.keep_result(running.digest, end.result)
            changes |= {"status": end.status, "message": end.message, "error": end.error, "owner": ""}
        task = running.task.model_copy(update=changes)
        running.revision = await self._store.update(running.digest, task, running.revision)
        running.task = task

    async def _beat(self) -> None:
        silent = False
        while True:
            try:
                await self._store.beat()
                self._beaten = True
                for running in list(self._running.values()):
                    await self._tell_progress(running)
                silent = False
            except STORE_ERRORS as error:
                if not silent:
                    log.warning("no sign of life could be given", error=str(error)[:200] or type(error).__name__)
                silent = True
            await asyncio.sleep(BEAT_S)

    async def _tell_progress(self, running: Running) -> None:
        """The newest progress becomes the task's message."""
        async with running.lock:
            message = running.progress.message
            if running.digest not in self._running or running.task.status is not TaskStatus.WORKING:
                return
            if message == running.task.message:
                return
            task = running.task.model_copy(update={"message": message, "updated_ms": now_ms()})
            with contextlib.suppress(KeyWrongLastSequenceError):
                running.revision = await self._store.update(running.digest, task, running.revision)
                running.task = task

    async def _cancelled_elsewhere(self, msg: Msg) -> None:
        """Another edge's client wants it; whatever is no task of this edge is a session's request, or has ended."""
        try:
            digest = Cancel.model_validate_json(msg.data).call
        except ValidationError:
            return
        if self.cancel(digest) and msg.reply:
            await msg.respond(b"")


def _asks_for_ever() -> ErrorBody:
    return error_body(
        ErrorCode.BAD_REPLY,
        f"The worker still asks after {ROUNDS_MAX} rounds of questions.",
        hint="Tell the team that owns it.",
    )


def _too_large(size: str) -> ErrorBody:
    return error_body(
        ErrorCode.RESULT_TOO_LARGE,
        f"What the call asks, with its arguments, has {size}: too much to be kept.",
        hint="Call without declaring the tasks extension, or with smaller arguments.",
        executed=Executed.UNKNOWN,
    )
