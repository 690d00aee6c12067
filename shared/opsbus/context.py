"""What a tool's function gets first: who calls, how long there is, and the ways to speak before the result."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from nats.js import JetStreamContext

from opsbus.ask import Answer, Elicit, InputRequired, Question, Root, Roots, Rounds, Sample, Sampled
from opsbus.call import Call
from opsbus.content import ResourceLink
from opsbus.logs import Log
from opsbus.plan import Plan
from opsbus.toolerror import ToolError
from opsbus_contracts import ClientInfo, ErrorCode, Header, Identity, LogMessage, Progress

if TYPE_CHECKING:
    from opsbus.runtime import Runtime

State = TypeVar("State")

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""MCP's log levels, least first."""


class Context(Generic[State]):
    """A call, seen from the tool."""

    def __init__(self, runtime: "Runtime", call: Call, log: Log) -> None:
        self._runtime = runtime
        self._call = call
        self.rounds = Rounds.load(call.request.request_state, call.request.input_responses)
        self.log = log

    @property
    def call_id(self) -> str:
        """One through every stage and attempt of the call."""
        return self._call.id

    @property
    def identity(self) -> Identity:
        """Who is calling, as the edge proved it."""
        return self._call.caller

    @property
    def approval(self) -> str:
        """How the policy wants the call approved: ``none``, ``confirm`` or ``two_person``."""
        return self._call.headers.get(Header.APPROVAL, "confirm")

    @property
    def policy(self) -> str:
        """Digest of the policy in force; empty where no second person is wanted."""
        return self._call.headers.get(Header.POLICY, "")

    @property
    def approver(self) -> str:
        """Who else approved the call, as the record names them; empty: nobody had to, or has yet."""
        return self._call.approver

    @approver.setter
    def approver(self, name: str) -> None:
        self._call.approver = name

    @property
    def client(self) -> ClientInfo:
        """The MCP client, as it declared itself."""
        return self._call.request.client

    @property
    def deadline(self) -> datetime:
        """When the call ends at the latest. UTC."""
        return self._call.deadline

    @property
    def remaining_s(self) -> float:
        """Until the deadline. Seconds."""
        return self._call.remaining_s

    @property
    def state(self) -> State:
        """What the worker's lifespan yielded."""
        return self._runtime.state  # type: ignore[no-any-return]

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream with the service's own grants, for what the kit does not cover."""
        return self._runtime.js

    @property
    def settings(self) -> Any:
        """The worker's settings."""
        return self._runtime.settings

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as the caller gave them, defaults not filled in."""
        return self._call.arguments_of()

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tells how far the call has come; dropped when the client did not ask, or when it does not rise."""
        await self._call.progress(Progress(progress=done, total=total, message=message))

    async def notify(self, level: str, data: Any, logger: str | None = None) -> None:
        """An MCP log message, sent when the client asked for this level or a lesser one.

        Raises:
            ValueError: no MCP log level.
        """
        if level not in LEVELS:
            raise ValueError(f"{level!r} is none of {', '.join(LEVELS)}")
        least = self._call.request.log_level
        if least in LEVELS and LEVELS.index(level) >= LEVELS.index(least):
            await self._call.log(LogMessage(level=level, data=data, logger=logger))

    def client_can(self, capability: str) -> bool:
        """Whether the client declared ``elicitation``, ``sampling`` or ``roots``."""
        return capability in self.client.capabilities

    @overload
    async def ask(self, key: str, question: Elicit[Answer]) -> Answer: ...
    @overload
    async def ask(self, key: str, question: Sample) -> Sampled: ...
    @overload
    async def ask(self, key: str, question: Roots) -> list[Root]: ...
    async def ask(self, key: str, question: Question) -> Any:
        """The answer to one question. See ``ask_all``."""
        return (await self.ask_all({key: question}))[key]

    async def ask_all(self, questions: Mapping[str, Question]) -> dict[str, Any]:
        """The answers to all questions, by key. The function ends here until they are there, then runs from its start.

        Raises:
            ToolError: ``missing_capability`` with ``details.requiredCapabilities``; ``declined`` by the user.
        """
        missing: dict[str, Any] = {q.capability: {} for q in questions.values() if not self.client_can(q.capability)}
        if missing:
            raise ToolError(
                ErrorCode.MISSING_CAPABILITY,
                f"the client cannot do {', '.join(missing)}, which this call needs",
                details={"requiredCapabilities": missing},
            )
        raw = {key: self.rounds.answer(key, question) for key, question in questions.items()}
        open_ones = {key: question for key, question in questions.items() if raw[key] is None}
        if open_ones:
            raise InputRequired(open_ones, self.rounds)
        return {key: question.read(raw[key]) for key, question in questions.items()}

    async def confirm(self, plan: Plan, version: str | None = None, confirm: str | None = None) -> None:
        """Returns only when the plan is confirmed, by whoever can: the user at the client, or a token given before.

        Args:
            plan: What would be done.
            version: Version of the object the plan is about; a confirmation holds for this version alone.
            confirm: The tool's ``confirm`` argument.

        Raises:
            ToolError: ``declined``; ``confirmation_required`` with ``details.plan`` and ``details.confirm``;
                ``precondition_failed`` for a token that does not fit.
        """
        await self._runtime.confirmations.confirm(self, plan, version, confirm)

    async def record_approved(self, details: dict[str, Any]) -> None:
        """Record that the caller confirmed this call. For ``confirm``.

        Raises:
            nats.errors.Error, TimeoutError: not known to be stored.
        """
        await self._runtime.audit.approved(self._call, details)

    @property
    def tool(self) -> str:
        """The tool's name, without the service."""
        return self._call.label

    async def emit(self, kind: str, data: dict[str, Any], subject: str | None = None) -> None:
        """Publishes ``event.<service>.<kind>``; a failure is logged and counted, for what happened did happen."""
        await self._runtime.events.emit(kind, data, subject, self._call)

    async def resource_updated(self, uri: str) -> None:
        """Tells the subscribers of a resource that it changed."""
        await self.emit("resource_updated", {"uri": uri}, subject=uri)

    async def blob(self, data: bytes, mime_type: str, *, name: str = "result") -> ResourceLink:
        """Keeps data too large for a message for a day; the link is for the result's content.

        Raises:
            ToolError: ``unavailable`` when it cannot be stored.
        """
        from opsbus.blobs import store

        return await store(self._runtime, data, mime_type, name)
