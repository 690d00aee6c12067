"""A repeated idempotency key of the same caller and tool returns the first outcome, on any instance."""

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from opsbus.outcome import Outcome
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed, Header, Status
from opsbus_contracts.streams import IDEMPOTENCY

if TYPE_CHECKING:
    from opsbus.call import Call
    from opsbus.logs import Log
    from opsbus.registry import Tool

KEY_CHARS_MAX = 200
GRACE_S = 10.0
"""A record of a running call that is this far past its deadline was left by a worker that died. Seconds."""

_NOT_PART = ("idempotency_key", "confirm")


class Ticket(NamedTuple):
    """The right to run under a key."""

    key: str
    revision: int
    digest: str


def key_of(call: "Call", arguments: dict[str, Any]) -> str | None:
    """The call's idempotency key, of the header or the argument; a dry run has none, for it has no outcome to keep.

    Raises:
        ToolError: ``invalid_arguments`` for an impossible key.
    """
    key = call.headers.get(Header.IDEMPOTENCY_KEY) or arguments.get("idempotency_key")
    if key is None or key == "" or arguments.get("dry_run"):
        return None
    if not isinstance(key, str) or len(key) > KEY_CHARS_MAX or not key.isprintable():
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"an idempotency key is 1 to {KEY_CHARS_MAX} printable characters")
    return key


def arguments_digest(arguments: dict[str, Any]) -> str:
    """Binds to the arguments, but for the key and the confirmation token, which may differ between attempts."""
    kept = {name: value for name, value in arguments.items() if name not in _NOT_PART}
    return sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Idempotency:
    """Records of keys: ``running`` with whose call it is, then ``done`` with the outcome."""

    def __init__(self, js: JetStreamContext, service: str, instance: str, log: "Log") -> None:
        self._js = js
        self._service = service
        self._instance = instance
        self._log = log
        self._bucket: KeyValue | None = None

    async def begin(self, call: "Call", tool: "Tool", key: str) -> Ticket | Outcome:
        """The right to run, or the outcome there is already.

        Raises:
            ToolError: ``conflict``: the key was used with other arguments; ``duplicate_in_progress``;
                ``outcome_unknown``: a worker died in the middle; ``unavailable``: the bucket cannot be reached, nothing
                was executed.
        """
        caller = f"{call.caller.sub}\0{tool.spec.name}\0{key}"
        name = f"{self._service}.{sha256(caller.encode()).hexdigest()[:40]}"
        digest = arguments_digest(call.arguments_of())
        running = {
            "state": "running",
            "digest": digest,
            "call": call.id,
            "instance": self._instance,
            "until": time.time() + call.remaining_s + GRACE_S,
        }
        try:
            bucket = await self._open()
            for _ in range(3):
                try:
                    return Ticket(name, await bucket.create(name, orjson.dumps(running)), digest)
                except KeyWrongLastSequenceError:
                    pass
                try:
                    entry = await bucket.get(name)
                except KeyNotFoundError:
                    continue  # dropped between the two: try again
                taken = self._taken(entry.value or b"", call, tool, digest)
                if taken is not None:
                    return taken
                revision = await bucket.update(name, orjson.dumps(running), last=entry.revision)
                return Ticket(name, revision, digest)
        except KeyWrongLastSequenceError:
            pass  # another instance took it over first
        except (errors.Error, TimeoutError) as error:
            raise ToolError(
                ErrorCode.UNAVAILABLE,
                f"the record of idempotency keys cannot be reached ({type(error).__name__})",
                executed=Executed.NO,
            ) from error
        raise _in_progress()

    def _taken(self, value: bytes, call: "Call", tool: "Tool", digest: str) -> Outcome | None:
        """The outcome of an existing record; None: it was left behind and may be taken over."""
        head, _, body = value.partition(b"\n")
        record = orjson.loads(head)
        if record["digest"] != digest:
            raise ToolError(
                ErrorCode.CONFLICT,
                "this idempotency key was used before with other arguments",
                hint="A new call takes a new key.",
            )
        if record["state"] == "done":
            return Outcome(Status(record["status"]), body, Executed(record["executed"]), record["error"], replayed=True)
        left_behind = record["until"] < time.time() or record["call"] == call.id
        if not left_behind:
            raise _in_progress()
        if tool.repeatable:
            return None
        raise ToolError(
            ErrorCode.OUTCOME_UNKNOWN,
            "the first call with this key was lost on its way: whether it had its effect is not known",
            hint="Read the state, then decide; a new attempt takes a new key.",
            executed=Executed.UNKNOWN,
        )

    async def end(self, ticket: Ticket, outcome: Outcome) -> None:
        """Keeps the outcome; one that had no effect is dropped, so that the key may be tried again."""
        if outcome.executed is Executed.NO:
            await self.drop(ticket)
            return
        record = {
            "state": "done",
            "digest": ticket.digest,
            "status": outcome.status.value,
            "executed": outcome.executed.value,
            "error": outcome.error,
        }
        try:
            bucket = await self._open()
            await bucket.update(ticket.key, orjson.dumps(record) + b"\n" + outcome.body, last=ticket.revision)
        except (errors.Error, TimeoutError) as error:
            # The caller still learns the outcome; a repeat of the key will be told that it is not known.
            self._log.error("idempotency_not_kept", error=str(error))

    async def drop(self, ticket: Ticket) -> None:
        """Frees the key: the call had no effect, or asks the user first."""
        try:
            await (await self._open()).delete(ticket.key, last=ticket.revision)
        except (errors.Error, TimeoutError) as error:
            self._log.error("idempotency_not_dropped", error=str(error))

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(IDEMPOTENCY.name)
        return self._bucket


def _in_progress() -> ToolError:
    return ToolError(
        ErrorCode.DUPLICATE_IN_PROGRESS,
        "a call with this idempotency key is running",
        hint="Wait for it; the key then returns its outcome.",
        executed=Executed.NO,
        retry_after_ms=1000,
    )
