"""The bucket TASKS: tasks, their results, how many a caller has, and which edges live. Nothing is decided here."""

import asyncio
import contextlib
import random
import time
from typing import NamedTuple

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus import logs
from opsbus_contracts.calls import BODY_BYTES_MAX
from opsbus_contracts.streams import TASKS
from opsbus_contracts.subjects import task_subject
from opsbus_contracts.tasks import Task, TasksOfCaller, TaskStatus, task_digest
from opsbus_edge.tasks.sealing import TaskSeal, UnreadableError

STORE_ERRORS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
"""What the bus may fail with; KeyWrongLastSequenceError, somebody else was quicker, is one of them."""
STREAM = f"KV_{TASKS.name}"
BEAT_S = 3.0
"""An edge gives a sign of life this often."""
DEAD_AFTER_S = 12.0
"""One that gave none for this long, by the bus's clock, is dead."""
_TIMEOUT_S = 5.0
_TRIES = 20
_FORGET_MAX = 50
"""Expired tasks let go at a time, so that nobody waits for it long."""

_SEALED = {"sub", "message", "client", "issued", "questions", "answers", "again", "error"}
"""Fields of a task that lie in the bucket sealed."""
log = logs.get("edge")


class TooLargeError(Exception):
    """A task does not fit into a message."""


class Found(NamedTuple):
    """A task as it stands in the bucket."""

    task: Task
    revision: int


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time.time() * 1000)


def expired(task: Task) -> bool:
    """Whether a task may be forgotten. One that runs never is: its call has a deadline of its own."""
    return task.status is not TaskStatus.WORKING and now_ms() > task.created_ms + task.ttl_ms


class TaskStore:
    """The bucket as one edge uses it. Every method raises STORE_ERRORS when the bus does not answer."""

    def __init__(self, nc: Client, instance: str, seal: TaskSeal) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=_TIMEOUT_S)
        self._instance = instance
        self._seal = seal
        self._bucket: KeyValue | None = None

    async def create(self, digest: str, task: Task) -> int:
        """Put a new task; gives its revision.

        Raises:
            TooLargeError: it does not fit.
        """
        return await (await self._open()).update(f"task.{digest}", self._bytes(digest, task), last=0)

    async def update(self, digest: str, task: Task, revision: int) -> int:
        """Replace a task that nobody else changed since, and tell every edge that it changed; gives its new revision.

        Raises:
            KeyWrongLastSequenceError: somebody else changed it.
            TooLargeError: it does not fit.
        """
        found = await (await self._open()).update(f"task.{digest}", self._bytes(digest, task), last=revision)
        with contextlib.suppress(*STORE_ERRORS):  # who watches it looks now and then, whatever is heard
            await self._nc.publish(task_subject(digest), b"")
        return found

    async def find(self, digest: str) -> Found | None:
        """A task, expired ones too; None: there is none."""
        try:
            entry = await (await self._open()).get(f"task.{digest}")
            return Found(self._task(digest, entry.value or b""), entry.revision or 0)
        except (KeyNotFoundError, ValidationError):
            return None
        except UnreadableError as error:
            log.warning("a task cannot be read: is the seal key the same at all edges?", why=str(error))
            return None

    async def keep_result(self, digest: str, result: bytes) -> None:
        """Put a result, before the task says that there is one."""
        await (await self._open()).put(f"result.{digest}", self._seal.seal(result, f"result.{digest}"))

    async def result(self, digest: str) -> bytes | None:
        """A completed task's result."""
        try:
            kept = (await (await self._open()).get(f"result.{digest}")).value
            return None if kept is None else self._seal.open(kept, f"result.{digest}")
        except KeyNotFoundError:
            return None
        except UnreadableError as error:
            log.warning("a result cannot be read: is the seal key the same at all edges?", why=str(error))
            return None

    async def admit(self, sub: str, digest: str, expires_ms: int, most: int) -> bool:
        """Count a task in for its caller, over all edges; False: the caller has ``most`` already."""
        bucket = await self._open()
        key = f"caller.{task_digest(sub)}"
        for _ in range(_TRIES):
            theirs, revision = await self._theirs(bucket, key)
            await self._forget_expired(bucket, theirs)
            if len(theirs.tasks) >= most:
                return False
            theirs.tasks[digest] = expires_ms
            try:
                await bucket.update(key, theirs.model_dump_json().encode(), last=revision)
            except KeyWrongLastSequenceError:
                await asyncio.sleep(random.random() * 0.01)  # noqa: S311 - jitter
                continue
            return True
        return False

    async def beat(self) -> None:
        """This edge lives."""
        await (await self._open()).put(f"edge.{self._instance}", b"1")

    async def alive(self, instance: str) -> bool:
        """Whether another edge does. Two times of the bus's own clock are compared, so that no other clock counts."""
        theirs, mine = await asyncio.gather(self._beat_of(instance), self._beat_of(self._instance))
        if mine is None:
            return True  # nothing to compare with yet
        return theirs is not None and mine - theirs < DEAD_AFTER_S

    async def _beat_of(self, instance: str) -> float | None:
        try:
            message = await self._js.get_msg(STREAM, subject=f"$KV.{TASKS.name}.edge.{instance}", direct=True)
        except NotFoundError:
            return None
        return message.time.timestamp() if message.time is not None else None

    async def _theirs(self, bucket: KeyValue, key: str) -> tuple[TasksOfCaller, int]:
        try:
            entry = await bucket.get(key)
        except KeyNotFoundError as gone:
            return TasksOfCaller(), getattr(getattr(gone, "entry", None), "revision", None) or 0
        try:
            return TasksOfCaller.model_validate_json(entry.value or b""), entry.revision or 0
        except ValidationError:
            return TasksOfCaller(), entry.revision or 0

    async def _forget_expired(self, bucket: KeyValue, theirs: TasksOfCaller) -> None:
        """Drop what has expired, with its result. A task may be kept longer than was said when it was counted in."""
        late = [digest for digest, expires in theirs.tasks.items() if expires < now_ms()]
        for digest in late[:_FORGET_MAX]:
            found = await self.find(digest)
            if found is not None and not expired(found.task):
                theirs.tasks[digest] = max(now_ms() + 1_000, found.task.created_ms + found.task.ttl_ms)
                continue
            del theirs.tasks[digest]
            await bucket.delete(f"result.{digest}")
            await bucket.delete(f"task.{digest}")

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(TASKS.name)
        return self._bucket

    def _bytes(self, digest: str, task: Task) -> bytes:
        if self._seal.seals:
            hidden = task.model_dump_json(include=_SEALED, exclude_defaults=True).encode()
            sealed = self._seal.seal_text(hidden, f"task.{digest}")
            shown = task.model_dump(exclude={*_SEALED, "sealed"}, exclude_defaults=True)
            task = Task.model_validate({**shown, "sub": "", "sealed": sealed})
        data = task.model_dump_json(exclude_defaults=True).encode()
        if len(data) > BODY_BYTES_MAX:
            raise TooLargeError(f"{len(data)} bytes")
        return data

    def _task(self, digest: str, value: bytes) -> Task:
        task = Task.model_validate_json(value)
        if not task.sealed:
            return task
        hidden = orjson.loads(self._seal.open_text(task.sealed, f"task.{digest}"))
        return Task.model_validate({**task.model_dump(exclude={*_SEALED, "sealed"}), **hidden})
