"""Where callers ask for their tasks: get, update, cancel, at any edge. Running them: runner.py."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from nats.js.errors import KeyWrongLastSequenceError

from opsbus import logs
from opsbus.permission import fits
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_contracts.tasks import Task, TaskStatus, task_digest
from opsbus_edge.model import Caller, Request, error_body
from opsbus_edge.tasks.outcomes import failed, lost
from opsbus_edge.tasks.runner import Runner
from opsbus_edge.tasks.store import STORE_ERRORS, TaskStore, TooLargeError, expired, now_ms

log = logs.get("edge")

_ID = re.compile(r"[0-9a-f]{40}")
_TRIES = 20
"""Others may change a task meanwhile; each time it is read anew."""


class Seen(NamedTuple):
    """A task as its caller may see it."""

    task: Task
    result: bytes | None
    """MCP result of a completed one."""


class Desk:
    """The tasks of all edges, for callers of this one.

    Args:
        ttl_s: How long a task that ends here is kept from then on.
    """

    def __init__(self, store: TaskStore, runner: Runner, instance: str, ttl_s: float) -> None:
        self.runner = runner
        self._store = store
        self._instance = instance
        self._ttl_ms = int(ttl_s * 1000)

    async def get(self, caller: Caller, id: str) -> Seen | ErrorBody:
        """How a task stands."""
        try:
            found = await self._look_up(caller, id)
            if isinstance(found, ErrorBody):
                return found
            task, result = found[0], None
            if task.status is TaskStatus.COMPLETED:
                result = await self._store.result(task_digest(id))
                if result is None:
                    return _unknown()  # it expired between the two
            return Seen(task, result)
        except STORE_ERRORS as error:
            return _unavailable(error)

    async def update(self, caller: Caller, id: str, responses: Mapping[str, Any], address: str) -> ErrorBody | None:
        """Take answers; with the last one the call goes on, at this edge. What was not asked is ignored."""
        try:
            for _ in range(_TRIES):
                found = await self._look_up(caller, id)
                if isinstance(found, ErrorBody):
                    return found
                try:
                    await self._answered(caller, task_digest(id), *found, responses, address)
                    return None
                except KeyWrongLastSequenceError:
                    continue
        except TooLargeError as error:
            return error_body(ErrorCode.REQUEST_TOO_LARGE, f"The answers make the task too large: {error}.")
        except STORE_ERRORS as error:
            return _unavailable(error)
        return _unavailable(TimeoutError())

    async def cancel(self, caller: Caller, id: str) -> ErrorBody | None:
        """End a task that has not ended; one that has stays as it is."""
        digest = task_digest(id)
        try:
            for _ in range(_TRIES):
                found = await self._look_up(caller, id)
                if isinstance(found, ErrorBody):
                    return found
                task, revision = found
                if task.status is TaskStatus.WORKING:
                    if self.runner.cancel(digest) or await self.runner.cancel_at(task.owner, digest):
                        return None
                elif task.status is TaskStatus.INPUT_REQUIRED:
                    message = "Cancelled by its caller while it waited for answers."
                    try:
                        await self._end(digest, task, revision, status=TaskStatus.CANCELLED, message=message)
                    except KeyWrongLastSequenceError:
                        continue
                    return None
                else:
                    return None
                again = await self._look_up(caller, id)
                if not isinstance(again, ErrorBody) and again[1] == revision:
                    return _unavailable(TimeoutError())
        except STORE_ERRORS as error:
            return _unavailable(error)
        return _unavailable(TimeoutError())

    async def _look_up(self, caller: Caller, id: str) -> tuple[Task, int] | ErrorBody:
        """The caller's task and its revision. One whose edge has died is ended here and now."""
        if _ID.fullmatch(id) is None:
            return _unknown()
        digest = task_digest(id)
        for _ in range(_TRIES):
            found = await self._store.find(digest)
            if found is None or found.task.sub != caller.sub or expired(found.task):
                return _unknown()
            task, revision = found
            if not _may_see(caller, task):
                return _forbidden(task)
            if task.status is not TaskStatus.WORKING or await self._under_way(task, digest):
                return task, revision
            error = lost("The edge that ran the call has died")
            end = failed(error)
            try:
                await self._end(digest, task, revision, status=end.status, message=end.message, error=end.error)
            except KeyWrongLastSequenceError:
                continue
            log.warning("a task's edge has died", tool=task.tool, owner=task.owner, call=task.call)
            await self.runner.died(task, error, caller)
        return _unavailable(TimeoutError())

    async def _under_way(self, task: Task, digest: str) -> bool:
        if task.owner == self._instance:
            return self.runner.runs(digest)
        return await self._store.alive(task.owner)

    async def _end(self, digest: str, task: Task, revision: int, **changes: Any) -> None:
        now = now_ms()
        changes |= {
            "updated_ms": now,
            "ttl_ms": max(task.ttl_ms, now - task.created_ms + self._ttl_ms),
            "owner": "",
            "questions": {},
            "answers": {},
            "again": None,
        }
        await self._store.update(digest, task.model_copy(update=changes), revision)

    async def _answered(
        self, caller: Caller, digest: str, task: Task, revision: int, responses: Mapping[str, Any], address: str
    ) -> None:
        given = {key: answer for key, answer in responses.items() if key in task.questions}
        if task.status is not TaskStatus.INPUT_REQUIRED or not given or task.again is None:
            return
        answers = task.answers | {task.questions[key].key: answer for key, answer in given.items()}
        left = {key: question for key, question in task.questions.items() if key not in given}
        if left:
            changes = {"questions": left, "answers": answers, "updated_ms": now_ms()}
            await self._store.update(digest, task.model_copy(update=changes), revision)
            return
        again = task.again
        request = Request(
            method="tools/call",
            target=task.tool,
            params=again.arguments.encode(),
            caller=caller,
            client=task.client,
            protocol=task.protocol,
            transport="http",
            input_responses=orjson.dumps(answers),
            request_state=again.request_state,
            idempotency_key=again.idempotency_key,
            traceparent=again.traceparent,
            tracestate=again.tracestate,
            address=address,
        )
        await self.runner.resume(digest, task, revision, request)


def _may_see(caller: Caller, task: Task) -> bool:
    """Rights may have been taken away since."""
    in_scope = caller.scopes is None or fits(caller.scopes, task.permission)
    return in_scope and caller.sees(task.permission, task.tool)


def _unknown() -> ErrorBody:
    return error_body(
        ErrorCode.INVALID_REQUEST,
        "There is no such task.",
        hint="It may have expired; only its caller can see it.",
    )


def _forbidden(task: Task) -> ErrorBody:
    return error_body(
        ErrorCode.FORBIDDEN,
        f"the permission {task.permission!r} is needed",
        hint="Ask whoever hands out roles.",
        details={"permission": task.permission},
    )


def _unavailable(error: Exception) -> ErrorBody:
    log.warning("tasks cannot be reached", error=str(error)[:200] or type(error).__name__)
    return error_body(
        ErrorCode.UNAVAILABLE,
        "the task cannot be reached at this moment",
        hint="Try again in a few seconds.",
        retry_after_ms=2_000,
    )
